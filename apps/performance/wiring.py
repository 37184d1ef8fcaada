"""What this app plugs into the recorder, the supervisor and the upkeep command."""

from django.conf import settings

from apps.common import measure, periodic
from apps.performance.services import alerting_jobs, keeping, sampling, storing, tuning_auto

KEEP_EVERY_S = 60.0


def connect() -> None:
    """Store what is measured; in the background, unless the settings leave that to the caller."""
    measure.set_sink(
        storing.store,
        background=getattr(settings, "LATCHKEY_METRICS_BACKGROUND", True),
        on_tick=look,
    )
    periodic.register("performance.sample", every_s=1.0)(sample)
    periodic.register("performance.keep", every_s=KEEP_EVERY_S)(keep)
    periodic.register("performance.adapt_limits", every_s=tuning_auto.EVERY_S)(adapt)
    alerting_jobs.connect()


def look() -> None:
    """Look at this process, whatever it is for."""
    sampling.sample_if_due()


def sample() -> None:
    """Look at the supervisor and at what all processes share."""
    sampling.sample_if_due(role=sampling.SUPERVISOR)


def keep() -> None:
    """Age and delete old rows."""
    keeping.keep()


def adapt() -> None:
    """Adapt the limits that an operator has left to the rule."""
    tuning_auto.adapt_all()
