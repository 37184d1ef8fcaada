"""Filters of the lists."""

import django_filters as filters

from apps.common.filters import AnyOfFilter
from apps.common.moments import FilterSet, MomentFilter
from apps.tokens.models import Account, LoginAttempt, Site, StoredToken, TokenRequest
from apps.tokens.models.attempts import Outcome
from apps.tokens.models.requests import Queue, Reason, Status


class SiteFilter(FilterSet):
    slug = filters.CharFilter(lookup_expr="icontains")

    class Meta:
        model = Site
        fields = ["slug", "enabled", "connector"]


class AccountFilter(FilterSet):
    site = filters.CharFilter(field_name="site__slug")
    username = filters.CharFilter(lookup_expr="icontains")

    class Meta:
        model = Account
        fields = ["site", "username", "enabled", "preferred"]


class StoredTokenFilter(FilterSet):
    site = filters.CharFilter(field_name="account__site__slug")
    account = filters.CharFilter(field_name="account__username")
    revoked = filters.BooleanFilter(field_name="revoked_at", lookup_expr="isnull", exclude=True)
    expires_before = MomentFilter(field_name="expires_at", lookup_expr="lt")
    expires_after = MomentFilter(field_name="expires_at", lookup_expr="gt")

    class Meta:
        model = StoredToken
        fields = ["site", "account", "fingerprint"]


class TokenRequestFilter(FilterSet):
    site = filters.CharFilter(field_name="site__slug")
    account = filters.CharFilter(field_name="account__username")
    status = AnyOfFilter(choices=Status.choices)
    reason = AnyOfFilter(choices=Reason.choices)
    queue = AnyOfFilter(choices=Queue.choices)
    created_after = MomentFilter(field_name="created_at", lookup_expr="gte")
    created_before = MomentFilter(field_name="created_at", lookup_expr="lt")

    class Meta:
        model = TokenRequest
        fields = ["site", "account", "status", "reason", "queue", "error_code"]


class LoginAttemptFilter(FilterSet):
    site = filters.CharFilter(field_name="site__slug")
    account = filters.CharFilter(field_name="account__username")
    outcome = filters.ChoiceFilter(choices=[c for c in Outcome.choices if c[0]])
    open = filters.BooleanFilter(field_name="finished_at", lookup_expr="isnull")
    started_after = MomentFilter(field_name="started_at", lookup_expr="gte")
    started_before = MomentFilter(field_name="started_at", lookup_expr="lt")

    class Meta:
        model = LoginAttempt
        fields = ["site", "account", "request", "outcome", "blame", "error_code"]
