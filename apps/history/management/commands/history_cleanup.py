"""`manage.py history_cleanup --days N [--dry-run] [--archive-to DIR]`."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from apps.common.arguments import folder
from apps.common.errors import BrokerError
from apps.history import services
from apps.history.contracts import CleanupProgress


class Command(BaseCommand):
    help = "Delete records of the history that are older than some days; safe while logins run."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--days", type=int, default=30, help="keep so many days (default 30)")
        parser.add_argument("--dry-run", action="store_true", help="count only")
        parser.add_argument(
            "--archive-to",
            type=folder,
            metavar="DIR",
            help="write the records there first",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            report = services.cleanup(
                options["days"],
                dry_run=options["dry_run"],
                archive_to=options["archive_to"],
                on_progress=Progress(self) if options["verbosity"] else None,
            )
        except (BrokerError, DatabaseError, OSError) as error:
            raise CommandError(str(error)) from error
        if report.dry_run:
            self.stdout.write(f"{report.matched} records would be deleted.")
            return
        self.stdout.write(
            f"Deleted {report.deleted} records in {report.took_s:.1f} s; "
            f"dropped {len(report.partitions_dropped)} partitions."
        )
        if report.archived:
            self.stdout.write(f"Archived them to {report.archive}.")


class Progress:
    """Writes a line for each tenth of the way."""

    def __init__(self, command: BaseCommand) -> None:
        self.command = command
        self.shown = 0

    def __call__(self, progress: CleanupProgress) -> None:
        tenths = progress.done * 10 // max(progress.total, 1)
        if tenths > self.shown:
            self.shown = tenths
            self.command.stdout.write(f"{progress.done} of {progress.total}")
            self.command.stdout.flush()
