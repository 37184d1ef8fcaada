"""Warming up from the lists of sites and accounts."""

from collections.abc import Sequence

from django.contrib import messages
from django.http import HttpRequest

from apps.access.selectors import principal_of_user
from apps.common.errors import BrokerError
from apps.tokens.services import warming
from apps.tokens.services.requests import Asker


def warm_up(
    request: HttpRequest, sites: Sequence[str], accounts: Sequence[str] | None = None
) -> None:
    """Queue the logins that are missing, and tell the person how many."""
    principal = principal_of_user(request.user)
    asker = Asker(kind=principal.kind, id=principal.id, name=principal.name)
    try:
        report = warming.warm(sites, accounts, asker=asker)
    except BrokerError as error:
        messages.error(request, error.message)
        return
    messages.success(
        request,
        f"{report.requested} logins queued; {report.fresh} of {report.accounts} accounts "
        f"are warm, {sum(report.skipped.values())} may not log in now.",
    )
