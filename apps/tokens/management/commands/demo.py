"""Register the demonstration site of the fault lab."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.tokens.faultlab.recipes import allowed_hosts, json_recipe
from apps.tokens.models import Account, Site, StoredToken
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
        recipe = json_recipe(url, SITE)
        site = Site.objects.filter(slug=SITE).first()
        if site is None:
            hosts = list(allowed_hosts(url))
            name = "Court filing portal (demonstration)"
            site = Site(
                slug=SITE, name=name, connector="http_recipe", recipe=recipe, allowed_hosts=hosts
            )
            sites.save(site)
        elif site.recipe != recipe:
            self.stdout.write(f"Site {SITE} is not the demonstration any more; it stays as it is.")
            return
        account = Account.objects.filter(site=site, username=USERNAME).first()
        if account is None:
            accounts.create(Account(site=site, username=USERNAME), {"password": PASSWORD})
        # A fault lab that has just begun knows no session of an earlier one.
        for token in StoredToken.objects.filter(account__site=site, revoked_at=None):
            accounts.revoke(token, reason="lab restarted")
        self.stdout.write(f"Site {SITE} with account {USERNAME} is registered.")
