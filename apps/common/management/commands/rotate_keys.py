"""`manage.py rotate_keys`: seal every stored secret with the active encryption key."""

from argparse import ArgumentParser
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.progress import Progress

from apps.common.crypto import keyring
from apps.common.rotation import RotationReport, SecretColumn, rotate, secret_columns

FAILURES_SHOWN: Final = 20


class Command(BaseCommand):
    """Exit codes: 0 every row uses the active key (a dry run: could); 1 some do not."""

    help = (
        "Re-encrypt every stored secret with the first key of LATCHKEY_KEYS. Safe while the "
        "service runs, and safe to repeat: rows that use that key already are skipped."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--dry-run", action="store_true", help="open every row, write nothing, and count"
        )

    def handle(self, *args: Any, dry_run: bool, **options: Any) -> None:
        reports = [
            self._rotate(column, dry_run=dry_run, quiet=options["verbosity"] == 0)
            for column in secret_columns()
        ]
        if options["verbosity"] > 0:
            for report in reports:
                self._tell(report, dry_run=dry_run)
        failed = sum(len(report.failed) for report in reports)
        if failed:
            raise CommandError(f"{failed} rows cannot be opened; keep every key.", returncode=1)
        in_use = sum((report.keys for report in reports), Counter[str]())
        old = sum(in_use.values()) - in_use[keyring().active]
        if old and not dry_run:
            raise CommandError(
                f"{old} rows were written with an old key meanwhile: restart every process with "
                "the present LATCHKEY_KEYS, then run this again.",
                returncode=1,
            )
        self.stdout.write(_advice(in_use, dry_run=dry_run))

    def _rotate(self, column: SecretColumn, *, dry_run: bool, quiet: bool) -> RotationReport:
        with self._progress(column, quiet=quiet) as advance:
            return rotate(column, dry_run=dry_run, advance=advance)

    @contextmanager
    def _progress(self, column: SecretColumn, *, quiet: bool) -> Iterator[Callable[[int], None]]:
        """A bar on a terminal, a plain line for every batch elsewhere, nothing if quiet."""
        total = column.rows().count()
        if quiet:
            yield lambda rows: None
        elif self.stdout.isatty():
            with Progress(console=Console()) as bar:
                task = bar.add_task(column.label, total=total)
                yield lambda rows: bar.advance(task, rows)
        else:
            seen = 0

            def line(rows: int) -> None:
                nonlocal seen
                seen += rows
                self.stdout.write(f"{column.label}: {seen} of {total}")

            yield line

    def _tell(self, report: RotationReport, *, dry_run: bool) -> None:
        verb = "to rotate" if dry_run else "rotated"
        self.stdout.write(
            f"{report.label}: {report.seen} rows, {report.rotated} {verb}, "
            f"{report.changed_meanwhile} changed meanwhile, {len(report.failed)} failed"
        )
        for pk, reason in list(report.failed.items())[:FAILURES_SHOWN]:
            self.stderr.write(f"  {report.label} pk={pk}: {reason}")
        if len(report.failed) > FAILURES_SHOWN:
            self.stderr.write(f"  and {len(report.failed) - FAILURES_SHOWN} more")


def _advice(in_use: Counter[str], *, dry_run: bool) -> str:
    """Say which keys seal something now, and what that means for LATCHKEY_KEYS."""
    ring = keyring()
    unused = [name for name in ring.keys if name != ring.active and not in_use[name]]
    used = ", ".join(f"{name} ({rows} rows)" for name, rows in sorted(in_use.items()))
    lines = [f"Keys in use: {used or 'none'}. Active: {ring.active}."]
    if unused and not dry_run:
        lines.append(
            f"No row needs {', '.join(unused)} any more. Once every process runs with the "
            "present LATCHKEY_KEYS and the shared cache has expired, it may be removed; keep a "
            "copy as long as you keep backups made before now."
        )
    return "\n".join(lines)
