"""Paths of the token app, under /api/v1/automation/."""

from django.urls import path
from rest_framework.routers import SimpleRouter

from apps.tokens.viewsets.history import GrantedHistoryViewSet
from apps.tokens.viewsets.operations import (
    BreakerTransitionViewSet,
    LimitsView,
    RecoveryActionViewSet,
    SiteBreakerViewSet,
    WorkerProcessViewSet,
)
from apps.tokens.viewsets.requests import LoginAttemptViewSet, TokenRequestViewSet
from apps.tokens.viewsets.sites import AccountViewSet, SiteViewSet
from apps.tokens.viewsets.tokens import TokenViewSet

router = SimpleRouter(trailing_slash=False)
router.register("tokens", TokenViewSet)
router.register("history", GrantedHistoryViewSet, basename="history")
router.register("requests", TokenRequestViewSet)
router.register("logins", LoginAttemptViewSet)
router.register("sites", SiteViewSet)
router.register("accounts", AccountViewSet)
router.register("workers", WorkerProcessViewSet)
router.register("repairs", RecoveryActionViewSet)
router.register("breakers", SiteBreakerViewSet)
router.register("breaker-transitions", BreakerTransitionViewSet)

urlpatterns = [path("limits", LimitsView.as_view(), name="limits"), *router.urls]
