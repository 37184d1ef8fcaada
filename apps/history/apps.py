"""The app: what happened, for as long as it is kept."""

from typing import Any

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class HistoryConfig(AppConfig):
    name = "apps.history"
    label = "history"

    def ready(self) -> None:
        post_migrate.connect(_make_partitions, sender=self)


def _make_partitions(using: str, **kwargs: Any) -> None:
    """Have this month's partition ready after each migration."""
    # Needs the models, which are not loaded yet when this module is.
    from apps.common.clock import now
    from apps.history import partitions

    if using == "default":
        partitions.ensure_ahead(now())
