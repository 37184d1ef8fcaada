"""What a new installation on one machine needs before its processes start; repeatable."""

import io
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

import django
from django.conf import settings

ADMIN = "admin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """How to get in. `password` is None where the administrator was there before."""

    folder: Path
    password: str | None = field(repr=False)
    api_key: str = field(repr=False)


def prepare() -> Prepared:
    """Bring the database and the static files up to date; make an administrator and a key."""
    django.setup()
    from django.core.management import call_command
    from django.db import connections

    folder = Path(settings.DATA_DIR)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    call_command("migrate", interactive=False, verbosity=0)
    call_command("collectstatic", interactive=False, verbosity=0)
    password = _administrator(folder / "admin-password")
    api_key = _api_key(folder / "api-key")
    connections.close_all()
    return Prepared(folder=folder, password=password, api_key=api_key)


def _administrator(file: Path) -> str | None:
    from django.contrib.auth.models import User

    if User.objects.filter(username=ADMIN).exists():
        return None
    password = secrets.token_urlsafe(12)
    _write_private(file, password)
    User.objects.create_superuser(ADMIN, password=password)
    return password


def _api_key(file: Path) -> str:
    """Return the key in `file`, or a new one where the database does not know it."""
    from django.core.management import call_command

    from apps.access import services
    from apps.common.errors import NotAuthenticated

    try:
        known = file.read_text(encoding="utf-8").strip()
        services.authenticate(known)
    except (FileNotFoundError, NotAuthenticated):
        output = io.StringIO()
        wanted = ["local", "--user", ADMIN, "--site", "*", "--scopes", "all"]
        call_command("issue_key", *wanted, stdout=output)
        known = output.getvalue().strip()
        _write_private(file, known)
    return known


def _write_private(file: Path, text: str) -> None:
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    draft.touch(mode=0o600)
    draft.write_text(text + "\n", encoding="utf-8")
    draft.replace(file)
