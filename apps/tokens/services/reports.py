"""Consumers' verdicts: "the site rejected this token".

One buggy caller must not evict a good token. Where the recipe has a probe, the site itself is
asked, once for all who report. Without a probe it takes two callers, or one that has not used up
its budget of such evictions. A report about a token that was replaced already changes nothing.
"""

from datetime import timedelta
from enum import StrEnum
from typing import Final

import structlog
from django.db import transaction
from django.db.models import Q

from apps.access.contracts import Principal
from apps.common import tracing
from apps.common.clock import database_now
from apps.tokens.connectors.registry import connector_for
from apps.tokens.contracts import ProbeVerdict
from apps.tokens.models import StoredToken, TokenReport
from apps.tokens.models.requests import Queue, Reason
from apps.tokens.services import accounts, freshness, hints, locks, requests
from apps.tokens.services.context import ProbeContext
from apps.tokens.services.lookup import material_from_plain
from apps.tokens.services.requests import Asker, Demand
from apps.tokens.services.sites import site_config
from apps.tokens.services.threads import DatabaseThreads

log = structlog.get_logger(__name__)

EVICTIONS_AN_HOUR: Final = 3
REPORTERS_NEEDED: Final = 2
PROBE_LEASE: Final = timedelta(seconds=60)


class ReportState(StrEnum):
    """What a report led to."""

    SUPERSEDED = "superseded"  # another token is current by now: acquire again
    PROBING = "probing"  # the site is being asked
    NOTED = "noted"  # another caller has to say so too
    DROPPED = "dropped"  # a new login has been queued


def report(token: StoredToken, fingerprint: str, *, principal: Principal) -> ReportState:
    """Take one consumer's word for it; `token` comes with its account and site."""
    with locks.admission() as at:  # dropping a token changes what admission goes by
        current = StoredToken.objects.usable(at=at).filter(pk=token.pk, fingerprint=fingerprint)
        if not current.exists():
            return ReportState.SUPERSEDED
        note, _ = TokenReport.objects.get_or_create(
            token=token,
            fingerprint=fingerprint,
            principal_kind=principal.kind,
            principal_id=principal.id,
            defaults={"principal_name": principal.name[:200], "at": at},
        )
        site = token.account.site
        if connector_for(site.connector).can_probe(site_config(site)):
            current.filter(reported_at=None).update(reported_at=at)
            transaction.on_commit(lambda: hints.send(Queue.INTERACTIVE))
            return ReportState.PROBING
        if not _enough(note):
            return ReportState.NOTED
        asker = Asker(kind=principal.kind, id=principal.id, name=principal.name)
        _drop(token, asker=asker)
        return ReportState.DROPPED


async def probe_one(threads: DatabaseThreads) -> bool:
    """Probe one reported token, if there is one that nobody probes yet; say whether there was."""
    token = await threads.run(_claim)
    if token is None:
        return False
    site = site_config(token.account.site)
    material = material_from_plain(token.material)
    try:
        with tracing.span("probe", {"latchkey.site": site.slug}):
            verdict = await connector_for(site.connector).probe(ProbeContext(site=site), material)
    except Exception as error:  # noqa: BLE001 - whatever fails, the token's state stays unclear
        log.warning("probe_failed", site=site.slug, error=type(error).__name__)
        verdict = ProbeVerdict.UNCLEAR
    await threads.run(_settle, token, verdict)
    log.info("token_probed", site=site.slug, verdict=verdict)
    return True


def _claim() -> StoredToken | None:
    """Take one reported token for probing, under a lease."""
    at = database_now()
    free = Q(probe_until=None) | Q(probe_until__lte=at)
    waiting = StoredToken.objects.usable(at=at).filter(free, reported_at__isnull=False)
    for token in waiting.select_related("account__site").order_by("reported_at")[:5]:
        mine = waiting.filter(pk=token.pk, version=token.version)
        if mine.update(probe_until=at + PROBE_LEASE):
            return token
    return None


def _settle(token: StoredToken, verdict: ProbeVerdict) -> None:
    with locks.admission() as at:
        same = StoredToken.objects.filter(pk=token.pk, version=token.version)
        if not same.update(reported_at=None, probe_until=None):
            return
        doubted = verdict is ProbeVerdict.UNCLEAR and _reporters(token) >= REPORTERS_NEEDED
        if verdict is ProbeVerdict.BAD or doubted:
            _drop(token, asker=None)
        elif verdict is ProbeVerdict.GOOD:
            freshness.unlearn(token, at=at)
            TokenReport.objects.filter(token=token, fingerprint=token.fingerprint).delete()


def _enough(note: TokenReport) -> bool:
    """Say whether this report may drop the token: a second caller, or a budget that is left."""
    if _reporters(note.token) >= REPORTERS_NEEDED:
        return True
    spent = TokenReport.objects.filter(
        principal_kind=note.principal_kind,
        principal_id=note.principal_id,
        evicted=True,
        at__gt=note.at - timedelta(hours=1),
    ).count()
    if spent >= EVICTIONS_AN_HOUR:
        return False
    return bool(TokenReport.objects.filter(pk=note.pk).update(evicted=True))


def _reporters(token: StoredToken) -> int:
    return TokenReport.objects.filter(token=token, fingerprint=token.fingerprint).count()


def _drop(token: StoredToken, *, asker: Asker | None) -> None:
    """Take the token out of circulation and queue the one login that replaces it.

    How long it really worked teaches the site's refresh lead.
    """
    freshness.learn_end(token)
    accounts.revoke(token, reason="rejected")
    requests.ask(
        Demand(
            site=token.account.site,
            account=token.account,
            reason=Reason.REJECTED,
            newer_than=token.version,
        ),
        asker=asker,
    )
