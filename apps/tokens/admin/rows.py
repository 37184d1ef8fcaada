"""Rows that are facts: tokens, requests, logins, workers, repairs."""

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from apps.common.errors import BrokerError
from apps.tokens.admin.base import FactsAdmin
from apps.tokens.models import (
    BreakerTransition,
    ClusterBeat,
    Interest,
    LoginAttempt,
    RecoveryAction,
    RefreshToken,
    SecretVerdict,
    SiteBreaker,
    StoredToken,
    TokenReport,
    TokenRequest,
    WorkerProcess,
)
from apps.tokens.models.breakers import BreakerState
from apps.tokens.services import accounts, breaker, locks, requests


@admin.register(StoredToken)
class StoredTokenAdmin(FactsAdmin):
    """What is stored, never the token itself."""

    list_display = ["account", "version", "fingerprint", "issued_at", "usable_until", "revoked_at"]
    list_filter = ["account__site", "revoked_reason"]
    search_fields = ["account__username", "fingerprint"]
    list_select_related = ["account__site"]
    actions = ["revoke_tokens"]

    @admin.action(description="Revoke", permissions=["revoke"])
    def revoke_tokens(self, request: HttpRequest, queryset: QuerySet[StoredToken]) -> None:
        rows = queryset.select_related("account__site")
        done = sum(accounts.revoke(token, reason="revoked") for token in rows)
        messages.success(request, f"{done} tokens revoked.")

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("tokens.change_storedtoken"))


@admin.register(TokenRequest)
class TokenRequestAdmin(FactsAdmin):
    list_display = ["id", "site", "account", "status", "stage", "reason", "attempts", "created_at"]
    list_filter = ["status", "reason", "queue", "site"]
    search_fields = ["id", "site__slug", "account__username", "error_code", "traceparent"]
    list_select_related = ["site", "account"]
    date_hierarchy = "created_at"
    actions = ["requeue_requests"]

    @admin.action(description="Requeue", permissions=["requeue"])
    def requeue_requests(self, request: HttpRequest, queryset: QuerySet[TokenRequest]) -> None:
        done = 0
        for row in queryset.select_related("site", "account"):
            try:
                requests.requeue(row, asker=None)
                done += 1
            except BrokerError as error:
                messages.warning(request, f"{row.pk}: {error.message}")
        messages.success(request, f"{done} requests requeued.")

    def has_requeue_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("tokens.change_tokenrequest"))


@admin.register(LoginAttempt)
class LoginAttemptAdmin(FactsAdmin):
    list_display = ["site", "account", "outcome", "error_code", "blame", "started_at", "owner"]
    list_filter = ["outcome", "blame", "site"]
    search_fields = ["account__username", "site__slug", "error_code"]
    list_select_related = ["site", "account", "owner"]
    date_hierarchy = "started_at"


@admin.register(Interest)
class InterestAdmin(FactsAdmin):
    list_display = ["request", "principal_name", "principal_kind", "purpose", "asked_at"]
    search_fields = ["principal_name", "purpose"]
    list_select_related = ["request"]


@admin.register(SecretVerdict)
class SecretVerdictAdmin(FactsAdmin):
    list_display = ["account", "fingerprint", "proven_at", "wrong_at", "allowed_once_at"]
    search_fields = ["account__username"]
    list_select_related = ["account"]


@admin.register(RefreshToken)
class RefreshTokenAdmin(FactsAdmin):
    list_display = ["account", "fingerprint", "generation", "stored_at", "sent_at", "rejected_at"]
    search_fields = ["account__username"]
    list_select_related = ["account"]


@admin.register(TokenReport)
class TokenReportAdmin(FactsAdmin):
    list_display = ["token", "fingerprint", "principal_name", "at", "evicted"]
    list_filter = ["evicted"]
    list_select_related = ["token"]


@admin.register(WorkerProcess)
class WorkerProcessAdmin(FactsAdmin):
    list_display = ["host", "pid", "cluster", "slots", "started_at", "lease_until", "ended_how"]
    list_filter = ["cluster", "ended_how"]


@admin.register(ClusterBeat)
class ClusterBeatAdmin(FactsAdmin):
    list_display = ["cluster", "host", "asked_at", "answered_at"]


@admin.register(SiteBreaker)
class SiteBreakerAdmin(FactsAdmin):
    list_display = ["site", "state", "failures_in_a_row", "trips", "open_until", "changed_at"]
    list_filter = ["state"]
    list_select_related = ["site"]
    actions = ["reset_breakers", "force_open", "force_closed"]

    @admin.action(description="Reset", permissions=["force"])
    def reset_breakers(self, request: HttpRequest, queryset: QuerySet[SiteBreaker]) -> None:
        self._force(request, queryset, BreakerState.CLOSED)

    @admin.action(description="Force open", permissions=["force"])
    def force_open(self, request: HttpRequest, queryset: QuerySet[SiteBreaker]) -> None:
        self._force(request, queryset, BreakerState.FORCED_OPEN)

    @admin.action(description="Force closed", permissions=["force"])
    def force_closed(self, request: HttpRequest, queryset: QuerySet[SiteBreaker]) -> None:
        self._force(request, queryset, BreakerState.FORCED_CLOSED)

    def has_force_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("tokens.change_sitebreaker"))

    def _force(
        self, request: HttpRequest, rows: QuerySet[SiteBreaker], state: BreakerState
    ) -> None:
        for row in rows.select_related("site"):
            with locks.admission() as at:
                breaker.force(row.site, state, at=at, by=str(request.user))
        messages.success(request, f"{len(rows)} breakers set to: {state.label}.")


@admin.register(BreakerTransition)
class BreakerTransitionAdmin(FactsAdmin):
    list_display = ["at", "site", "before", "after", "reason", "by"]
    list_filter = ["after", "site"]
    list_select_related = ["site"]
    date_hierarchy = "at"


@admin.register(RecoveryAction)
class RecoveryActionAdmin(FactsAdmin):
    list_display: list[Any] = ["at", "kind", "subject", "details"]
    list_filter = ["kind"]
    search_fields = ["subject"]
    date_hierarchy = "at"
