"""Routes of tuning and simulation, included by the app's `urls`."""

from django.urls import path
from rest_framework.routers import SimpleRouter

from apps.performance import tuning_viewsets as viewsets

router = SimpleRouter(trailing_slash=False)
router.register("performance/limit-changes", viewsets.LimitChangeViewSet)
router.register("performance/tuning-bounds", viewsets.TuningBoundsViewSet)

urlpatterns = [
    path("performance/optimize-concurrency", viewsets.OptimizeConcurrencyView.as_view()),
    path("performance/simulate", viewsets.SimulateView.as_view()),
    *router.urls,
]
