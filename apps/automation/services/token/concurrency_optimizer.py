"""`concurrency_optimizer`: a door to the limits, their tuning, and the repair of what got stuck."""

from dataclasses import asdict, dataclass
from typing import Any, Final, Self

from apps.performance.services import resources, tuning
from apps.performance.services.tuning import Recommendation
from apps.tokens.models import AdmissionLimits
from apps.tokens.services import recovery


@dataclass
class ConcurrencyConfig:
    """Limits as older documents have them; the admission limits in the admin decide."""

    max_concurrent_acquisitions: int = 3
    max_concurrent_per_site: int = 2
    max_concurrent_per_account: int = 1
    acquisition_timeout: float = 300.0  # seconds
    queue_timeout: float = 60.0  # seconds
    lock_timeout: float = 30.0  # seconds: the lease of a login's permits

    @classmethod
    def current(cls) -> Self:
        """Return the limits that hold now; one login an account is a constraint, not a setting."""
        row = AdmissionLimits.current()
        return cls(
            max_concurrent_acquisitions=row.max_concurrent,
            max_concurrent_per_site=row.max_concurrent_per_site,
            acquisition_timeout=float(row.acquisition_timeout_s),
            queue_timeout=float(row.queue_timeout_s),
            lock_timeout=float(row.lease_s),
        )


class ConcurrencyOptimizer:
    """Says what the limits should be, sets them, and repairs what hinders them."""

    @property
    def config(self) -> ConcurrencyConfig:
        """The limits that hold now."""
        return ConcurrencyConfig.current()

    def get_optimization_recommendations(self) -> tuple[Recommendation, ...]:
        """Return what each limit should be, with reasons and numbers."""
        return tuning.analyze()

    def optimize_concurrency(self, *, apply: bool = False) -> tuple[Recommendation, ...]:
        """Return the recommendations; with `apply`, set them too."""
        found = tuning.analyze()
        if apply:
            tuning.apply(found, by="python")
        return found

    def get_resource_usage(self) -> dict[str, Any]:
        """Return the machine, the processes, the database, Redis and the workers as they are."""
        return resources.usage()

    def detect_and_recover_deadlocks(self) -> dict[str, Any]:
        """Repair expired permits, dead workers and stranded requests; return how many of each."""
        return asdict(recovery.sweep())


concurrency_optimizer: Final = ConcurrencyOptimizer()
