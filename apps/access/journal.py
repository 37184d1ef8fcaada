"""The audit's local file: a line is with the operating system before a token leaves.

Every process appends to a file of its own, `<host>.<pid>.<random>.open`, one `write` a line. An
import takes a file over by renaming it. Writer and importer hold the file's lock (`flock`) while
they do so, and the kernel gives it back when either is killed; after the rename the writer finds
its path gone and opens a new file, so nothing is ever appended to a file being imported.

What a crash of the host can lose: lines younger than SYNC_EVERY_S plus one fsync. A killed
process loses nothing.
"""

import errno
import fcntl
import os
import re
import secrets
import socket
import tempfile
import threading
import time
from pathlib import Path
from typing import Final

import structlog
from django.conf import settings

from apps.common.errors import SystemFailed

SYNC_EVERY_S: Final = 1.0
OPEN_SUFFIX: Final = ".open"
PROBE_BYTES: Final = 4_096  # more than any line

log = structlog.get_logger(__name__)


class AuditUnavailable(SystemFailed):
    """The audit cannot be written, so nothing that must be audited may be done."""

    code = "audit_unavailable"
    status = 503
    default_message = "The audit journal cannot be written."


def host_name() -> str:
    """Return this host's name as it stands in file names."""
    return re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())[:64] or "host"


class Journal:
    """The open journal file of this process; thread-safe, reset in forked children."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Start without a file or thread; what a parent opened stays the parent's."""
        self._lock = threading.Lock()
        self._path: Path | None = None
        self._fd = -1
        self._unsynced = threading.Event()
        self._syncer: threading.Thread | None = None
        self._failure: OSError | None = None

    def after_fork(self) -> None:
        """Close the inherited descriptor: two processes must not share a file's lock."""
        if self._fd >= 0:
            os.close(self._fd)
        self.reset()

    def append(self, line: bytes) -> None:
        """Append one line and return when the operating system has it. Raises AuditUnavailable.

        Also raised once when an earlier line could not be brought to the disk.
        """
        with self._lock:
            failure, self._failure = self._failure, None
            try:
                if failure is not None:
                    raise failure
                self._write(line)
            except OSError as error:
                self._abandon()
                raise AuditUnavailable(retry_after_s=5) from error
            self._unsynced.set()
            self._ensure_syncer()

    def append_held(self, line: bytes) -> bool:
        """Append as `append` does if no lock has to be waited for and no file opened.

        False means that nothing was written: call `append`. Raises AuditUnavailable.
        """
        if not self._lock.acquire(blocking=False):
            return False
        try:
            if self._failure is not None or not self._is_open() or not self._write_now(line):
                return False
            self._unsynced.set()
            self._ensure_syncer()
        except OSError as error:
            self._abandon()
            raise AuditUnavailable(retry_after_s=5) from error
        finally:
            self._lock.release()
        return True

    def close(self) -> None:
        """Bring everything to the disk and let go of the file."""
        with self._lock:
            if self._fd >= 0:
                os.fsync(self._fd)
            self._abandon()

    def _write(self, line: bytes) -> None:
        for _ in range(3):
            self._ensure_file()
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            try:
                if self._is_in_place():
                    self._put(line)
                    return
            finally:
                fcntl.flock(self._fd, fcntl.LOCK_UN)
            self._abandon()
        raise OSError("the journal was taken away three times in a row")

    def _write_now(self, line: bytes) -> bool:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        try:
            if not self._is_in_place():
                return False
            self._put(line)
        finally:
            fcntl.flock(self._fd, fcntl.LOCK_UN)
        return True

    def _put(self, line: bytes) -> None:
        written = os.write(self._fd, line)
        if written != len(line):
            # A full disk. The torn piece stays the last of its file.
            raise OSError(f"{written} of {len(line)} bytes written")

    def _is_in_place(self) -> bool:
        """Say whether the path still leads to the open file, and not to an importer's."""
        if self._path is None:
            return False
        try:
            there = self._path.stat()
        except FileNotFoundError:
            return False
        here = os.fstat(self._fd)
        return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)

    def _is_open(self) -> bool:
        folder = Path(settings.LATCHKEY_AUDIT_DIR)
        return self._fd >= 0 and self._path is not None and self._path.parent == folder

    def _ensure_file(self) -> None:
        if self._is_open():
            return
        self._abandon()
        folder = Path(settings.LATCHKEY_AUDIT_DIR)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        name = f"{host_name()}.{os.getpid()}.{secrets.token_hex(8)}{OPEN_SUFFIX}"
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._fd = os.open(folder / name, flags, 0o600)
        self._path = folder / name
        sync_folder(folder)

    def _abandon(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._path = -1, None

    def _ensure_syncer(self) -> None:
        if self._syncer is None or not self._syncer.is_alive():
            self._syncer = threading.Thread(target=self._sync_for_ever, name="audit", daemon=True)
            self._syncer.start()

    def _sync_for_ever(self) -> None:
        while True:
            self._unsynced.wait()
            time.sleep(SYNC_EVERY_S)
            self._unsynced.clear()
            self.sync()

    def sync(self) -> None:
        """Bring what was written to the disk; a failure is raised by the next append."""
        with self._lock:
            # A descriptor of its own: the file may be given up while fsync runs without the lock.
            fd = os.dup(self._fd) if self._fd >= 0 else -1
        if fd < 0:
            return
        try:
            os.fsync(fd)
        except OSError as error:
            log.exception("audit_sync_failed")
            with self._lock:
                self._failure = error
        finally:
            os.close(fd)


def probe() -> None:
    """Write a page to the journals' folder and drop it. Raises AuditUnavailable.

    Whether a line would be taken is asked of the disk: how the last one went says little once
    somebody has made room, or while nobody asks for a token.
    """
    folder = Path(settings.LATCHKEY_AUDIT_DIR)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            written = file.write(bytes(PROBE_BYTES))
        why = "" if written == PROBE_BYTES else os.strerror(errno.ENOSPC)
    except OSError as error:
        why = error.strerror or type(error).__name__
    if why:
        raise AuditUnavailable(f"The audit journal cannot be written: {why}.")


def sync_folder(folder: Path) -> None:
    """Bring a folder's names to the disk, so that a new or renamed file survives a crash."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


JOURNAL: Final = Journal()
os.register_at_fork(after_in_child=JOURNAL.after_fork)
