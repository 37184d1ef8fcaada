"""What other apps call."""

from apps.history.services.archive import DamagedArchive
from apps.history.services.cleanup import cleanup
from apps.history.services.recording import record
from apps.history.services.restoring import restore
from apps.history.services.rollup import roll_up
from apps.history.services.statistics import statistics

__all__ = ["DamagedArchive", "cleanup", "record", "restore", "roll_up", "statistics"]
