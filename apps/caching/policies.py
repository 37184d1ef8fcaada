"""The policies as one process knows them; the rows are read again every two seconds."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from django.conf import settings

from apps.caching.contracts import SHIPPED, Policy
from apps.common import clock

ALWAYS_SECRET: Final = frozenset(policy.namespace for policy in SHIPPED if policy.secret)


def effective(policy: Policy) -> Policy:
    """Return the policy within what the settings allow.

    Secrets stay secret, and stay in a process for LATCHKEY_L1_MAX_AGE_S at most, so that a
    revoked token is gone everywhere within seconds, whatever else has failed.
    """
    if not policy.secret and policy.namespace not in ALWAYS_SECRET:
        return policy
    return replace(
        policy,
        secret=True,
        l1_ttl_s=min(policy.l1_ttl_s, settings.LATCHKEY_L1_MAX_AGE_S),
        stale_if_error_s=min(policy.stale_if_error_s, settings.LATCHKEY_OUTAGE_GRACE_S),
    )


class Policies:
    """Starts with what ships, so that nothing waits for the database."""

    def __init__(self, on_change: Callable[[Policy], None]) -> None:
        self._on_change = on_change
        self._shipped = {policy.namespace: effective(policy) for policy in SHIPPED}
        self._known = dict(self._shipped)
        self._read_at = -math.inf

    def of(self, namespace: str) -> Policy:
        return self._known.get(namespace) or effective(Policy(namespace=namespace))

    def all(self) -> dict[str, Policy]:
        return dict(self._known)

    @property
    def age_s(self) -> float:
        """Seconds since the rows were read; infinite if they never were."""
        return clock.monotonic() - self._read_at

    def poll(self) -> None:
        """Read the rows and apply what changed; raises DatabaseError."""
        from apps.caching.models import CachePolicy  # models need the app registry

        rows = [effective(row.to_contract()) for row in CachePolicy.objects.order_by()]
        before, known = self._known, self._shipped | {row.namespace: row for row in rows}
        self._known, self._read_at = known, clock.monotonic()
        for namespace in before.keys() | known.keys():
            if before.get(namespace) != known.get(namespace):
                self._on_change(self.of(namespace))
