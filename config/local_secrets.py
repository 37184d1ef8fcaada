"""Makes the secrets of an embedded installation once, in its data folder.

Production never calls this: there every secret must be given.
"""

import base64
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Final

_MAKERS: Final[dict[str, Callable[[], str]]] = {
    "LATCHKEY_SECRET_KEY": lambda: secrets.token_urlsafe(48),
    "LATCHKEY_KEYS": lambda: "k1:" + base64.b64encode(secrets.token_bytes(32)).decode(),
    "LATCHKEY_FINGERPRINT_KEY": lambda: secrets.token_urlsafe(32),
}


def provide(folder: Path) -> None:
    """Set the secrets that the environment lacks, from `folder/secrets/`, creating them once."""
    for name, make in _MAKERS.items():
        if name not in os.environ and f"{name}_FILE" not in os.environ:
            os.environ[f"{name}_FILE"] = str(_once(folder / "secrets" / name.lower(), make))


def _once(path: Path, make: Callable[[], str]) -> Path:
    """Write a new value unless the file is there; two processes starting together agree on one."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if path.exists():
        return path
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.touch(mode=0o600)
    try:
        with draft.open("w", encoding="utf-8") as file:
            file.write(make())
            file.flush()
            os.fsync(file.fileno())  # rows sealed with this key must never outlive it
        os.link(draft, path)  # atomic, and fails if another process was first
    except FileExistsError:
        pass
    finally:
        draft.unlink()
    return path
