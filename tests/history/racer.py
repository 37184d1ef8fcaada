"""A process of the concurrency tests: `python -m tests.history.racer ROLE SECONDS`."""

import random
import sys
import time
from datetime import timedelta

import django

django.setup()

from django.db import transaction  # noqa: E402  (needs the settings)

from apps.history import services  # noqa: E402
from tests.history.factories import NOON, make_record  # noqa: E402

LATER = NOON + timedelta(days=60)


def write(until: float) -> None:
    """Record into days that are closed, holding some transactions open for a moment."""
    chance = random.Random()
    while time.monotonic() < until:
        with transaction.atomic():
            at = NOON - timedelta(days=chance.randrange(3), seconds=chance.random() * 3_000)
            services.record(make_record(finished_at=at, total_s=chance.random() * 9))
            time.sleep(chance.random() * 0.01)


def roll(until: float) -> None:
    while time.monotonic() < until:
        services.roll_up(at=LATER)


def clean(until: float) -> None:
    """Keep only what is younger than NOON less one day and a half."""
    while time.monotonic() < until:
        services.cleanup(1, at=NOON - timedelta(hours=12))
        time.sleep(0.05)


if __name__ == "__main__":
    role = {"write": write, "roll": roll, "clean": clean}[sys.argv[1]]
    role(time.monotonic() + float(sys.argv[2]))
