"""The id of the request being served, for logs and answers.

Works in threads and in coroutines alike: each has its own context.
"""

import random
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

# What callers may choose themselves: long enough for any trace id, nothing that breaks a log line.
SAFE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{7,63}", re.ASCII)

_request_id: ContextVar[str] = ContextVar("request_id", default="")


def new_id() -> uuid.UUID:
    """Return a new UUID as `uuid4` makes them, for names only: it could be guessed.

    Without asking the operating system, which lets go of the interpreter each time.
    """
    return uuid.UUID(int=random.getrandbits(128), version=4)


def current_request_id() -> str:
    """Return the id of the present request, or an empty string outside of one."""
    return _request_id.get()


def safe_request_id(candidate: str | None) -> str:
    """Return the caller's id if it is harmless (8 to 64 of `A-Za-z0-9._-`), else a new one."""
    return candidate if candidate and SAFE.fullmatch(candidate) else new_id().hex


@contextmanager
def bind(request_id: str | None) -> Iterator[str]:
    """Work under this request id, or under a new one where it is missing or unsafe; yields it."""
    accepted = safe_request_id(request_id)
    token = _request_id.set(accepted)
    try:
        yield accepted
    finally:
        _request_id.reset(token)
