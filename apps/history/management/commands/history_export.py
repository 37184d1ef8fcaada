"""`manage.py history_export [--format csv|jsonl] [--output FILE] [filters]`."""

import os
from argparse import ArgumentParser
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from apps.history.contracts import HistoryStatus
from apps.history.export import FORMATS, lines
from apps.history.models import TokenAcquisitionHistory


class Command(BaseCommand):
    help = "Write the history as CSV or JSON lines, newest first."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--format", choices=sorted(FORMATS), default="csv")
        parser.add_argument("--output", type=Path, help="a new file; else standard output")
        parser.add_argument("--site", default="")
        parser.add_argument("--account", default="")
        parser.add_argument("--status", choices=[status.value for status in HistoryStatus])
        parser.add_argument("--since", type=_time, help="finished at this time or later (ISO 8601)")
        parser.add_argument("--until", type=_time, help="finished before this time (ISO 8601)")

    def handle(self, *args: Any, **options: Any) -> None:
        records = TokenAcquisitionHistory.objects.of(
            site=options["site"], account=options["account"]
        )
        if options["status"]:
            records = records.filter(status=options["status"])
        if options["since"]:
            records = records.filter(finished_at__gte=options["since"])
        if options["until"]:
            records = records.finished_before(options["until"])
        pieces = lines(records, options["format"])
        if options["output"] is None:
            for piece in pieces:
                self.stdout.write(piece.decode(), ending="")
            return
        try:
            opened = os.open(options["output"], os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            raise CommandError(str(error)) from error
        with os.fdopen(opened, "wb") as file:
            file.writelines(pieces)


def _time(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    return at if at.tzinfo else at.replace(tzinfo=UTC)
