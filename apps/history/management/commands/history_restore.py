"""`manage.py history_restore FILE…`."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from apps.common.errors import BrokerError
from apps.history import services

CUT = (
    "the last chunk is cut off, as a crash leaves it. Its rows had not been deleted then. "
    "If this file is a copy, see that it is as long as the original: one cut short lacks more."
)


class Command(BaseCommand):
    help = (
        "Bring archived records back; those that are there already stay as they are. "
        "The next clean-up takes away again what is older than its days."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("files", nargs="+", type=Path, metavar="FILE")

    def handle(self, *args: Any, **options: Any) -> None:
        for path in options["files"]:
            try:
                report = services.restore(path)
            except (BrokerError, DatabaseError, OSError) as error:
                raise CommandError(f"{path}: {error}") from error
            self.stdout.write(
                f"{path}: restored {report.restored} of {report.read}, "
                f"{report.present} were there already."
            )
            if report.cut:
                self.stdout.write(f"{path}: {CUT}")
