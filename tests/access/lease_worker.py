"""A process of its own that asks for one caller's allowance as fast as it can.

Arguments: caller, limit, how many requests to try (0 = until refused), window start (epoch s).
Prints how many were let through.
"""

import sys
import time
from datetime import UTC, datetime

import django

django.setup()

from apps.access import leases  # noqa: E402
from apps.common import clock  # noqa: E402


def main(caller, limit, tries, frozen):
    # The clock stands in the middle of one window, however slow the machine is.
    clock.now = lambda: datetime.fromtimestamp(frozen, tz=UTC)
    sys.stdin.readline()
    passed = refused = 0
    while refused == 0 if tries == 0 else passed + refused < tries:
        if leases.take(caller, limit=limit) == 0:
            passed += 1
        else:
            refused += 1
        time.sleep(0)
    print(passed, flush=True)


main(sys.argv[1], *map(int, sys.argv[2:5]))
