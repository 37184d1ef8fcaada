"""The history, for whoever has a grant: the history app knows of no keys."""

from typing import Any

from django.db.models import Q
from rest_framework.request import Request

from apps.access.contracts import ANY_SITE, Grant, Principal, Scope
from apps.access.permissions import scope
from apps.access.services import principal_of
from apps.history.querysets import HistoryQuerySet
from apps.history.viewsets import HistoryViewSet
from apps.tokens.errors import UnknownSite


class GrantedHistoryViewSet(HistoryViewSet):
    """Finished acquisitions of the sites and accounts the caller has grants for.

    A grant by label shows nothing here: records outlive the accounts that carried the label.
    """

    permission_classes = [scope(read=Scope.REQUESTS_READ)]

    def get_queryset(self) -> HistoryQuerySet:
        rows: HistoryQuerySet = super().get_queryset()  # type: ignore[assignment]
        return rows.filter(_wanted(principal_of(self.request)))

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Figures of a window are of all its records: they need a grant for all of them."""
        super().initial(request, *args, **kwargs)
        if self.action == "statistics":
            site = request.query_params.get("site") or ANY_SITE
            account = request.query_params.get("account", "")
            if not principal_of(request).may_read(site=site, account=account):
                raise UnknownSite


def _wanted(principal: Principal) -> Q:
    wanted = Q(pk__in=[])
    for grant in principal.grants:
        if not grant.label:
            wanted |= _covered(grant)
    return wanted


def _covered(grant: Grant) -> Q:
    by_site = Q(pk__isnull=False) if grant.site == ANY_SITE else Q(site=grant.site)
    return by_site & Q(account=grant.account) if grant.account else by_site
