"""Rows as JSON: for serializers that only read, and read many.

DRF builds the fields of a serializer for every answer, makes objects of a row and of all rows it
refers to, and asks them for each field by a general way. Here the fields are built once a class,
and a list whose fields are all columns is read as columns (`apps.common.pagination`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from operator import attrgetter
from typing import Any, TypeVar

from django.core.exceptions import FieldDoesNotExist
from django.db.models import Model
from rest_framework import serializers
from rest_framework.fields import Field, SerializerMethodField, SkipField
from rest_framework.relations import ManyRelatedField, PrimaryKeyRelatedField, RelatedField

M = TypeVar("M", bound=Model)
AnyField = Field[Any, Any, Any, Any]
Read = Callable[[Any], Any]
# These know by themselves how to get at what they show.
_THEIR_OWN_WAY = (SerializerMethodField, RelatedField, ManyRelatedField, serializers.BaseSerializer)


class RowOutput(serializers.ModelSerializer[M]):
    """A row as it is shown. Its fields know no request: there is no context.

    `Meta.annotated` names the fields that the queryset computes.
    """

    def to_representation(self, instance: M | tuple[Any, ...]) -> dict[str, Any]:
        """Show an instance of the model, or a tuple of `columns()`."""
        shown = _shown(type(self))
        if not isinstance(instance, tuple):
            try:
                return {one.name: one.of_row(instance) for one in shown}
            except SkipField:  # something optional is not there: the general way leaves it out
                return dict(super().to_representation(instance))
        values = zip(shown, instance, strict=True)
        return {one.name: None if value is None else one.of_value(value) for one, value in values}

    @classmethod
    def columns(cls) -> tuple[str, ...]:
        """Return the columns that are shown, as `values_list` takes them; () if not all are."""
        found = tuple(one.column for one in _shown(cls))
        return found if all(found) else ()


@dataclass(frozen=True, slots=True)
class _Shown:
    """A field of a serializer, ready for use; `column` is '' where it shows none."""

    name: str
    column: str
    of_row: Read
    of_value: Read


@cache
def _shown(kind: type[RowOutput[Any]]) -> Sequence[_Shown]:
    fields = kind().fields.items()
    return [
        _Shown(name, _column(kind, field), _of_row(field), _of_value(field))
        for name, field in fields
        if not field.write_only
    ]


def _column(kind: type[RowOutput[Any]], field: AnyField) -> str:
    """Return the path to the column a field shows, '' for none."""
    if isinstance(field, _THEIR_OWN_WAY) and not isinstance(field, PrimaryKeyRelatedField):
        return ""
    source = str(field.source)
    if source in getattr(kind.Meta, "annotated", ()):
        return source
    *between, last = source.split(".")
    options: Any = kind.Meta.model._meta  # type: ignore[attr-defined]
    try:
        for name in between:
            options = options.get_field(name).related_model._meta
        options.get_field(last)
    except (FieldDoesNotExist, AttributeError):
        return ""
    return "__".join([*between, last])


def _of_row(field: AnyField) -> Read:
    """Return what shows the field of an instance, None where there is nothing."""
    get = field.get_attribute if isinstance(field, _THEIR_OWN_WAY) else _getter(field)

    def of_row(row: Any) -> Any:
        value = get(row)
        # A foreign key without a row comes as an object without a key.
        return None if getattr(value, "pk", value) is None else field.to_representation(value)

    return of_row


def _of_value(field: AnyField) -> Read:
    """Return what shows the value of the field's column; of a foreign key that is the key."""
    if isinstance(field, PrimaryKeyRelatedField):
        return lambda value: value
    return field.to_representation


def _getter(field: AnyField) -> Read:
    straight = attrgetter(str(field.source))

    def get(row: Any) -> Any:
        try:
            value = straight(row)
        except AttributeError:
            return field.get_attribute(row)  # a row in between is missing: the field's default
        return value() if callable(value) else value

    return get
