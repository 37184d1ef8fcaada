"""A saved policy is applied as soon as it is committed, and told to who keeps the audit."""

from typing import Any

from django.db import transaction
from django.db.models.signals import post_delete, post_save
from django.dispatch import Signal, receiver

from apps.caching import services
from apps.caching.models import CachePolicy

# Sent with `request` and `details` before somebody changes by hand what is cached and how. This
# app does not know the audit: who keeps it listens, and one that raises stops the change.
changing = Signal()


def announce(request: Any, **details: Any) -> None:
    """Tell what is about to be changed. Raises what a listener raises."""
    changing.send(sender=CachePolicy, request=request, details=details)


@receiver([post_save, post_delete], sender=CachePolicy)
def apply_policies(**kwargs: Any) -> None:
    """Apply the change here and tell the others."""
    transaction.on_commit(services.reload_policies, robust=True)
