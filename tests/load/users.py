"""Locust as a process of its own, and what it and the service use of the processors."""

import os
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil

from config.children import KEEPER
from tests.load.judge import Sample, read

ROOT: Final = Path(__file__).resolve().parents[2]
LOCUSTFILE: Final = Path(__file__).with_name("locustfile.py")
STARTING_S: Final = 30.0
LAST_ANSWER_S: Final = 70.0


class UsersFailed(RuntimeError):
    """Locust ended without a sample; the message has the end of its log."""


@dataclass(slots=True)
class Users:
    """Runs users of the locustfile against a service; `used` says what the last ones cost.

    `folder` holds `facts.json`, and takes what Locust writes.
    """

    url: str
    folder: Path
    used: dict[str, float] = field(default_factory=dict)

    def act(
        self,
        who: str,
        count: int,
        *,
        seconds: float,
        skip_s: float = 0.0,
        beat_s: float = 1.0,
        enough: int = 0,
    ) -> list[Sample]:
        """Return what `count` users did in `seconds`, after the `skip_s` in which they arrived.

        They stop earlier when they have made `enough` requests.
        """
        samples = self.folder / "samples.jsonl"
        samples.unlink(missing_ok=True)
        keeper = [sys.executable, "-S", "-E", str(KEEPER), "--parent", str(os.getpid()), "--"]
        told: dict[str, object] = {"FACTS": self.folder / "facts.json", "SAMPLES": samples}
        told |= {"BEAT_S": beat_s, "ENOUGH": enough}
        before = Cores.now()
        with (self.folder / "locust.log").open("ab") as output:
            process = subprocess.Popen(
                [*keeper, *self._command(who, count, seconds=seconds, skip_s=skip_s)],
                cwd=ROOT,
                env=self._environment() | {f"LOAD_{name}": str(it) for name, it in told.items()},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                process.wait(timeout=seconds + skip_s + LAST_ANSWER_S + STARTING_S)
            finally:
                process.terminate()
                process.wait()
        self.used = before.until_now()
        if not samples.exists():
            raise UsersFailed(f"The users did not act: {self._said()}")
        return read(samples, skip_s=skip_s)

    def _command(self, who: str, count: int, *, seconds: float, skip_s: float) -> list[str]:
        # Those who act together arrive together; the others one after the other.
        rate = count / skip_s if who == "Mixed" and skip_s else count
        command = [sys.executable, "-m", "locust", "--locustfile", str(LOCUSTFILE), who]
        command += ["--headless", "--host", self.url, "--users", str(count)]
        command += ["--spawn-rate", str(rate), "--run-time", f"{seconds + skip_s:.0f}s"]
        command += ["--stop-timeout", f"{LAST_ANSWER_S:.0f}", "--exit-code-on-error", "0"]
        return [*command, "--loglevel", "WARNING", "--only-summary"]

    def _environment(self) -> dict[str, str]:
        path = os.environ.get("PATH", "")
        return {"PATH": path, "PYTHONPATH": str(ROOT), "HOME": str(self.folder)}

    def _said(self) -> str:
        return (self.folder / "locust.log").read_text(errors="replace")[-2000:]


@dataclass(frozen=True, slots=True)
class Cores:
    """How many seconds of processor time were used: by this process and all below it, by all."""

    at: float
    ours: float
    all: float

    @classmethod
    def now(cls) -> "Cores":
        whole = psutil.cpu_times()
        ours = 0.0
        me = psutil.Process()
        for process in [me, *me.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                ours += sum(process.cpu_times()[:4])  # with those of children that ended
        busy = sum(whole) - whole.idle - getattr(whole, "iowait", 0.0)
        busy -= getattr(whole, "guest", 0.0) + getattr(whole, "guest_nice", 0.0)
        return cls(time.monotonic(), ours, busy)

    def until_now(self) -> dict[str, float]:
        now = Cores.now()
        passed_s, ours = now.at - self.at, now.ours - self.ours
        others = max(0.0, now.all - self.all - ours)
        return {"ours_cores": ours / passed_s, "others_cores": others / passed_s}
