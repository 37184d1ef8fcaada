"""Reading what was measured."""

from collections import defaultdict
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from itertools import islice

from django.db.models import Max, Min, QuerySet, Sum
from django.db.models.functions import Coalesce

from apps.common.redaction import redact_text
from apps.history.models import TokenAcquisitionHistory
from apps.performance.contracts import RecentError
from apps.performance.models import MetricBucket, MetricReset, Resolution
from apps.performance.services.distributions import Tally
from apps.tokens.models import LoginAttempt, TokenRequest
from apps.tokens.models.attempts import Outcome
from apps.tokens.models.requests import Status

Labels = Mapping[str, Tally]
ERRORS = 100


def rows(
    metrics: Collection[str], *, since: datetime, until: datetime, site: str | None = None
) -> QuerySet[MetricBucket]:
    """Return the rows whose period begins in [since, until); not those of all time."""
    found = MetricBucket.objects.filter(metric__in=metrics, minute__gte=since, minute__lt=until)
    found = found.exclude(resolution=Resolution.EVER).order_by()
    return found if site is None else found.filter(site=site)


def tallies(
    metrics: Collection[str], *, since: datetime, until: datetime, site: str | None = None
) -> dict[str, Labels]:
    """Return metric → label → tally, all sites together unless one is named."""
    found: dict[str, dict[str, Tally]] = {metric: defaultdict(Tally) for metric in metrics}
    summed = (
        rows(metrics, since=since, until=until, site=site)
        .values_list("metric", "label", "bucket")
        .annotate(Sum("n"), Sum("total"), Min("min"), Max("max"))
    )
    for metric, label, bucket, *sums in summed:
        found[metric][label].add(bucket, *sums)
    return dict(found)


def shown_since(*, at: datetime) -> datetime | None:
    """Return from when on metrics are shown, if somebody has reset them before `at`.

    A later one was made before a clock was put back, and would hide everything until it is over.
    """
    resets = MetricReset.objects.filter(since__lte=at).order_by("-since")
    return resets.values_list("since", flat=True).first()


def in_flight(site: str | None = None) -> int:
    """Return how many logins are being made now."""
    rows = LoginAttempt.objects.filter(outcome=Outcome.OPEN)
    return (rows if site is None else rows.filter(site__slug=site)).count()


def queue(*, at: datetime, site: str | None = None) -> tuple[int, float | None]:
    """Return how many requests wait, and for how many seconds the oldest has."""
    rows = TokenRequest.objects.filter(status=Status.QUEUED)
    if site is not None:
        rows = rows.filter(site__slug=site)
    oldest = rows.aggregate(oldest=Min("created_at"))["oldest"]
    waited_s = None if oldest is None else max(0.0, (at - oldest) / timedelta(seconds=1))
    return rows.count(), waited_s


def recent_errors(site: str | None = None, *, limit: int = ERRORS) -> list[RecentError]:
    """Return the newest failed logins, and requests that failed before any login was made."""
    logins = LoginAttempt.objects.filter(outcome__in=[Outcome.FAILED, Outcome.LOST])
    ended = TokenAcquisitionHistory.objects.exclude(error_code="").filter(attempts=0)
    if site is not None:
        logins, ended = logins.filter(site__slug=site), ended.filter(site=site)
    newest = logins.order_by("-started_at").values_list(
        Coalesce("finished_at", "started_at"), "site__slug", "account__username", "error_code",
        "error_message", "blame",
    )  # fmt: skip
    before = ended.order_by("-finished_at").values_list(
        "finished_at", "site", "account", "error_code", "error_message"
    )
    found = [
        RecentError(
            at=at,
            site=slug,
            account=username,
            code=code,
            message=redact_text(message),
            blame="".join(blame),
        )
        for at, slug, username, code, message, *blame in (*newest[:limit], *before[:limit])
    ]
    return list(islice(sorted(found, key=lambda error: error.at, reverse=True), limit))
