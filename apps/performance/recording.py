"""Recording, for whoever looks for it here; the apps below use apps.common."""

from apps.common.measure import count, observe
from apps.common.monitoring import monitor_performance, timed

__all__ = ["count", "monitor_performance", "observe", "timed"]
