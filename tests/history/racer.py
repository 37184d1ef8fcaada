"""A process of the concurrency tests: `python -m tests.history.racer ROLE SECONDS`."""

import random
import sys
import time
from datetime import timedelta
from uuid import UUID

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


def same(until: float) -> None:
    """Record the same fifty requests as everybody else, each at a time of our own."""
    for number in range(50):
        at = NOON + timedelta(days=random.Random().randrange(90))
        services.record(make_record(request_id=UUID(int=number), created_at=NOON, finished_at=at))


if __name__ == "__main__":
    role = {"write": write, "roll": roll, "clean": clean, "same": same}[sys.argv[1]]
    role(time.monotonic() + float(sys.argv[2]))
