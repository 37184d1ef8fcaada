"""Register the demonstration site of the fault lab."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.tokens.faultlab.recipes import allowed_hosts, json_recipe
from apps.tokens.models import Account, Site
from apps.tokens.services import accounts, sites

SITE = "court_zxfw"
USERNAME = "demo"
PASSWORD = "correct-horse"  # noqa: S105 - the fault lab's, documented there


class Command(BaseCommand):
    help = "Register the demonstration site court_zxfw (a fault lab) with its account demo."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--lab", default="http://127.0.0.1:8901", help="the fault lab's URL")

    def handle(self, **options: Any) -> None:
        if not settings.LATCHKEY_ALLOW_FAULT_LAB:
            raise CommandError("The demonstration site is not for production settings.")
        url = options["lab"].rstrip("/")
        site = Site.objects.filter(slug=SITE).first() or Site(slug=SITE)
        site.name = "Court filing portal (demonstration)"
        site.connector = "http_recipe"
        site.recipe = json_recipe(url, SITE)
        site.allowed_hosts = list(allowed_hosts(url))
        sites.save(site)
        account = Account.objects.filter(site=site, username=USERNAME).first()
        if account is None:
            accounts.create(Account(site=site, username=USERNAME), {"password": PASSWORD})
        self.stdout.write(f"Site {SITE} with account {USERNAME} is registered.")
