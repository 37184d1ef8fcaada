"""The REST API: every app's paths under one root, and its description."""

from django.urls import include, path
from drf_spectacular.views import SpectacularSwaggerSplitView

from config.schema import SchemaView

urlpatterns = [
    path("", include("apps.tokens.urls")),
    path("", include("apps.access.urls")),
    path("", include("apps.caching.urls")),
    path("", include("apps.performance.urls")),
    path("schema", SchemaView.as_view(), name="schema"),
    path("docs", SpectacularSwaggerSplitView.as_view(url_name="schema"), name="docs"),
]
