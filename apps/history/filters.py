"""Filters of the history's list and export."""

from datetime import timedelta
from uuid import UUID

import django_filters
from django.db.models import Q

from apps.common.clock import now
from apps.common.filters import AnyOfFilter
from apps.common.moments import FilterSet, MomentFilter
from apps.history.models import STATUS_CHOICES, TokenAcquisitionHistory
from apps.history.querysets import HistoryQuerySet

SEARCH_DAYS = 31


class HistoryFilter(FilterSet):
    """Every filter but `search` is answered from an index."""

    status = AnyOfFilter(choices=STATUS_CHOICES)
    error_code = django_filters.CharFilter(method="with_error")
    finished_after = MomentFilter(
        field_name="finished_at", lookup_expr="gte", label="Finished at this time or later"
    )
    finished_before = MomentFilter(
        field_name="finished_at", lookup_expr="lt", label="Finished before this time"
    )
    search = django_filters.CharFilter(
        method="find",
        label=(
            "A request id, or part of a site, account, error code or message. Parts of texts are "
            f"looked for in the last {SEARCH_DAYS} days unless finished_after says otherwise."
        ),
    )

    class Meta:
        model = TokenAcquisitionHistory
        fields = ["site", "account", "status", "trigger_reason", "error_code", "request_id"]

    def with_error(self, records: HistoryQuerySet, name: str, value: str) -> HistoryQuerySet:
        return records.with_error(value)

    def find(self, records: HistoryQuerySet, name: str, value: str) -> HistoryQuerySet:
        bounded = bool(self.data.get("finished_after"))
        return search(records, value, bounded=bounded)


def search(records: HistoryQuerySet, text: str, *, bounded: bool) -> HistoryQuerySet:
    """Return the records that match a text; bounds the time unless the caller has done so.

    No index helps to find part of a text, so an unbounded search would read every row.
    """
    text = text.replace("\x00", "").strip()
    try:
        return records.filter(request_id=UUID(text))
    except ValueError:
        pass
    if not bounded:
        records = records.filter(finished_at__gte=now() - timedelta(days=SEARCH_DAYS))
    return records.filter(
        Q(site__icontains=text)
        | Q(account__icontains=text)
        | Q(error_code__icontains=text)
        | Q(error_message__icontains=text)
        | Q(token_fingerprint=text)
    )
