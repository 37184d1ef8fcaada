"""Re-encryption of stored secrets after a new key became the active one.

Every row is written with a compare-and-swap on its old ciphertext, so that a secret saved
meanwhile is never overwritten with an older one. Rows that use the active key already are
skipped: a run that was cut short is resumed by running it again.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from django.apps import apps as installed_apps
from django.apps.registry import Apps
from django.db import models, transaction

from apps.common.crypto import CannotOpen, key_id, keyring
from apps.common.fields import EncryptedJSONField, Sealed

BATCH: Final = 200


@dataclass(frozen=True, slots=True)
class SecretColumn:
    """One encrypted field of one model."""

    model: type[models.Model]
    field: EncryptedJSONField

    @property
    def label(self) -> str:
        return f"{self.model._meta.label}.{self.field.name}"

    def rows(self) -> "models.QuerySet[Any]":
        """Return the rows that hold a secret, also those a default manager would hide."""
        return self.model._base_manager.filter(**{f"{self.field.attname}__isnull": False})


@dataclass(slots=True)
class RotationReport:
    """What happened to the rows of one column; `failed` lists primary keys and reasons.

    `keys` counts the rows by the id of the key that seals them now.
    """

    label: str
    seen: int = 0
    rotated: int = 0
    changed_meanwhile: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    keys: Counter[str] = field(default_factory=Counter)


def secret_columns(registry: Apps = installed_apps) -> list[SecretColumn]:
    """Return every encrypted column of every installed model, in a stable order."""
    found = [
        SecretColumn(model, column)
        for model in registry.get_models(include_auto_created=True)
        if not model._meta.proxy and model._meta.managed
        for column in model._meta.local_fields
        if isinstance(column, EncryptedJSONField)
    ]
    return sorted(found, key=lambda column: column.label)


def rotate(
    column: SecretColumn, *, dry_run: bool = False, advance: Callable[[int], None] | None = None
) -> RotationReport:
    """Seal every row of `column` with the active key, 200 at a time.

    `advance` is called with the number of rows seen in each batch. With `dry_run` rows are
    opened, to find those that cannot be, and nothing is written (`rotated` counts what would
    be).
    """
    report = RotationReport(column.label)
    for batch in _batches(column):
        changes = [
            (pk, old, new) for pk, old in batch if (new := _resealed(column, pk, old, report))
        ]
        report.seen += len(batch)
        if dry_run:
            report.rotated += len(changes)
            report.keys.update(key_id(old.data) for _, old, _ in changes)
        else:
            _write(column, changes, report)
        if advance is not None:
            advance(len(batch))
    return report


def _batches(column: SecretColumn) -> Iterator[list[tuple[Any, Sealed]]]:
    """Yield (primary key, ciphertext) by ascending primary key; a row deleted meanwhile is gone."""
    rows = column.rows().order_by("pk").values_list("pk", column.field.attname)
    batch = list(rows[:BATCH])
    while batch:
        yield batch
        batch = list(rows.filter(pk__gt=batch[-1][0])[:BATCH])


def _resealed(column: SecretColumn, pk: Any, old: Sealed, report: RotationReport) -> Sealed | None:
    """Return the new ciphertext, or None if there is nothing to do or the row does not open."""
    ring = keyring()
    place = column.field.place(column.model(pk=pk))
    try:
        name = key_id(old.data)
        if name == ring.active:
            report.keys[name] += 1
            return None
        return Sealed(ring.seal(ring.open(old.data, place=place), place=place))
    except CannotOpen as error:
        report.failed[str(pk)] = error.message
        return None


def _write(
    column: SecretColumn, changes: list[tuple[Any, Sealed, Sealed]], report: RotationReport
) -> None:
    """Swap the ciphertexts of one batch in one short transaction."""
    name = column.field.attname
    active = keyring().active
    with transaction.atomic():
        for pk, old, new in changes:
            row = column.rows().filter(pk=pk)
            if row.filter(**{name: old}).update(**{name: new}):
                report.rotated += 1
                report.keys[active] += 1
                continue
            # Its writer was faster; what is there now, if anything, is theirs.
            report.changed_meanwhile += 1
            report.keys.update(key_id(now.data) for now in row.values_list(name, flat=True))
