"""What a run left behind, as plain values: the lab's log, the rows, and what was done.

All times are seconds of the machine's monotonic clock, which every process and every network
namespace of one machine shares.
"""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """One login request as the lab saw it; `end_s` None means that it never ended there.

    `heard` says that an answer went out to a client that was still there.
    """

    attempt: str
    site: str
    account: str
    secret: str
    start_s: float
    end_s: float | None
    outcome: str
    heard: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRow:
    """One row of LoginAttempt."""

    id: str
    site: str
    account: str
    owner: str
    credential_version: int
    fence: int
    outcome: str
    started_s: float
    finished_s: float | None
    deadline_s: float
    sent_s: float | None
    fingerprint: str
    resend_in_doubt: bool
    error_code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """An edit or a revocation: committed between `begun_s` and `done_s`; what stood after it."""

    account: str
    kind: str
    begun_s: float
    done_s: float
    credential_version: int
    fence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """A worker that was stopped for longer than its lease, or cut off."""

    owner: str
    stopped_s: float
    continued_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Killed:
    """A worker process that was killed while it made logins."""

    owner: str
    at_s: float
    attempts: tuple[str, ...]


@dataclass(slots=True, kw_only=True)
class Facts:
    """Everything the judge looks at. `limits`: '' for all sites, or a site's name."""

    limits: dict[str, int]
    arrivals: list[Arrival] = field(default_factory=list)
    attempts: list[AttemptRow] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    stopped: list[Stopped] = field(default_factory=list)
    killed: list[Killed] = field(default_factory=list)
    counts: dict[str, Any] = field(default_factory=dict)
    live_requests: dict[str, str] = field(default_factory=dict)
    history: dict[str, int] = field(default_factory=dict)
    answers: dict[str, int] = field(default_factory=dict)
    dead_owners: dict[str, str] = field(default_factory=dict)
    repairs: dict[str, dict[str, int]] = field(default_factory=dict)
    tokens: dict[str, float] = field(default_factory=dict)
    leftovers: list[str] = field(default_factory=list)
    clusters_killed: int = 0
    logins_wanted: int = 0
    blows_missed: list[str] = field(default_factory=list)
