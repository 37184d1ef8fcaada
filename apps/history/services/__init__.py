"""What other apps call."""

from apps.history.services.recording import record

__all__ = ["record"]
