"""Exceptions that nobody caught go through the log, and so through its redaction."""

import logging
import sys
import threading
from types import TracebackType

log = logging.getLogger("latchkey.uncaught")


def log_uncaught() -> None:
    """Send uncaught exceptions of this process and its threads, and warnings, to the log."""
    sys.excepthook = _in_main_thread
    threading.excepthook = _in_thread
    logging.captureWarnings(True)


def _in_main_thread(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    log.critical("uncaught_exception", exc_info=(kind, error, traceback))


def _in_thread(args: threading.ExceptHookArgs) -> None:
    if issubclass(args.exc_type, SystemExit) or args.exc_value is None:
        return
    log.critical(
        "uncaught_exception_in_thread", exc_info=(args.exc_type, args.exc_value, args.exc_traceback)
    )
