"""Make an API key at the command line."""

import json
from datetime import timedelta
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.access.contracts import Grant, Scope
from apps.access.services import issue_key
from apps.common import clock
from apps.common.arguments import between
from apps.common.errors import BrokerError

ALL = "all"
DAYS = between(0.0, 36_500.0, "a number of days")
RATE = between(1, 1_000_000, "requests a minute")


class Command(BaseCommand):
    help = "Issue an API key and print it. It cannot be printed again."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="what the key is for")
        parser.add_argument("--user", required=True, help="username of the key's user")
        parser.add_argument(
            "--create-user", action="store_true", help="make the user if there is none"
        )
        parser.add_argument(
            "--scopes",
            nargs="+",
            default=[Scope.TOKENS_READ.value],
            metavar="SCOPE",
            help=f"default {Scope.TOKENS_READ}; `{ALL}` or any of: {', '.join(Scope)}",
        )
        parser.add_argument(
            "--site",
            action="append",
            default=[],
            metavar="SITE[,ACCOUNT[,LABEL]]",
            help="a grant, may be repeated; * is every site",
        )
        parser.add_argument("--expires-days", type=DAYS, metavar="N")
        parser.add_argument("--rate-limit", type=RATE, metavar="N", help="requests a minute")
        parser.add_argument("--json", action="store_true", help="print an object")

    def handle(self, *args: Any, **options: Any) -> None:
        days = options["expires_days"]
        scopes = [scope for text in options["scopes"] for scope in text.split(",")]
        try:
            key, raw = issue_key(
                user_id=_user_id(options["user"], create=options["create_user"]),
                name=options["name"],
                scopes=list(Scope) if scopes == [ALL] else scopes,
                grants=[Grant.parse(text) for text in options["site"]],
                expires_at=None if days is None else clock.now() + timedelta(days=days),
                rate_limit_per_minute=options["rate_limit"],
                issuer=None,
            )
        except BrokerError as error:
            raise CommandError(f"{error.message} {error.details or ''}".strip()) from error
        if options["json"]:
            self.stdout.write(json.dumps({"id": str(key.pk), "prefix": key.prefix, "key": raw}))
        else:
            self.stdout.write(raw)


def _user_id(username: str, *, create: bool) -> int:
    users = get_user_model().objects
    user = users.filter(username=username).first()
    if user is None and create:
        user = users.create_user(username)
    if user is None:
        raise CommandError(f"There is no user {username}; --create-user makes one.")
    return int(user.pk)
