"""`manage.py history_rollup [--budget-s N]`."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from apps.common.arguments import between
from apps.history import services

SECONDS = between(0.0, 86_400.0, "a number of seconds")


class Command(BaseCommand):
    help = "Add up closed days so that statistics are fast; and make coming partitions."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--budget-s", type=SECONDS, default=600.0, help="stop after so long")

    def handle(self, *args: Any, **options: Any) -> None:
        done = services.roll_up(budget_s=options["budget_s"])
        self.stdout.write(f"Added up {done} days and months.")
