"""Routes of the performance app under /api/v1/automation/."""

from django.urls import include, path
from rest_framework.routers import SimpleRouter

from apps.performance import urls_tuning, viewsets

router = SimpleRouter(trailing_slash=False)
router.register("performance/metrics/buckets", viewsets.MetricBucketViewSet)
router.register("performance/metrics/resets", viewsets.MetricResetViewSet)
router.register("performance/samples", viewsets.SystemSampleViewSet)

urlpatterns = [
    path("performance/", include("apps.performance.alert_urls")),
    path("performance/metrics", viewsets.MetricsView.as_view()),
    path("performance/metrics/series", viewsets.SeriesView.as_view()),
    path("performance/metrics/export", viewsets.ExportView.as_view()),
    path("performance/metrics/reset", viewsets.MetricsResetView.as_view()),
    path("performance/statistics", viewsets.StatisticsView.as_view()),
    path("performance/resource-usage", viewsets.ResourceUsageView.as_view()),
    path("performance/cache-stats", viewsets.CacheStatisticsView.as_view()),
    path("performance/cache/warm-up", viewsets.WarmUpView.as_view()),
    path("performance/cache/clear", viewsets.CacheClearView.as_view()),
    path("performance/resources/cleanup", viewsets.CleanupView.as_view()),
    *urls_tuning.urlpatterns,
    *router.urls,
]
