"""Prometheus's own checker of metrics and rules, from Debian's package, not installed."""

import fcntl
import os
import shutil
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

TOOLS: Final = Path(__file__).parents[1] / ".tools"
DOWNLOAD_TIMEOUT_S: Final = 60


def find() -> str | None:
    """Return the path of promtool; None where it is not to be had.

    The one that PROMTOOL names or that is installed, else one unpacked into .tools, once: that
    needs apt and its lists, and no rights.
    """
    known = os.environ.get("PROMTOOL") or shutil.which("promtool")
    if known or not shutil.which("apt-get") or not shutil.which("dpkg"):
        return known
    TOOLS.mkdir(exist_ok=True)
    program = TOOLS / "promtool"
    with (TOOLS / "promtool.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            with suppress(OSError, subprocess.SubprocessError):
                _unpack(program)
    return str(program) if program.exists() else None


def _unpack(program: Path) -> None:
    with tempfile.TemporaryDirectory(dir=TOOLS) as name:
        folder = Path(name)
        _run(["apt-get", "-qq", "download", "prometheus"], folder)
        for package in folder.glob("*.deb"):
            _run(["dpkg", "-x", package.name, "."], folder)
        (folder / "usr/bin/promtool").replace(program)


def _run(command: list[str], folder: Path) -> None:
    subprocess.run(
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
        timeout=DOWNLOAD_TIMEOUT_S,
    )
