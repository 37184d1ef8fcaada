"""The Python environment that the login servers run in: apart from ours, from hashed pins."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NoReturn

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
ENVIRONMENT: Final = ROOT / ".venv-loginservers"
REQUIREMENTS: Final = ROOT / "requirements" / "loginservers.txt"
INSTALL_LIMIT_S: Final = 300
# How uv says that it could not reach an index.
_NO_NETWORK: Final = ("error sending request", "dns error", "timed out", "could not connect")


def python() -> Path:
    """Return the interpreter of the environment, making or updating it where needed.

    Without uv or without a network the tests are skipped with the reason; where CI is set they
    fail instead, because a skipped promise is not a kept one.
    """
    interpreter = ENVIRONMENT / "bin" / "python"
    with _one_at_a_time():
        if not _is_current(interpreter):
            _build(interpreter)
    return interpreter


def program(name: str) -> Path:
    """Return the path of a command installed in the environment."""
    return ENVIRONMENT / "bin" / name


def _is_current(interpreter: Path) -> bool:
    stamp = _stamp()
    return interpreter.exists() and stamp.exists() and stamp.read_text() == _wanted()


def _build(interpreter: Path) -> None:
    uv = _uv()
    if uv is None:
        _give_up("uv is not installed, neither as .tools/bin/uv nor on the PATH")
    if not interpreter.exists():
        _run(uv, "venv", "--quiet", "--python", sys.executable, str(ENVIRONMENT))
    _run(
        uv,
        "pip",
        "sync",
        "--quiet",
        "--require-hashes",
        "--compile-bytecode",  # else the first start of each server pays for it
        "--python",
        str(interpreter),
        str(REQUIREMENTS),
    )
    _stamp().write_text(_wanted())


def _run(*command: str) -> None:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=INSTALL_LIMIT_S, check=False
    )
    if done.returncode == 0:
        return
    told = done.stderr.strip()[-800:]
    if any(sign in told.lower() for sign in _NO_NETWORK):
        _give_up(f"the packages cannot be downloaded: {told}")
    pytest.fail(f"{' '.join(command[:3])} failed: {told}", pytrace=False)


def _give_up(reason: str) -> NoReturn:
    message = f"No environment for the login servers: {reason}."
    if os.environ.get("CI"):
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


def _uv() -> str | None:
    own = ROOT / ".tools" / "bin" / "uv"
    return str(own) if own.exists() else shutil.which("uv")


def _stamp() -> Path:
    return ENVIRONMENT / ".requirements-sha256"


def _wanted() -> str:
    return hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    # Several test processes may want the environment at once; one builds, the others wait.
    name = hashlib.sha256(str(ENVIRONMENT).encode()).hexdigest()[:12]
    with (Path(tempfile.gettempdir()) / f"latchkey-{os.getuid()}-{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
