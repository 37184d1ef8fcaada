"""What this app plugs into the recorder, the supervisor and the upkeep command."""

from django.conf import settings

from apps.common import measure
from apps.performance.services import storing


def connect() -> None:
    """Store what is measured; in the background, unless the settings leave that to the caller."""
    measure.set_sink(
        storing.store, background=getattr(settings, "LATCHKEY_METRICS_BACKGROUND", True)
    )
