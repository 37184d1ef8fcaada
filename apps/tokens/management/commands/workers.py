"""Run this host's workers."""

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from apps.common.arguments import between
from apps.tokens.services.supervisor import Supervisor

SECONDS = between(0.0, 86_400.0, "a number of seconds")


class Command(BaseCommand):
    help = (
        "Start the clusters that log in, keep them running, and repair what dies. "
        "Ends on Ctrl-C or SIGTERM, after the logins that are running."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--grace",
            type=SECONDS,
            default=130.0,
            help="seconds that running logins are given when stopping (default: 130)",
        )

    def handle(self, **options: Any) -> None:
        Supervisor(say=self._say, grace_s=options["grace"]).run()

    def _say(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()
