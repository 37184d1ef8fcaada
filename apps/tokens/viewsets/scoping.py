"""What a caller may see: the rows of the sites and accounts its grants cover."""

from typing import Any, TypeVar

from django.db.models import Model, Q, QuerySet
from rest_framework.request import Request

from apps.access.contracts import ANY_SITE, AuditKind, AuditRecord, Principal
from apps.access.services import principal_of
from apps.common.request_context import current_request_id
from apps.tokens.models import Account, Site

M = TypeVar("M", bound=Model)


def granted(
    rows: QuerySet[M], principal: Principal, *, site: str, account: str = ""
) -> QuerySet[M]:
    """Keep the rows covered by a grant; `site` and `account` are the paths to those rows.

    An empty `account` means that the rows are the accounts.
    A row without an account ("any account") is seen by whoever has a grant for the whole site.
    Labels are JSON, which SQLite cannot search: the accounts that carry one are looked up first.
    """
    wanted, prefix = Q(pk__in=[]), f"{account}__" if account else ""
    for grant in principal.grants:
        if grant.site == ANY_SITE and not grant.account and not grant.label:
            return rows
        covered = Q() if grant.site == ANY_SITE else Q(**{f"{site}__slug": grant.site})
        if grant.account:
            covered &= Q(**{f"{prefix}username": grant.account})
        if grant.label:
            covered &= Q(**{f"{prefix}pk__in": _labelled(grant.site, grant.label)})
        wanted |= covered
    return rows.filter(wanted)


def granted_sites(rows: QuerySet[Site], principal: Principal, *, whole: bool) -> QuerySet[Site]:
    """Keep the sites that a grant concerns; with `whole`, those it covers entirely."""
    slugs = {
        grant.site for grant in principal.grants if not (whole and (grant.account or grant.label))
    }
    return rows if ANY_SITE in slugs else rows.filter(slug__in=slugs)


def audit_of(request: Request, kind: AuditKind, **fields: Any) -> AuditRecord:
    """Make the audit record of what this request does."""
    return AuditRecord.by(
        principal_of(request),
        kind=kind,
        request_id=current_request_id(),
        remote_address=request.META.get("REMOTE_ADDR", ""),
        **fields,
    )


def _labelled(site: str, label: str) -> list[Any]:
    rows = Account.objects.all() if site == ANY_SITE else Account.objects.filter(site__slug=site)
    return [pk for pk, labels in rows.values_list("pk", "labels") if label in labels]
