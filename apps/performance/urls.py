"""Routes of the performance app under /api/v1/automation/."""

from django.urls import URLPattern, URLResolver

urlpatterns: list[URLPattern | URLResolver] = []
