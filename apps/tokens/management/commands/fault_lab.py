"""`manage.py fault_lab`: login sites that misbehave on request, for tests and for trying out."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.common.arguments import between
from apps.tokens.faultlab import server
from apps.tokens.faultlab.__main__ import announce

PORT = between(0, 65_535, "a port")


class Command(BaseCommand):
    """Runs the lab in the foreground; needs no database."""

    help = "Serve login sites that misbehave on request and count what is done to them."
    requires_system_checks = []
    requires_migrations_checks = False

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", default=server.DEFAULT_HOST, help="loopback only")
        parser.add_argument("--port", type=PORT, default=server.DEFAULT_PORT, help="0: a free one")
        parser.add_argument("--demo", action="store_true", help="start with the site court_zxfw")

    def handle(self, *args: Any, **options: Any) -> None:
        if not getattr(settings, "LATCHKEY_ALLOW_FAULT_LAB", False):
            raise CommandError("These settings do not allow the fault lab.", returncode=2)
        try:
            server.run(options["host"], options["port"], demo=options["demo"], announce=announce)
        except (server.HostRefused, OSError) as error:
            raise CommandError(str(error), returncode=2) from error
