"""Secrets in rows: sealed, bound to their row and field, opened only when read."""

import json

import pytest
from django.core import serializers
from django.db import connection
from django.db.migrations.writer import MigrationWriter
from django.db.utils import IntegrityError

from apps.common.crypto import CannotOpen, Keyring
from apps.common.fields import EncryptedJSONField, Sealed

SECRET = {"password": "hunter2", "seed": [1, 2]}


@pytest.fixture
def opened(monkeypatch):
    """Counts decryptions."""
    calls = []
    original = Keyring.open

    def count(self, sealed, *, place):
        calls.append(place)
        return original(self, sealed, place=place)

    monkeypatch.setattr(Keyring, "open", count)
    return calls


def stored_bytes(vault, pk) -> bytes:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT secret FROM {vault._meta.db_table} WHERE id = %s", [_raw(pk)])
        return bytes(cursor.fetchone()[0])


def _raw(pk):
    return pk.hex if connection.vendor == "sqlite" else pk


@pytest.mark.parametrize("value", [SECRET, "hunter2", 271828, [], {}, "", False, "中文"])
def test_what_is_saved_is_read(vault, value):
    row = vault.objects.create(secret=value)
    assert vault.objects.get(pk=row.pk).secret == value
    assert row.secret == value


def test_the_database_holds_no_plaintext(vault):
    row = vault.objects.create(secret=SECRET)
    assert b"hunter2" not in stored_bytes(vault, row.pk)


def test_none_is_null(vault):
    row = vault.objects.create(secret=None)
    assert vault.objects.filter(secret__isnull=True).get().pk == row.pk
    assert vault.objects.get().secret is None


def test_a_list_of_rows_decrypts_nothing(vault, opened):
    vault.objects.bulk_create(vault(secret=SECRET) for _ in range(3))
    opened.clear()
    rows = list(vault.objects.all())
    assert opened == []
    assert rows[0].secret == SECRET
    assert len(opened) == 1


def test_saving_another_field_neither_opens_nor_changes_the_secret(vault, opened):
    row = vault.objects.create(secret=SECRET)
    before = stored_bytes(vault, row.pk)
    again = vault.objects.get(pk=row.pk)
    again.name = "new"
    opened.clear()
    again.save()
    assert opened == []
    assert stored_bytes(vault, row.pk) == before


def test_a_ciphertext_cannot_be_moved_to_another_row(vault):
    mine, theirs = vault.objects.create(secret="mine"), vault.objects.create(secret="theirs")
    sealed = vault.objects.filter(pk=theirs.pk).values_list("secret", flat=True).get()
    vault.objects.filter(pk=mine.pk).update(secret=sealed)
    with pytest.raises(CannotOpen):
        _ = vault.objects.get(pk=mine.pk).secret


def test_a_ciphertext_cannot_be_moved_to_another_field(vault):
    row = vault.objects.create(secret="mine")
    sealed = vault.objects.values_list("secret", flat=True).get()
    vault.objects.filter(pk=row.pk).update(other=sealed)
    with pytest.raises(CannotOpen):
        _ = vault.objects.get().other


def test_a_copied_row_is_refused_before_it_is_written(vault):
    row = vault.objects.get(pk=vault.objects.create(secret=SECRET).pk)
    row.pk = vault().pk
    row._state.adding = True
    with pytest.raises(CannotOpen):
        row.save()


def test_update_takes_no_plaintext(vault):
    vault.objects.create(secret=SECRET)
    with pytest.raises(TypeError, match="secret"):
        vault.objects.update(secret={"password": "other"})


def test_bulk_update_takes_no_plaintext(vault):
    row = vault.objects.create(secret=SECRET)
    row.secret = "other"
    with pytest.raises(TypeError, match="secret"):
        vault.objects.bulk_update([row], ["secret"])


def test_filters_take_no_plaintext(vault):
    with pytest.raises(TypeError, match="secret"):
        vault.objects.filter(secret="hunter2").exists()


def test_update_takes_what_seal_made(vault):
    row = vault.objects.create(secret="old")
    sealed = vault._meta.get_field("secret").seal(row, "new")
    assert vault.objects.filter(pk=row.pk).update(secret=sealed) == 1
    assert vault.objects.get().secret == "new"


def test_a_row_without_its_key_cannot_hold_a_secret(vault, vault_apps):
    with pytest.raises(TypeError, match="primary key"):
        vault_apps.get_model("common", "Numbered")(secret="x").save()


def test_a_required_secret_cannot_be_null(vault, vault_apps):
    with pytest.raises(IntegrityError):
        vault_apps.get_model("common", "Numbered")(pk=1, secret=None).save()


def test_a_deferred_secret_is_loaded_when_read(vault):
    vault.objects.create(secret=SECRET)
    assert vault.objects.defer("secret").get().secret == SECRET


def test_saving_a_deferred_secret_keeps_it(vault):
    vault.objects.create(secret=SECRET)
    vault.objects.defer("secret").get().save(update_fields=["secret"])
    assert vault.objects.get().secret == SECRET


def test_refresh_brings_the_new_secret(vault):
    row = vault.objects.create(secret="old")
    other = vault.objects.get()
    other.secret = "new"
    other.save()
    row.refresh_from_db()
    assert row.secret == "new"


def test_refresh_drops_an_unsaved_secret(vault):
    row = vault.objects.create(secret="old")
    row.secret = "unsaved"
    row.refresh_from_db(fields=["secret"])
    assert row.secret == "old"


@pytest.mark.parametrize("value", ["hunter2", "aHVudGVyMg==", SECRET, None])
def test_full_clean_changes_nothing(vault, value):
    row = vault.objects.create(name="x", secret=value)
    row = vault.objects.get(pk=row.pk)
    row.full_clean()
    row.save()
    assert vault.objects.get().secret == value


@pytest.mark.parametrize("value", [SECRET, "hunter2", 271828, None])
def test_dumpdata_gives_ciphertext_that_loaddata_takes(vault, value):
    vault.objects.create(secret=value)
    row = vault.objects.get()
    text = serializers.serialize("json", [row])
    assert "hunter2" not in text
    assert "271828" not in json.loads(text)[0]["fields"]
    row_id, before = row.pk, value and stored_bytes(vault, row.pk)
    fields = json.loads(text)[0]["fields"]
    vault.objects.all().delete()
    restored = vault(pk=row_id)
    for name, raw in fields.items():
        setattr(restored, name, vault._meta.get_field(name).to_python(raw))
    serializers.base.DeserializedObject(restored).save()
    assert vault.objects.get().secret == value
    assert restored.secret == value
    assert value is None or stored_bytes(vault, row_id) == before


def test_dumping_an_unsaved_change_gives_ciphertext(vault):
    row = vault.objects.create(secret="old")
    row.secret = 271828
    assert "271828" not in serializers.serialize("json", [row])


def test_repr_shows_no_secret():
    assert repr(Sealed(b"data")) == "Sealed()"


def test_migrations_can_name_the_field():
    field = EncryptedJSONField(null=True, blank=True)
    _, path, args, kwargs = field.deconstruct()
    assert (path, args) == ("apps.common.fields.EncryptedJSONField", [])
    assert kwargs == {"null": True, "blank": True}
    assert "EncryptedJSONField(blank=True, null=True)" in MigrationWriter.serialize(field)[0]
