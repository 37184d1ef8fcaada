"""One clock for everything that is compared: the machine's monotonic one, in seconds."""

import math
import time
from datetime import datetime
from typing import Any, Final

import httpx

from apps.tokens.faultlab.client import LabClient

PRECISION_S: Final = 0.01


def now_s() -> float:
    """Return the seconds of the monotonic clock; processes of one machine agree on it."""
    return time.monotonic()


def of_row(at: datetime | None) -> float | None:
    """Return a row's time on this clock. The wall clock is read now, so read rows soon."""
    if at is None:
        return None
    return at.timestamp() - time.time() + time.monotonic()


def lab_offset_s(lab: LabClient) -> float:
    """Return what to add to the lab's times, known to 10 ms.

    Each login at a site of its own bounds it from both sides: it began at the lab after we sent
    it and ended there before we had the answer.
    """
    url = lab.put("clock")
    low, high = -math.inf, math.inf
    with httpx.Client(trust_env=False) as http:
        for _ in range(500):
            before = now_s()
            http.post(f"{url}/api/login", json={"username": "a", "password": "b"})
            after = now_s()
            seen: dict[str, Any] = lab.log("clock")[-1]
            low, high = max(low, before - seen["start_s"]), min(high, after - seen["end_s"])
            if high - low < PRECISION_S:
                lab.delete("clock")
                return (low + high) / 2
    raise RuntimeError("The machine is too busy to compare clocks.")
