"""Paths of this app under the API's root."""

from django.urls import path

from apps.access.viewsets import AuditViewSet, KeyViewSet

urlpatterns = [
    path("keys", KeyViewSet.as_view({"get": "list", "post": "create"}), name="keys"),
    path("keys/<uuid:pk>", KeyViewSet.as_view({"get": "retrieve"}), name="key"),
    path("keys/<uuid:pk>/revoke", KeyViewSet.as_view({"post": "revoke"}), name="key-revoke"),
    path("audit", AuditViewSet.as_view({"get": "list"}), name="audit"),
]
