"""Revoke an API key at the command line."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.access.models import ApiKey
from apps.access.services import revoke_key


class Command(BaseCommand):
    help = "Revoke an API key for good. Running processes follow within 5 seconds."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("prefix", help="the 8 characters after `lk_`")

    def handle(self, *args: Any, **options: Any) -> None:
        prefix = options["prefix"].removeprefix("lk_").partition("_")[0]
        key = ApiKey.objects.filter(prefix=prefix).first()
        if key is None:
            raise CommandError(f"There is no key with the prefix {prefix}.")
        changed = revoke_key(key, by=None)
        self.stdout.write(f"{key}: {'revoked' if changed else 'was revoked before'}")
