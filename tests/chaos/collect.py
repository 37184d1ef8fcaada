"""Reads what the judge needs: the lab's log and counts, and the rows."""

from collections import Counter, defaultdict

from django.db.models import Q

from apps.history.models import TokenAcquisitionHistory
from apps.tokens.faultlab.client import LabClient
from apps.tokens.models import (
    LoginAttempt,
    RecoveryAction,
    StoredToken,
    TokenRequest,
    WorkerProcess,
)
from apps.tokens.models.requests import LIVE
from tests.chaos.clock import of_row
from tests.chaos.facts import Arrival, AttemptRow, Facts


def read_lab(facts: Facts, lab: LabClient, *, offset_s: float) -> None:
    """Add the arrivals and the counts of all sites."""
    facts.counts = lab.counts()
    for site in facts.counts["sites"]:
        for seen in lab.log(site):
            end_s = seen["end_s"]
            facts.arrivals.append(
                Arrival(
                    attempt=seen["note"],
                    site=site,
                    account=seen["account"],
                    secret=seen["secret"],
                    start_s=seen["start_s"] + offset_s,
                    end_s=None if end_s is None else end_s + offset_s,
                    outcome=seen["outcome"],
                    heard=not seen["disconnected"] and seen["status"] is not None,
                )
            )


def read_rows(facts: Facts) -> None:
    """Add what the database says."""
    for row in LoginAttempt.objects.select_related("site", "account").order_by("started_at"):
        facts.attempts.append(_attempt(row))
    live = TokenRequest.objects.filter(Q(status__in=LIVE) | Q(history_pending=True))
    facts.live_requests = {str(row.pk): row.status for row in live}
    written = Counter(TokenAcquisitionHistory.objects.values_list("request_id", flat=True))
    ended = TokenRequest.objects.exclude(status__in=LIVE).values_list("pk", flat=True)
    facts.history = {str(pk): written.pop(pk, 0) for pk in ended}
    facts.history |= {f"{pk} (unknown)": 0 for pk in written}
    for owner in WorkerProcess.objects.exclude(ended_at=None):
        facts.dead_owners[str(owner.pk)] = owner.ended_how
    repairs: dict[str, Counter[str]] = defaultdict(Counter)
    for action in RecoveryAction.objects.all():
        repairs[action.kind][action.subject] += 1
    facts.repairs = {kind: dict(found) for kind, found in repairs.items()}
    for token in StoredToken.objects.filter(revoked_at=None).select_related("account"):
        facts.tokens[token.account.username] = of_row(token.issued_at) or 0.0


def _attempt(row: LoginAttempt) -> AttemptRow:
    return AttemptRow(
        id=str(row.pk),
        site=row.site.slug,
        account=row.account.username,
        owner=str(row.owner_id),
        credential_version=row.credential_version,
        fence=row.fence,
        outcome=row.outcome,
        started_s=of_row(row.started_at) or 0.0,
        finished_s=of_row(row.finished_at),
        deadline_s=of_row(row.deadline) or 0.0,
        sent_s=of_row(row.secret_sent_at),
        fingerprint=row.secret_fingerprint,
        resend_in_doubt=row.resend_in_doubt,
        error_code=row.error_code,
    )
