"""What the history takes and gives: frozen values, never model instances."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from uuid import UUID
from zoneinfo import ZoneInfo

UTC_ZONE = ZoneInfo("UTC")
# A hundred years: what is more is a slip of the hand.
MOST_DAYS = 36_500


class HistoryStatus(StrEnum):
    """How a chain of login attempts ended."""

    SUCCESS = "success"
    FAILED = "failed"
    TIMEOUT = "timeout"
    NETWORK_ERROR = "network_error"
    CAPTCHA_ERROR = "captcha_error"
    CREDENTIAL_ERROR = "credential_error"


class Grouping(StrEnum):
    """What the statistics can be broken down by."""

    STATUS = "status"
    SITE = "site"
    ACCOUNT = "account"
    DAY = "day"
    HOUR = "hour"


@dataclass(frozen=True, slots=True, kw_only=True)
class AcquisitionRecord:
    """One finished chain of attempts. Slugs, not keys: a record outlives what it names.

    Times are aware datetimes. `total_s` runs from the request to its end, `login_s` is the part
    spent logging in (None: no login was made). `token_fingerprint` names the token and never is
    the token.
    """

    request_id: UUID
    site: str
    account: str
    status: HistoryStatus
    trigger_reason: str
    queue: str
    attempts: int
    retries: int
    total_s: float
    login_s: float | None
    token_fingerprint: str
    error_code: str
    error_message: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The question to `statistics`: records that finished in [start, end), in a time zone.

    `site` and `account` narrow it ("" means all). `groups` are the breakdowns wanted. Days and
    hours in the answer are those of `zone`.
    """

    start: datetime
    end: datetime
    zone: ZoneInfo = UTC_ZONE
    site: str = ""
    account: str = ""
    groups: frozenset[Grouping] = frozenset(
        {Grouping.STATUS, Grouping.SITE, Grouping.ACCOUNT, Grouping.DAY}
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Percentiles:
    """Seconds; each within 2.5 % of the true value. None where there is nothing to measure."""

    p50_s: float | None = None
    p95_s: float | None = None
    p99_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Exact figures of some records. Times in seconds, to the millisecond."""

    total: int = 0
    success: int = 0
    attempts: int = 0
    retries: int = 0
    total_s_sum: float = 0.0
    total_s_min: float | None = None
    total_s_max: float | None = None
    logins: int = 0
    login_s_sum: float = 0.0
    login_s_min: float | None = None
    login_s_max: float | None = None

    @property
    def failed(self) -> int:
        """Every record that is not a success."""
        return self.total - self.success

    @property
    def success_rate(self) -> float | None:
        """Between 0 and 1; None without records."""
        return self.success / self.total if self.total else None

    @property
    def total_s_mean(self) -> float | None:
        return self.total_s_sum / self.total if self.total else None

    @property
    def login_s_mean(self) -> float | None:
        return self.login_s_sum / self.logins if self.logins else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """One line of a breakdown.

    `key` is the status, the site, the account's slug, the local day (2026-03-01) or the local
    hour with its offset (2026-03-01T14:00+08:00). `site` is given for accounts only.
    """

    key: str
    figures: Figures
    site: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """The answer: the whole, its percentiles, and the breakdowns that were asked for."""

    window: Window
    summary: Figures
    total_percentiles: Percentiles
    login_percentiles: Percentiles
    groups: Mapping[Grouping, tuple[Group, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanupProgress:
    """Given to `on_progress` after each batch; `total` is what was counted at the start.

    What is `archived` is on the disk and not deleted yet; on PostgreSQL that may be a month.
    """

    deleted: int
    total: int
    archived: int = 0

    @property
    def done(self) -> int:
        """How far it is; with an archive most of the work is done when a row is in it."""
        return min(max(self.deleted, self.archived), self.total)


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanupReport:
    """What a clean-up did, or would do (`dry_run`): then `deleted` stays 0 and `matched` counts."""

    cutoff: datetime
    dry_run: bool
    matched: int
    deleted: int = 0
    archived: int = 0
    archive: Path | None = None
    partitions_dropped: tuple[str, ...] = ()
    batches: int = 0
    longest_batch_s: float = 0.0
    took_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreReport:
    """What came back from an archive; `present` were already in the table.

    `cut` says that its last chunk has no end; nothing of that one is in the numbers.
    """

    path: Path
    read: int
    restored: int
    present: int
    cut: bool
