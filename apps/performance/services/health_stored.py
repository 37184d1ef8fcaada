"""Whether what is stored can be read by this code with these keys."""

from dataclasses import dataclass

from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.db.models import BinaryField, Q
from django.db.models.functions import Substr

from apps.common.crypto import VERSION, key_id, keyring
from apps.common.rotation import SecretColumn, secret_columns
from apps.performance.models.alerts import Severity
from apps.performance.services.health_checks import Facts, Unwell, reason


@dataclass(frozen=True, slots=True)
class KeysCheck:
    """Every key that seals a stored secret is configured."""

    name: str = "keys"
    needs_database: bool = True

    def run(self) -> Facts:
        found = [
            f"{column.label} needs the key {name!r}"
            for column in secret_columns()
            if (name := self._unknown_key(column))
        ]
        if found:
            text = f"Secrets cannot be opened: {'; '.join(found)}."
            raise Unwell(reason("keys_missing", Severity.HIGH, text))
        return {"active": keyring().active, "configured": sorted(keyring().keys)}

    def _unknown_key(self, column: SecretColumn) -> str:
        """Return the id of a key that seals a row of the column and is not configured, or ''.

        A sealed value begins with its version, the length of the key's id, and the id.
        """
        name, known, rows = column.field.attname, Q(), column.rows()
        for number, key in enumerate(keyring().keys):
            prefix = bytes([VERSION, len(key)]) + key.encode()
            head = Substr(name, 1, len(prefix), output_field=BinaryField())
            rows = rows.annotate(**{f"head_{number}": head})
            known |= Q(**{f"head_{number}": prefix})
        sealed = rows.exclude(known).values_list(name, flat=True).first()
        return key_id(sealed.data) if sealed else ""


@dataclass(frozen=True, slots=True)
class MigrationsCheck:
    """The database has the tables and columns that this code was written for."""

    name: str = "migrations"
    needs_database: bool = True

    def run(self) -> Facts:
        loader = MigrationLoader(connection)
        # Every one, not only the newest of each app: a hole in the middle is as bad.
        wanted = set(loader.graph.nodes) - set(loader.applied_migrations)
        missing = [f"{app}.{name}" for app, name in sorted(wanted)]
        if missing:
            text = f"Run migrate: {', '.join(missing)}."
            raise Unwell(reason("migrations_missing", Severity.HIGH, text))
        return {"missing": 0}
