"""One load a key in this process: the first caller flies, the others wait for what it brings."""

from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Lock, get_ident

from apps.caching.contracts import Layer


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a flight brought. Packed, so that every waiter unpacks a value of its own."""

    payload: bytes = field(repr=False)
    layer: Layer
    stale: bool = False
    age_s: float = 0.0


class Flight:
    """A load under way; `future` gives None when the flight was given up."""

    __slots__ = ("future", "owner")

    def __init__(self) -> None:
        self.future: Future[Outcome | None] = Future()
        # Running, so that a waiter's cancellation cannot cancel it for the others.
        self.future.set_running_or_notify_cancel()
        self.owner = get_ident()


class Flights:
    """The loads under way in this process."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._flights: dict[tuple[str, str], Flight] = {}

    def join(self, namespace: str, name: str) -> tuple[Flight, bool]:
        """Return the flight for this name, and whether the caller is the one to fly it."""
        with self._lock:
            flight = self._flights.get((namespace, name))
            if flight is not None:
                return flight, False
            flight = self._flights[namespace, name] = Flight()
            return flight, True

    def leave(self, namespace: str, name: str, flight: Flight) -> None:
        """Let the next caller start anew; those who wait already keep waiting."""
        with self._lock:
            if self._flights.get((namespace, name)) is flight:
                del self._flights[namespace, name]

    def forget(self, namespace: str, names: list[str]) -> None:
        """Let nobody join a load that began before these names were invalidated."""
        with self._lock:
            for name in names:
                self._flights.pop((namespace, name), None)

    def forget_all(self, namespace: str) -> None:
        """Let nobody join any load of a namespace."""
        with self._lock:
            for key in [key for key in self._flights if key[0] == namespace]:
                del self._flights[key]
