"""Model fields that keep secrets encrypted.

The value is sealed for one row: the associated data is `app.model.field:primary key`. So the
primary key must be known before the insert (use a UUID default), and bulk writes with plaintext
are refused. Reading is lazy: a row loaded for a list never decrypts anything. Every reading
gives a new value: assign a whole new one to change it.
"""

import base64
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

import orjson
from django.db import models
from django.db.models import signals

from apps.common.crypto import CannotOpen, keyring

_RAW: Final = "_raw_save"


@dataclass(frozen=True, slots=True)
class Sealed:
    """An encrypted value as it lies in the database."""

    data: bytes = field(repr=False)


def readable(row: models.Model, name: str) -> Any:
    """Return a secret of a row; None if it has none, or none that can be opened (a lost key).

    For who shows what there is, or puts something new in its place.
    """
    try:
        return getattr(row, name)
    except CannotOpen:
        return None


class EncryptedJSONField(models.BinaryField):  # type: ignore[type-arg]  # not subscriptable at run time
    """JSON, encrypted at rest; `None` stays NULL.

    Assign plaintext and `save()`; read plaintext. `queryset.update()` takes only `Sealed`.
    """

    description: ClassVar[str] = "Encrypted JSON"  # type: ignore[misc]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["editable"] = False
        super().__init__(*args, **kwargs)

    def contribute_to_class(self, cls: type[models.Model], name: str, **kwargs: Any) -> None:  # type: ignore[override]
        super().contribute_to_class(cls, name, **kwargs)
        setattr(cls, self.attname, _Descriptor(self))
        signals.pre_save.connect(_begin_raw_save, sender=cls)
        signals.post_save.connect(_end_raw_save, sender=cls)

    def place(self, instance: models.Model) -> str:
        """Return the associated data for this field of this row."""
        return f"{self.model._meta.label_lower}.{self.attname}:{instance.pk}"

    def seal(self, instance: models.Model, value: Any) -> Sealed:
        """Encrypt a value for this row; for conditional updates."""
        if instance.pk is None:
            raise TypeError(f"{self.name}: the row needs its primary key before a secret.")
        return Sealed(keyring().seal(orjson.dumps(value), place=self.place(instance)))

    def unseal(self, instance: models.Model, value: Sealed) -> Any:
        return orjson.loads(keyring().open(value.data, place=self.place(instance)))

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Sealed | None:
        return None if value is None else Sealed(bytes(value))

    def pre_save(self, model_instance: models.Model, add: bool) -> Sealed | None:
        if self.attname not in model_instance.__dict__:
            model_instance.refresh_from_db(fields=[self.attname])  # deferred
        value = model_instance.__dict__[self.attname]
        if isinstance(value, Sealed) and add:
            # A copied row still carries the secret of its original; nobody could ever open it.
            self.unseal(model_instance, value)
        if value is None or isinstance(value, Sealed):
            return value
        sealed = self.seal(model_instance, value)
        model_instance.__dict__[self.attname] = sealed
        return sealed

    def clean(self, value: Any, model_instance: models.Model | None) -> Any:
        """Return the value as it is: `to_python` below is for ciphertext in fixtures."""
        return value

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        if value is None:
            return None
        if not isinstance(value, Sealed):
            raise TypeError(f"{self.name}: use save(), or seal() for an update.")
        return super().get_db_prep_value(value.data, connection, prepared)

    def value_from_object(self, obj: models.Model) -> Sealed | None:
        """Return what lies in the database, or would: serialisers must never see plaintext."""
        value = obj.__dict__.get(self.attname)
        return value if value is None or isinstance(value, Sealed) else self.seal(obj, value)

    def value_to_string(self, obj: models.Model) -> str:
        value = self.value_from_object(obj)
        return "" if value is None else base64.b64encode(value.data).decode()

    def to_python(self, value: Any) -> Any:
        """Read what a fixture holds: base64 of the ciphertext."""
        if isinstance(value, str):
            return Sealed(base64.b64decode(value)) if value else None
        return value


def _begin_raw_save(instance: models.Model, raw: bool, **kwargs: Any) -> None:
    """Fixtures are written attribute by attribute; let the ciphertext through as it is."""
    if raw:
        instance.__dict__[_RAW] = True


def _end_raw_save(instance: models.Model, **kwargs: Any) -> None:
    instance.__dict__.pop(_RAW, None)


class _Descriptor:
    """Gives plaintext on reading, keeps the sealed form in the instance's dictionary."""

    def __init__(self, owner: EncryptedJSONField) -> None:
        self.field = owner

    def __get__(self, instance: models.Model | None, owner: type[models.Model]) -> Any:
        if instance is None:
            return self
        name = self.field.attname
        if name not in instance.__dict__:
            instance.refresh_from_db(fields=[name])
        value = instance.__dict__[name]
        if not isinstance(value, Sealed) or _RAW in instance.__dict__:
            return value
        return self.field.unseal(instance, value)

    def __set__(self, instance: models.Model, value: Any) -> None:
        instance.__dict__[self.field.attname] = value
