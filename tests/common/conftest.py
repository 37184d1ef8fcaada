"""A model with secrets that belongs to no installed app."""

import uuid

import pytest
from django.db import connection, models
from django.test.utils import isolate_apps

from apps.common.fields import EncryptedJSONField


@pytest.fixture(scope="session")
def vault_apps():
    """A registry of its own, so that no command of the project ever sees these models."""
    with isolate_apps("apps.common") as registry:

        class Vault(models.Model):
            id = models.UUIDField(primary_key=True, default=uuid.uuid4)
            name = models.CharField(max_length=20, default="")
            secret = EncryptedJSONField(null=True, blank=True)
            other = EncryptedJSONField(null=True, blank=True)

            class Meta:
                app_label = "common"

        class VaultProxy(Vault):
            class Meta:
                app_label = "common"
                proxy = True

        class Numbered(models.Model):
            secret = EncryptedJSONField()

            class Meta:
                app_label = "common"

    return registry


@pytest.fixture(scope="session")
def vault_tables(vault_apps, django_db_setup, django_db_blocker):
    with django_db_blocker.unblock():
        for name in ("Vault", "Numbered"):
            with connection.schema_editor() as editor:
                editor.create_model(vault_apps.get_model("common", name))


@pytest.fixture
def vault(vault_tables, vault_apps, db):
    return vault_apps.get_model("common", "Vault")
