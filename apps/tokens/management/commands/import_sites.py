"""Register sites and accounts from a YAML file."""

import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.tokens.services import site_files


class Command(BaseCommand):
    help = (
        "Make and change sites and accounts as a YAML file says, whole or not at all. "
        "Accounts without `secrets` in the file keep theirs."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", help="path of the YAML file, or - for standard input")
        parser.add_argument("--dry-run", action="store_true", help="check and count only")

    def handle(self, **options: Any) -> None:
        try:
            text = _read(options["file"])
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(f"The file cannot be read: {error}") from error
        try:
            applied = site_files.apply(text, dry_run=options["dry_run"])
        except site_files.InvalidSiteFile as error:
            lines = [
                f"line {fault['line']}: {fault['path']}: {fault['reason']}"
                for fault in error.details["errors"]
            ]
            raise CommandError("Nothing was changed.\n" + "\n".join(lines)) from error
        would = "would be " if options["dry_run"] else ""
        self.stdout.write(
            f"{applied.created} {would}created, {applied.updated} {would}changed, "
            f"{applied.unchanged} as they were."
        )


def _read(name: str) -> str:
    if name == "-":
        return sys.stdin.buffer.read().decode("utf-8")
    return Path(name).read_text(encoding="utf-8")
