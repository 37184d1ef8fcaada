"""What the supervisors run: rules once a minute, notices as they come, old notices once a day."""

from datetime import timedelta
from typing import Final

from apps.common import periodic
from apps.common.clock import database_now
from apps.performance.services import evaluation, notification

# Asked more often than it is done: the turn says when, and a dead process' minute is not lost.
EVALUATE_EVERY_S: Final = 10.0
DELIVER_EVERY_S: Final = 2.0
PRUNE_EVERY_S: Final = 3_600.0
PRUNE_TURN: Final = "alerts.prune"
_senders: Final = notification.Senders()


def connect() -> None:
    """Register the jobs with `apps.common.periodic`."""
    periodic.register("alerts.evaluate", every_s=EVALUATE_EVERY_S)(evaluate)
    periodic.register("alerts.deliver", every_s=DELIVER_EVERY_S)(deliver)
    periodic.register("alerts.prune", every_s=PRUNE_EVERY_S)(prune)


def evaluate() -> None:
    """Evaluate the rules if it is this process's turn."""
    evaluation.evaluate_if_due()


def deliver() -> None:
    """Have due notices sent by threads; returns at once."""
    _senders.start()


def prune() -> None:
    """Delete old notices, once a day in the whole cluster."""
    at = database_now()
    if evaluation.take_turn(PRUNE_TURN, at=at, every=timedelta(days=1)):
        notification.prune(at=at)
