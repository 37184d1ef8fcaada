"""Acquire a token from the command line."""

import json
import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.access.contracts import ANY_SITE, Grant, Principal, Scope
from apps.common.arguments import between
from apps.common.errors import BrokerError
from apps.tokens.models import TokenRequest
from apps.tokens.services import acquisition, answers, bodies, progress, waiting
from apps.tokens.services.acquisition import AcquireSpec, HandOut, Ticket

TTL = between(0, 365 * 86_400, "a whole number of seconds")
WAIT = between(0.0, 86_400.0, "a number of seconds")


class Command(BaseCommand):
    help = "Print a valid token of a site; a login is made by the workers if there is none."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("site", help="slug of the site")
        parser.add_argument("--account", help="username; any account without it")
        parser.add_argument("--force", action="store_true", help="a newer token than the present")
        parser.add_argument("--min-ttl", type=TTL, default=0, metavar="S")
        parser.add_argument("--max-wait", type=WAIT, default=60, metavar="S")
        parser.add_argument("--purpose", default="", help="kept in the audit")
        parser.add_argument("--json", action="store_true", help="the whole answer, as the API's")

    def handle(self, **options: Any) -> None:
        spec = AcquireSpec(
            site=options["site"],
            account=options["account"],
            force=options["force"],
            min_ttl_s=options["min_ttl"],
            purpose=options["purpose"],
        )
        try:
            status, content = self._obtain(spec, max_wait_s=options["max_wait"])
        except BrokerError as error:
            details = json.dumps(error.details, default=str) if error.details else ""
            raise CommandError(f"{error.message} [{error.code}] {details}".strip()) from error
        if options["json"]:
            self.stdout.write(json.dumps(content, indent=2, default=str))
        elif status == 200:
            token = content["token"]
            self.stdout.write(token["bearer"] or json.dumps(token, default=str))
        if status != 200:
            raise CommandError(
                f"Still {content['stage']} after {options['max_wait']:g} s; the request "
                f"{content['request_id']} goes on. Are the workers running?"
            )

    def _obtain(self, spec: AcquireSpec, *, max_wait_s: float) -> tuple[int, dict[str, Any]]:
        principal = _operator()
        found = acquisition.obtain(spec, principal=principal)
        if isinstance(found, HandOut):
            return 200, bodies.hand_out(found)
        view = waiting.wait(found, max_wait_s=max_wait_s, sleep=self._telling(found))
        if view is None:
            return answers.pending(found)
        return answers.served(found, view, principal=principal, remote_address="")

    def _telling(self, ticket: Ticket) -> Any:
        """Return a sleep that says on the terminal what is being waited for."""
        told = ""

        def sleep(seconds: float) -> None:
            nonlocal told
            row = TokenRequest.objects.select_related("site").get(pk=ticket.request_id)
            step = progress.of(row).current_step
            if step != told:
                told = step
                self.stderr.write(f"… {step}")
            time.sleep(seconds)

        return sleep


def _operator() -> Principal:
    """Return the caller at the command line: whoever may run this may read the database."""
    return Principal(
        kind="user",
        id="command-line",
        name="command line",
        user_id=0,
        scopes=frozenset(Scope),
        grants=(Grant(site=ANY_SITE),),
    )
