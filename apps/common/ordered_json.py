"""A model field for JSON in which the order of keys means something."""

import json
from typing import Any, ClassVar

from django.db import models


class OrderedJSONField(models.JSONField):
    """JSON as it was written: PostgreSQL's jsonb would sort the keys, so it is text there.

    Queries cannot look into it.
    """

    description: ClassVar[str] = "JSON that keeps its order"  # type: ignore[misc]

    def db_type(self, connection: Any) -> str | None:
        return "text" if connection.vendor == "postgresql" else super().db_type(connection)

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        if connection.vendor != "postgresql" or value is None or hasattr(value, "as_sql"):
            return super().get_db_prep_value(value, connection, prepared)
        return json.dumps(value, cls=self.encoder, ensure_ascii=False)
