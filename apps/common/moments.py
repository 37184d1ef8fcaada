"""Points in time from strangers: whatever is let in survives a change of zone and a subtraction."""

from datetime import UTC, datetime
from typing import Any, Final

from django import forms
from django.db import models
from django_filters import rest_framework as filters
from django_filters.fields import IsoDateTimeField
from rest_framework import serializers

EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
LATEST: Final = datetime(9000, 1, 1, tzinfo=UTC)
TOO_FAR: Final = f"The year must be from {EARLIEST.year} to {LATEST.year - 1}."


class MomentField(serializers.DateTimeField):
    """A time in the body or the query of a request."""

    def to_internal_value(self, value: Any) -> datetime:
        found = super().to_internal_value(value)
        if not EARLIEST <= found < LATEST:
            raise serializers.ValidationError(TOO_FAR, code="too_far")
        return found


class _MomentFormField(IsoDateTimeField):  # type: ignore[misc]  # the package ships no types
    def to_python(self, value: Any) -> datetime | None:
        found: datetime | None = super().to_python(value)
        if found is not None and not EARLIEST <= found < LATEST:
            raise forms.ValidationError(TOO_FAR, code="too_far")
        return found


class MomentFilter(filters.IsoDateTimeFilter):  # type: ignore[misc]  # the package ships no types
    """A time in the filter of a list."""

    field_class = _MomentFormField


class FilterSet(filters.FilterSet):  # type: ignore[misc]  # the package ships no types
    """Filters times with MomentFilter, also where a view names only its fields."""

    FILTER_DEFAULTS = {
        **filters.FilterSet.FILTER_DEFAULTS,
        models.DateTimeField: {"filter_class": MomentFilter},
    }


class FilterBackend(filters.DjangoFilterBackend):  # type: ignore[misc]  # no types either
    """The filters of all lists; REST_FRAMEWORK["DEFAULT_FILTER_BACKENDS"]."""

    filterset_base = FilterSet
