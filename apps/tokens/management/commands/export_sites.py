"""Write sites and accounts as YAML."""

import os
import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.access import audit
from apps.access.contracts import AuditKind, AuditRecord
from apps.common.errors import ValidationFailed
from apps.tokens.services import site_files


class Command(BaseCommand):
    help = "Write sites and accounts as YAML. Secrets only with --with-secrets, which is audited."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("slugs", nargs="*", help="only these sites")
        parser.add_argument("--output", help="a file, readable by its owner only; else the screen")
        parser.add_argument("--with-secrets", action="store_true", help="passwords in plain text")

    def handle(self, **options: Any) -> None:
        if options["with_secrets"]:
            if not options["output"] and sys.stdout.isatty():
                raise CommandError("Secrets do not go to a terminal: give --output FILE.")
            _audit(options["slugs"])
        try:
            text = site_files.dump(slugs=options["slugs"], with_secrets=options["with_secrets"])
        except ValidationFailed as error:
            raise CommandError(error.message) from error
        if not options["output"]:
            self.stdout.write(text, ending="")
            return
        path = Path(options["output"])
        try:
            # Private from the first byte on, also where the file exists with a wider mode.
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
                os.fchmod(out.fileno(), 0o600)
                out.write(text)
        except OSError as error:
            raise CommandError(f"The file cannot be written: {error}") from error
        self.stdout.write(f"Written to {path}.")


def _audit(slugs: list[str]) -> None:
    audit.record(
        AuditRecord(
            kind=AuditKind.EXPORT,
            principal_kind="user",
            principal_id="command-line",
            principal_name="command line",
            details={"sites": slugs or "all", "with_secrets": True},
        )
    )
