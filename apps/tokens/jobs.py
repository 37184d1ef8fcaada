"""The routine work of tokens and access that every supervisor does; safe to do twice."""

from datetime import timedelta
from typing import Final

from django.conf import settings

from apps.access import audit, throttling
from apps.common import clock, periodic
from apps.history import services as history
from apps.tokens.models import RecoveryAction, WorkerProcess
from apps.tokens.services import keeping, syncing

KEEP_REPAIRS: Final = timedelta(days=90)
KEEP_WORKERS: Final = timedelta(days=2)


@periodic.register("tokens.keep_warm", every_s=15)
def keep_warm() -> None:
    """Queue the logins and refreshes that the sites' keep-warm counts ask for."""
    keeping.tick()


@periodic.register("access.import_audit", every_s=5)
def import_audit() -> None:
    """Bring the hand-out journals into rows."""
    audit.import_journals()


@periodic.register("access.clean_up", every_s=300)
def clean_up() -> None:
    """Drop rate windows that are over, and audit entries past their time."""
    throttling.prune(clock.now())
    audit.purge(before=clock.now() - timedelta(days=settings.LATCHKEY_AUDIT_KEEP_DAYS))


@periodic.register("caching.sync_check", every_s=600)
def check_cache() -> None:
    """Compare a sample of what is cached with the rows, and drop what differs."""
    syncing.check()


@periodic.register("history.roll_up", every_s=60)
def roll_up_history() -> None:
    """Add up the days that are over, so that statistics stay fast."""
    history.roll_up()


@periodic.register("tokens.clean_up", every_s=3600)
def clean_up_records() -> None:
    """Drop old repairs, and processes that ended long ago and made no login that is kept."""
    RecoveryAction.objects.filter(at__lt=clock.now() - KEEP_REPAIRS).delete()
    ended = WorkerProcess.objects.filter(ended_at__lt=clock.now() - KEEP_WORKERS, logins=None)
    ended.delete()
