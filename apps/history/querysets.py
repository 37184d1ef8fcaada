"""Filters on the history."""

from datetime import datetime
from typing import TYPE_CHECKING, Self

from django.db import models
from django.db.models import Max, Min, Q

if TYPE_CHECKING:
    from apps.history.models import TokenAcquisitionHistory


class HistoryQuerySet(models.QuerySet["TokenAcquisitionHistory"]):
    """Filters live here; time is an argument."""

    def finished_between(self, start: datetime, end: datetime) -> Self:
        """Records that finished in [start, end)."""
        return self.filter(finished_at__gte=start, finished_at__lt=end)

    def finished_before(self, end: datetime) -> Self:
        return self.filter(finished_at__lt=end)

    def ends(self) -> tuple[datetime | None, datetime | None]:
        """Return when the oldest and the newest record finished; None without records."""
        # Two queries: SQLite leaps to either end of an index, but reads all of it for both.
        rows = self.order_by()
        oldest: datetime | None = rows.aggregate(at=Min("finished_at"))["at"]
        newest: datetime | None = rows.aggregate(at=Max("finished_at"))["at"]
        return oldest, newest

    def of(self, *, site: str = "", account: str = "") -> Self:
        """Records of a site, of an account, or of both; "" means all."""
        records = self.filter(site=site) if site else self
        return records.filter(account=account) if account else records

    def with_error(self, code: str) -> Self:
        """Records that failed with this code."""
        # SQLite uses an index of a part only if the query repeats the condition of that part.
        return self.filter(error_code=code).exclude(error_code="")

    def after(self, row: "TokenAcquisitionHistory") -> Self:
        """What follows a row in the order of (finished_at, id)."""
        return self.filter(
            Q(finished_at=row.finished_at, id__gt=row.pk) | Q(finished_at__gt=row.finished_at),
            finished_at__gte=row.finished_at,
        )

    def before(self, row: "TokenAcquisitionHistory") -> Self:
        """What precedes a row in the order of (finished_at, id)."""
        return self.filter(
            Q(finished_at=row.finished_at, id__lt=row.pk) | Q(finished_at__lt=row.finished_at),
            finished_at__lte=row.finished_at,
        )
