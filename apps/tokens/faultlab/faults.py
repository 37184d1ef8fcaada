"""What can go wrong with a login, and in which order it does."""

import random
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum


class FaultKind(StrEnum):
    """One way to answer a login; docs/connectors/fault-lab.md describes each."""

    OK = "ok"
    WRONG = "401"
    RATE_LIMITED = "429"
    SERVER_ERROR = "500"
    BAD_GATEWAY = "502"
    UNAVAILABLE = "503"
    HANG = "hang"
    RESET = "reset"
    GARBAGE = "garbage"
    SLOW_BODY = "slow_body"


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault and, for `429` and `503`, the Retry-After in seconds it is sent with."""

    kind: FaultKind
    retry_after_s: float | None = None


NO_FAULT = Fault(FaultKind.OK)


class FaultPlan:
    """Hands out one fault per login: the list first, then the mix, then none.

    The same seed gives the same sequence.
    """

    def __init__(
        self, listed: Sequence[Fault], mix: Mapping[FaultKind, float], *, seed: int
    ) -> None:
        self._listed = deque(listed)
        self._mix = tuple(mix.items())
        self._random = random.Random(seed)  # noqa: S311  # repeatable on purpose, guards nothing

    def next(self) -> Fault:
        if self._listed:
            return self._listed.popleft()
        if not self._mix:
            return NO_FAULT
        return next(self._drawn(), NO_FAULT)

    def _drawn(self) -> Iterator[Fault]:
        point = self._random.random()
        for kind, probability in self._mix:
            if point < probability:
                yield Fault(kind)
            point -= probability
