"""The paths of access, as config/urls.py mounts them."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("api/v1/automation/", include("apps.access.urls")),
    path("admin/", admin.site.urls),
]
