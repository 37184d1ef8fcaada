"""What one process holds for the cache, made on first use and made anew after a fork."""

import atexit
import os
import secrets
from threading import Lock
from typing import Final

from django.conf import settings

from apps.caching import shared as shared_layer
from apps.caching.background import Background
from apps.caching.contracts import Policy
from apps.caching.flights import Flights
from apps.caching.generations import Generations
from apps.caching.guard import UNPROVEN, Patience
from apps.caching.incidents import Incidents
from apps.caching.keys import EVERYTHING, check_namespace
from apps.caching.leases import HeldLeases
from apps.caching.local import Space
from apps.caching.policies import Policies
from apps.caching.refreshing import Refreshing
from apps.common import clock

SEPARATOR: Final = "|"


class Runtime:
    """The layers of one process and the threads that keep them honest."""

    def __init__(self) -> None:
        self.origin = secrets.token_hex(4)
        self.began = clock.monotonic()
        self.spaces: dict[str, Space] = {}
        self.policies = Policies(self._apply_policy)
        self.generations = Generations(self.forget_space)
        self.flights = Flights()
        self.leases = HeldLeases()
        self.incidents = Incidents()
        self.shared = shared_layer.connect(self.incidents)
        # Until when (monotonic) this process is known to hear of every invalidation.
        self.told_until = 0.0
        self._lock = Lock()
        self.refreshing = Refreshing(self)
        self.background: Background | None = None
        if getattr(settings, "LATCHKEY_CACHE_BACKGROUND", True):
            self.background = Background(self)
            self.background.start()

    def space(self, namespace: str) -> Space:
        """Return this process's part of a namespace; raises ValidationFailed for a bad name."""
        space = self.spaces.get(namespace)
        if space is None:
            check_namespace(namespace)
            with self._lock:
                space = self.spaces.setdefault(namespace, Space(self.policies.of(namespace)))
        return space

    def patience(self) -> Patience:
        """Return what one operation may cost when Redis fails."""
        return self.shared.patience() if self.shared is not None else Patience(0)

    def reachable(self, patience: Patience | None = None) -> shared_layer.Shared | None:
        """Return the shared layer if it may be asked now.

        The first operations of a process wait for the first probe, as far as patience reaches.
        """
        shared = self.shared
        if shared is None or shared.guard.readable:
            return shared
        if self.background is None:
            # Threads probe where there are any; without them the caller does, now and then.
            return shared if shared.guard.may_probe() and shared.probe() else None
        if patience is not None and shared.guard.reason == UNPROVEN:
            shared.guard.await_judgement(patience)
        return shared if shared.guard.readable else None

    def message(self, kind: str, namespace: str, names: list[str] | None = None) -> str:
        """Return a message for the other processes; see `hear`."""
        return SEPARATOR.join((self.origin, kind, namespace, ",".join(names or [])))

    def hear(self, text: str) -> None:
        """Act on a message: `n` names of a namespace, `c` all of it, `p` policies changed."""
        parts = text.split(SEPARATOR)
        if len(parts) != 4 or parts[0] == self.origin:
            return
        _, kind, namespace, names = parts
        if kind == "n":
            self.forget_names(namespace, names.split(","))
        elif kind == "c":
            self.forget_space(namespace)
        elif kind == "p" and self.background is not None:
            self.background.look_now()

    def forget_names(self, namespace: str, names: list[str]) -> None:
        """Drop names from this process."""
        self.flights.forget(namespace, names)
        if namespace in self.spaces:
            self.spaces[namespace].invalidate(names)

    def forget_space(self, namespace: str) -> None:
        """Drop a namespace (`*`: all of them) from this process."""
        for space in list(self.spaces.values()):
            if namespace in (EVERYTHING, space.namespace):
                self.flights.forget_all(space.namespace)
                space.flush()

    def _apply_policy(self, policy: Policy) -> None:
        space = self.spaces.get(policy.namespace)
        if space is not None:
            space.policy = policy
            space.flush()


_state: list[Runtime] = []
_creating = Lock()


def current() -> Runtime:
    """Return the runtime of this process."""
    try:
        return _state[0]
    except IndexError:
        pass
    with _creating:
        if not _state:
            _state.append(Runtime())
    return _state[0]


def stop() -> None:
    """End the threads and forget everything this process holds; the next use starts anew."""
    with _creating:
        stopped = _state[:]
        _state.clear()
    for runtime in stopped:
        runtime.refreshing.stop()
        if runtime.background is not None:
            runtime.background.stop()
        if runtime.shared is not None:
            runtime.shared.close()


def _after_fork() -> None:
    # Locks may be held and threads are gone: nothing of the parent is usable here.
    global _creating  # noqa: PLW0603
    _creating = Lock()
    _state.clear()


os.register_at_fork(after_in_child=_after_fork)
atexit.register(stop)
