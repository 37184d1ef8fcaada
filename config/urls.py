"""All paths that Django serves."""

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from apps.common.views import liveness
from apps.performance.dashboard_views import refresh
from apps.performance.exposition import metrics
from apps.performance.health_views import readiness

handler400 = "apps.common.views.bad_request"
handler403 = "apps.common.views.permission_denied"
handler404 = "apps.common.views.page_not_found"
handler500 = "apps.common.views.server_error"

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("admin/dashboard", refresh, name="dashboard"),
    path("admin/", admin.site.urls),
    path("livez", liveness, name="livez"),
    path("readyz", readiness, name="readyz"),
    path("metrics", metrics, name="metrics"),
    path("api/v1/automation/", include("config.api")),
]
