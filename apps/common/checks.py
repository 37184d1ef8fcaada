"""System checks: what must be right before the service starts."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from django.apps.config import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, register
from django.core.exceptions import ImproperlyConfigured

from apps.common.crypto import Keyring


@register(Tags.security)
def keys_can_be_read(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """LATCHKEY_KEYS must parse; common.E001."""
    try:
        Keyring.parse(settings.LATCHKEY_KEYS)
    except ImproperlyConfigured as error:
        return [Error(str(error), id="common.E001")]
    return []


@register(Tags.files)
def folders_can_be_written(
    app_configs: Sequence[AppConfig] | None, **kwargs: Any
) -> list[CheckMessage]:
    """The data folder (common.E002) and the folder of a SQLite file (common.E003).

    Both are made where they are missing.
    """
    wanted = {"common.E002": Path(settings.DATA_DIR)}
    database = settings.DATABASES["default"]
    name = str(database["NAME"])
    # An in-memory database, plain or as a URI, has no folder.
    if database["ENGINE"].endswith("sqlite3") and not name.startswith((":memory:", "file:")):
        wanted["common.E003"] = Path(name).absolute().parent
    return [
        Error(problem, id=check_id)
        for check_id, folder in wanted.items()
        if (problem := _unwritable(folder))
    ]


def _unwritable(folder: Path) -> str:
    """Make the folder, private to this user; return why it cannot be used, or nothing."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        return f"{folder} cannot be made: {error.strerror}."
    return "" if os.access(folder, os.W_OK | os.X_OK) else f"{folder} is not writable."
