"""A lab in a process of its own, for tests, benchmarks and whoever else starts one."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

ROOT: Final = Path(__file__).parents[3]
STOP_TIMEOUT_S: Final = 5


class LabFailed(Exception):
    """The lab ended before it answered; what it said went to standard error."""


class LabProcess:
    """A running lab on a free port of loopback, with its `url`; a context manager.

    `arguments` go to the lab (`--demo`), `env` is added to its environment. Raises LabFailed.
    """

    def __init__(self, *arguments: str, env: Mapping[str, str] | None = None) -> None:
        self.process = subprocess.Popen(  # noqa: S603  # our own module, no shell
            [sys.executable, "-m", "apps.tokens.faultlab", "--port", "0", *arguments],
            cwd=ROOT,
            # The settings of whoever starts it are not the lab's; it would check their name.
            env={**os.environ, "DJANGO_SETTINGS_MODULE": "", **(env or {})},
            stdout=subprocess.PIPE,
            text=True,
        )
        # The first line comes once the lab answers; an empty one means that it has ended.
        first = self.process.stdout.readline() if self.process.stdout else ""
        if not first:
            raise LabFailed(f"The fault lab ended with code {self.stop()}.")
        self.url: str = json.loads(first)["url"]

    def stop(self) -> int:
        """End the process and return its exit code; a second call returns the same."""
        self.process.terminate()
        try:
            return self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()
        finally:
            if self.process.stdout is not None:
                self.process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
