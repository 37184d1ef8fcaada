"""Routes of alerts, health and forecasts, under /api/v1/automation/performance/."""

from django.urls import path
from rest_framework.routers import SimpleRouter

from apps.performance import alert_viewsets as viewsets
from apps.performance import health_views as views

router = SimpleRouter(trailing_slash=False)
router.register("alert-rules", viewsets.AlertRuleViewSet, basename="alert-rule")
router.register("alerts", viewsets.AlertViewSet, basename="alert")
router.register("channels", viewsets.ChannelViewSet, basename="notification-channel")
router.register("notices", viewsets.DeliveryViewSet, basename="notice")

urlpatterns = [
    path("health", views.HealthView.as_view()),
    path("forecast", views.ForecastView.as_view()),
    *router.urls,
]
