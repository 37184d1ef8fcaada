"""Run one command and end it, with all it started, when whoever asked for it is gone.

A process that is killed cannot clean up after itself. This one stands between it and a server:
it watches its parent, and on the parent's death, on SIGTERM, or when the command ends by itself
it ends the command's process group and removes the given folder. Standard library only.

    python keeper.py --parent PID [--user UID] [--stop SIGNAL] [--grace S] [--remove DIR] -- command
"""

import argparse
import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
from types import FrameType

POLL_S = 0.1
PR_SET_PDEATHSIG = 1


def main() -> int:
    """Return the exit code of the command; 0 if it was this process that ended it."""
    options = _options()
    stops: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        stops.append(number)

    signal.signal(signal.SIGTERM, note)
    signal.signal(signal.SIGINT, note)
    child = subprocess.Popen(  # noqa: S603  # the command is the one our caller wrote
        options.command,
        process_group=0,
        user=options.user,
        group=options.user,
        extra_groups=None if options.user is None else [],
        preexec_fn=_end_with_me,  # noqa: PLW1509 - this process has one thread
    )
    try:
        while not stops and os.getppid() == options.parent:
            if (code := _wait(child, POLL_S)) is not None:
                return code if code >= 0 else 128 - code  # as a shell says it
        child.send_signal(options.stop)
        waited_s = 0.0
        # A second signal means: at once.
        while _wait(child, POLL_S) is None and waited_s < options.grace and len(stops) < 2:
            waited_s += POLL_S
        return 0
    finally:
        _kill_group(child.pid)
        child.wait()
        if options.remove:
            shutil.rmtree(options.remove, ignore_errors=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Run a command for as long as the parent lives.")
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--user", type=int)
    parser.add_argument("--stop", type=int, default=int(signal.SIGTERM))
    parser.add_argument("--grace", type=float, default=10.0, help="seconds between stop and kill")
    parser.add_argument("--remove")
    parser.add_argument("command", nargs="+")
    return parser.parse_args()


def _end_with_me() -> None:
    """Have the kernel end the command if this process is killed (Linux; harmless elsewhere)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _wait(child: subprocess.Popen[bytes], timeout_s: float) -> int | None:
    try:
        return child.wait(timeout_s)
    except subprocess.TimeoutExpired:
        return None


def _kill_group(group: int) -> None:
    """End what the command left behind; the group outlives its leader while it has members."""
    try:
        os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


if __name__ == "__main__":
    sys.exit(main())
