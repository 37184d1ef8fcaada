"""What other apps call."""

from apps.history.services.recording import record
from apps.history.services.rollup import roll_up
from apps.history.services.statistics import statistics

__all__ = ["record", "roll_up", "statistics"]
