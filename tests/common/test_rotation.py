"""Key rotation: every row, no lost update, resumable, honest about what it could not open."""

import base64
from io import StringIO
from uuid import UUID

import pytest
from django.core.management import CommandError, call_command

from apps.common import rotation
from apps.common.crypto import key_id
from apps.common.fields import Sealed
from apps.common.management.commands import rotate_keys

OLD = "old:" + base64.b64encode(b"o" * 32).decode()
NEW = "new:" + base64.b64encode(b"n" * 32).decode()


@pytest.fixture(autouse=True)
def _only_our_models(monkeypatch, vault_apps):
    columns = rotation.secret_columns(vault_apps)
    monkeypatch.setattr(rotate_keys, "secret_columns", lambda: columns)


@pytest.fixture
def rows(vault, settings):
    """Three rows with a secret under the old key, and one without; then a new key."""
    settings.LATCHKEY_KEYS = OLD
    made = [vault.objects.create(pk=UUID(int=n), secret=f"secret-{n}") for n in range(1, 4)]
    vault.objects.create(pk=UUID(int=9), secret=None)
    settings.LATCHKEY_KEYS = f"{NEW},{OLD}"
    return made


def run(**options) -> str:
    out = StringIO()
    call_command("rotate_keys", stdout=out, stderr=out, **options)
    return out.getvalue()


def keys_of(vault) -> list[str]:
    values = vault.objects.filter(secret__isnull=False).order_by("pk")
    return [key_id(sealed.data) for sealed in values.values_list("secret", flat=True)]


def column(vault_apps, name="secret") -> rotation.SecretColumn:
    return next(c for c in rotation.secret_columns(vault_apps) if c.label == f"common.Vault.{name}")


def test_every_encrypted_column_is_found_once(vault_apps):
    labels = [column.label for column in rotation.secret_columns(vault_apps)]
    assert labels == ["common.Numbered.secret", "common.Vault.other", "common.Vault.secret"]


def test_the_projects_own_columns_are_found():
    labels = {column.label for column in rotation.secret_columns()}
    assert "tokens.Account.secrets" in labels


def test_every_row_gets_the_active_key_and_keeps_its_secret(vault, rows, settings):
    assert "common.Vault.secret: 3 rows, 3 rotated, 0 changed meanwhile, 0 failed" in run()
    settings.LATCHKEY_KEYS = NEW
    assert [row.secret for row in vault.objects.order_by("pk")] == [
        "secret-1",
        "secret-2",
        "secret-3",
        None,
    ]


def test_it_says_when_the_old_key_may_go(rows):
    text = run()
    assert "Keys in use: new (3 rows). Active: new." in text
    assert "No row needs old any more." in text


def test_a_second_run_has_nothing_to_do(rows):
    run()
    assert "3 rows, 0 rotated" in run()


def test_batches_cover_every_row(vault, rows, monkeypatch):
    monkeypatch.setattr(rotation, "BATCH", 2)
    text = run()
    assert "common.Vault.secret: 2 of 3\ncommon.Vault.secret: 3 of 3" in text
    assert keys_of(vault) == ["new"] * 3


def test_a_run_that_was_cut_short_is_resumed(vault, vault_apps, rows, monkeypatch):
    monkeypatch.setattr(rotation, "BATCH", 2)

    def cut(_rows):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rotation.rotate(column(vault_apps), advance=cut)
    assert keys_of(vault) == ["new", "new", "old"]
    assert rotation.rotate(column(vault_apps)).rotated == 1
    assert keys_of(vault) == ["new"] * 3


def test_a_dry_run_writes_nothing(vault, rows):
    text = run(dry_run=True)
    assert "3 to rotate" in text
    assert "Keys in use: old (3 rows)" in text
    assert "No row needs" not in text
    assert keys_of(vault) == ["old"] * 3


def write_meanwhile(monkeypatch, write):
    """Run `write` between reading a batch and swapping it."""
    original = rotation._write

    def late(*args):
        write()
        original(*args)

    monkeypatch.setattr(rotation, "_write", late)


def test_a_row_that_changed_meanwhile_is_left_to_its_writer(vault, rows, monkeypatch):
    def edit():
        row = vault.objects.get(pk=rows[1].pk)
        row.secret = "edited"
        row.save()

    write_meanwhile(monkeypatch, edit)
    assert "2 rotated, 1 changed meanwhile" in run()
    assert vault.objects.get(pk=rows[1].pk).secret == "edited"


def test_a_row_written_with_the_old_key_meanwhile_asks_for_another_run(
    vault, rows, monkeypatch, settings
):
    def edit():
        settings.LATCHKEY_KEYS = OLD
        row = vault.objects.get(pk=rows[1].pk)
        row.secret = "edited"
        row.save()
        settings.LATCHKEY_KEYS = f"{NEW},{OLD}"

    write_meanwhile(monkeypatch, edit)
    with pytest.raises(CommandError, match="1 rows were written with an old key") as caught:
        run()
    assert caught.value.returncode == 1


def test_a_row_deleted_meanwhile_is_no_failure(vault, rows, monkeypatch):
    write_meanwhile(monkeypatch, lambda: vault.objects.filter(pk=rows[1].pk).delete())
    assert "2 rotated, 1 changed meanwhile, 0 failed" in run()


@pytest.mark.parametrize("damage", ["moved", "unknown key", "garbage"])
def test_a_row_that_cannot_be_opened_is_named_and_stops_nobody(vault, rows, settings, damage):
    data = {
        "moved": vault.objects.values_list("secret", flat=True).get(pk=rows[0].pk).data,
        "unknown key": b"\x01\x04gone" + b"x" * 40,
        "garbage": b"\x07",
    }[damage]
    vault.objects.filter(pk=rows[1].pk).update(secret=Sealed(data))
    out = StringIO()
    with pytest.raises(CommandError, match="1 rows cannot be opened; keep every key") as caught:
        call_command("rotate_keys", stdout=out, stderr=out)
    assert caught.value.returncode == 1
    assert f"pk={rows[1].pk}" in out.getvalue()
    assert vault.objects.get(pk=rows[0].pk).secret == "secret-1"
    settings.LATCHKEY_KEYS = NEW
    assert vault.objects.get(pk=rows[2].pk).secret == "secret-3"


def test_no_line_holds_a_secret(rows):
    assert "secret-" not in run()


def test_quiet_prints_only_the_end(rows):
    assert run(verbosity=0).startswith("Keys in use")
