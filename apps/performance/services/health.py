"""How the whole installation is: open alerts and live checks as one word, with reasons.

`healthy`; `warning` while the worst reason is low, `degraded` medium, `unhealthy` high.
"""

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from apps.access.services import knows_somebody
from apps.caching import services as cache
from apps.caching.runtime import current as cache_runtime
from apps.common import clock
from apps.common.database import is_unavailable, ping
from apps.common.errors import BrokerError
from apps.common.redaction import redact_text
from apps.performance.models import Alert
from apps.performance.models.alerts import Severity
from apps.performance.services.health_checks import (
    AuditCheck,
    CacheCheck,
    Check,
    ClockCheck,
    DatabaseCheck,
    DiskCheck,
    Facts,
    Reason,
    Unwell,
    reason,
)
from apps.performance.services.health_selection import SelectionCheck
from apps.performance.services.health_stored import KeysCheck, MigrationsCheck
from apps.performance.services.health_workers import QueueCheck, WorkersCheck

log = structlog.stdlib.get_logger(__name__)

STATUS: Final = {
    Severity.LOW: "warning",
    Severity.MEDIUM: "degraded",
    Severity.HIGH: "unhealthy",
}
HEALTHY: Final = "healthy"
# What cannot change without a restart or a person's work is not asked for at every probe.
READY_FOR_S: Final = 60.0
NOT_READY_FOR_S: Final = 1.0
# How old the report may be that a program gets: a hundred who ask at once are told the same.
REPORT_FOR_S: Final = 1.0
# A server that hangs says nothing; who balances load should hear before it gives up.
ANSWER_S: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """`status` is `ok`, `failed`, or `skipped` where the database it needs is away."""

    name: str
    status: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    reasons: tuple[Reason, ...] = ()
    took_ms: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthReport:
    """The worst reason gives the status; the reasons are sorted, the worst first."""

    status: str
    reasons: tuple[Reason, ...]
    checks: tuple[CheckResult, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """Whether this process can hand out tokens, and the codes of what keeps it from that."""

    ready: bool
    reasons: tuple[str, ...]


class Remembered:
    """The last result of a check whose answer lasts; a good one longer than a bad one."""

    def __init__(self, one: Check, *, run: Callable[[Check], CheckResult] | None = None) -> None:
        self.name, self.needs_database = one.name, one.needs_database
        self._check, self._run = one, run
        self._lock = threading.Lock()
        self._kept: tuple[float, CheckResult] | None = None

    def result(self) -> CheckResult:
        """Return what was found at most a minute ago, a second if it was bad."""
        with self._lock:
            now = clock.monotonic()
            if self._kept is None or now >= self._kept[0]:
                found = (self._run or _run)(self._check)
                self._kept = (now + (NOT_READY_FOR_S if found.reasons else READY_FOR_S), found)
            return self._kept[1]

    def forget(self) -> None:
        """Ask again next time."""
        self._kept = None


_MIGRATIONS: Final = Remembered(MigrationsCheck())
_KEYS: Final = Remembered(KeysCheck())
CHECKS: Final[tuple[Check | Remembered, ...]] = (
    DatabaseCheck(),
    CacheCheck(),
    QueueCheck(),
    WorkersCheck(),
    DiskCheck(),
    AuditCheck(),
    ClockCheck(),
    _KEYS,
    _MIGRATIONS,
    SelectionCheck(),
)


def check(checks: Iterable[Check | Remembered] = CHECKS) -> HealthReport:
    """Run all checks, one after the other, and look at the open alerts. Raises nothing."""
    results: list[CheckResult] = []
    database = True
    for one in checks:
        result = _result(one) if database or not one.needs_database else _skipped(one)
        database = database and not any(r.code == "database_down" for r in result.reasons)
        results.append(result)
    if database:
        results.append(_run(AlertsCheck()))
    found = sorted(
        (each for result in results for each in result.reasons),
        key=lambda each: (-each.severity, each.code),
    )
    status = STATUS[found[0].severity] if found else HEALTHY
    return HealthReport(status=status, reasons=tuple(found), checks=tuple(results))


class Recent:
    """The newest report of this process, made by one of those who ask for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: tuple[float, HealthReport] | None = None

    def report(self) -> HealthReport:
        """Return a report that is at most a second old."""
        with self._lock:
            if self._kept is None or clock.monotonic() >= self._kept[0]:
                found = check()
                self._kept = (clock.monotonic() + REPORT_FOR_S, found)
            return self._kept[1]

    def forget(self) -> None:
        """Look again next time."""
        self._kept = None


RECENT: Final = Recent()


def readiness() -> Readiness:
    """Say whether this process can serve tokens: for load balancers, quick, and keeps nothing.

    None leaves without its line in the audit. With the database away others can while a key is
    known here that may still be let in, and Redis answers or this process holds tokens itself.
    """
    away = [each.code for each in _run(_PingCheck()).reasons]
    lasting = () if away else (_MIGRATIONS.result(), _KEYS.result())
    missing = [each.code for result in (_run(AuditCheck()), *lasting) for each in result.reasons]
    ready = not missing and (not away or _serves_without_database())
    return Readiness(ready=ready, reasons=(*missing, *away))


@dataclass(frozen=True, slots=True)
class AlertsCheck:
    """Alerts that nobody and nothing has resolved; acknowledged ones are still true."""

    name: str = "alerts"
    needs_database: bool = True

    def run(self) -> Facts:
        rows = Alert.objects.unresolved().order_by("-severity", "opened_at")[:100]
        found = [
            reason(
                "alert",
                Severity(row.severity),
                f"{row.rule_name}{' at ' + row.site if row.site else ''}: {row.value:g}",
            )
            for row in rows
        ]
        if found:
            raise Unwell(*found, facts={"open": len(found)})
        return {"open": 0}


@dataclass(frozen=True, slots=True)
class _PingCheck:
    """The database answers a reader."""

    name: str = "database"
    needs_database: bool = False

    def run(self) -> Facts:
        ping(within_s=ANSWER_S)
        return {}


def _result(one: Check | Remembered) -> CheckResult:
    return one.result() if isinstance(one, Remembered) else _run(one)


def _run(one: Check) -> CheckResult:
    began = clock.monotonic()
    facts: dict[str, Any] = {}
    found: tuple[Reason, ...] = ()
    try:
        facts = dict(one.run())
    except Unwell as unwell:
        facts, found = unwell.facts, unwell.reasons
    except Exception as error:  # noqa: BLE001 - _failure logs what nobody foresaw
        found = (_failure(one, error),)
    took_ms = round((clock.monotonic() - began) * 1000, 1)
    status = "failed" if found else "ok"
    return CheckResult(name=one.name, status=status, facts=facts, reasons=found, took_ms=took_ms)


def _failure(one: Check, error: Exception) -> Reason:
    """Tell a check that broke: it must not make a sick system look well, nor hide the others."""
    if is_unavailable(error):
        text = f"The database does not answer: {type(error).__name__}."
        return reason("database_down", Severity.HIGH, text)
    log.exception("health_check_failed", check=one.name)
    words = error.message if isinstance(error, BrokerError) else type(error).__name__
    text = redact_text(f"The check {one.name} failed: {words}.")
    return reason(f"{one.name}_failed", Severity.HIGH, text)


def _skipped(one: Check | Remembered) -> CheckResult:
    return CheckResult(name=one.name, status="skipped")


def _serves_without_database() -> bool:
    return knows_somebody() and (cache.health().status == "ok" or _holds_tokens())


def _holds_tokens() -> bool:
    space = cache_runtime().spaces.get("tokens")
    return space is not None and space.spares(clock.monotonic())
