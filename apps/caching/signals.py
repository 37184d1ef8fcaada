"""A saved policy is applied as soon as it is committed."""

from typing import Any

from django.db import transaction
from django.db.models.signals import post_delete, post_save
from django.dispatch import receiver

from apps.caching import services
from apps.caching.models import CachePolicy


@receiver([post_save, post_delete], sender=CachePolicy)
def apply_policies(**kwargs: Any) -> None:
    """Apply the change here and tell the others."""
    transaction.on_commit(services.reload_policies, robust=True)
