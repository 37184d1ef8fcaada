"""Bring the audit journals into the database."""

import json
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from apps.access.audit import import_journals


class Command(BaseCommand):
    help = "Import what the processes have written to their audit journals. Safe at any time."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print an object")

    def handle(self, *args: Any, **options: Any) -> None:
        report = asdict(import_journals())
        if options["json"]:
            self.stdout.write(json.dumps(report))
            return
        self.stdout.write(", ".join(f"{name} {value}" for name, value in report.items()))
