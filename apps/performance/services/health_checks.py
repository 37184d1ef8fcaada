"""What health looks at: the shape of a check, and those of the machine and its stores.

A check is a small value whose `run` returns facts, or raises Unwell. Facts are plain data for
people. A check that fails in a way nobody foresaw is unwell too.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from django.conf import settings
from django.db import connection, transaction

from apps.access import journal
from apps.caching import services as cache
from apps.common import clock
from apps.performance.models import Turn
from apps.performance.models.alerts import Severity

Facts = Mapping[str, Any]
PROBE: Final = "health.write"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """One thing that is wrong: a short code, how bad it is, a sentence."""

    code: str
    severity: Severity
    message: str


class Unwell(Exception):
    """Something is wrong; `facts` are what was found all the same."""

    def __init__(self, *reasons: Reason, facts: Facts | None = None) -> None:
        self.reasons, self.facts = reasons, dict(facts or {})
        super().__init__("; ".join(reason.message for reason in reasons))


class Check(Protocol):
    """A check's name, whether it needs the database, and what it does."""

    @property
    def name(self) -> str: ...
    @property
    def needs_database(self) -> bool: ...
    def run(self) -> Facts: ...


def reason(code: str, severity: Severity, message: str) -> Reason:
    """Make a reason."""
    return Reason(code=code, severity=severity, message=message)


@dataclass(frozen=True, slots=True)
class DatabaseCheck:
    """It answers, and takes a write (which is taken back)."""

    name: str = "database"
    needs_database: bool = False
    slow_ms: float = 500.0

    def run(self) -> Facts:
        began = clock.monotonic()
        with transaction.atomic():
            Turn.objects.update_or_create(pk=PROBE, defaults={"due_at": clock.now()})
            transaction.set_rollback(True)
        took_ms = round((clock.monotonic() - began) * 1000, 1)
        facts = {"vendor": connection.vendor, "write_ms": took_ms}
        if took_ms > self.slow_ms:
            text = f"A write to the database took {took_ms:.0f} ms."
            raise Unwell(reason("database_slow", Severity.LOW, text), facts=facts)
        return facts


@dataclass(frozen=True, slots=True)
class CacheCheck:
    """Redis, where there is one. Without it everything works, only slower."""

    name: str = "cache"
    needs_database: bool = False

    def run(self) -> Facts:
        found = cache.health()
        facts = {
            "status": found.status,
            "reasons": list(found.reasons),
            "incidents": dict(found.incidents),
        }
        if found.status == "degraded":
            text = f"The shared cache is degraded: {', '.join(found.reasons)}."
            raise Unwell(reason("cache_degraded", Severity.LOW, text), facts=facts)
        return facts


@dataclass(frozen=True, slots=True)
class DiskCheck:
    """The data folder has room, and the audit's, if it is elsewhere; the fuller one counts."""

    name: str = "disk"
    needs_database: bool = False
    low_percent: float = 10.0
    none_percent: float = 2.0

    def run(self) -> Facts:
        folders = {"data folder": settings.DATA_DIR, "audit": settings.LATCHKEY_AUDIT_DIR}
        usages = {
            name: shutil.disk_usage(folder) for name, folder in folders.items() if folder.exists()
        }
        name, usage = min(usages.items(), key=lambda each: each[1].free / each[1].total)
        percent = round(100 * usage.free / usage.total, 1)
        facts = {"free_bytes": usage.free, "free_percent": percent}
        if percent < self.low_percent:
            bad = Severity.HIGH if percent < self.none_percent else Severity.MEDIUM
            text = f"Only {percent:g} % of the disk of the {name} is free."
            raise Unwell(reason("disk_full", bad, text), facts=facts)
        return facts


@dataclass(frozen=True, slots=True)
class AuditCheck:
    """The audit can be written: its line is written before a token leaves."""

    name: str = "audit"
    needs_database: bool = False

    def run(self) -> Facts:
        try:
            journal.probe()
        except journal.AuditUnavailable as error:
            text = f"{error.message} No token leaves until it can."
            raise Unwell(reason(error.code, Severity.HIGH, text)) from error
        return {}


@dataclass(frozen=True, slots=True)
class ClockCheck:
    """This host and the database agree on the time; half of the round trip is not counted."""

    name: str = "clock"
    needs_database: bool = True
    most_s: float = 2.0

    def run(self) -> Facts:
        before, there, after = clock.now(), clock.database_now(), clock.now()
        apart_s = (there - before).total_seconds() - (after - before).total_seconds() / 2
        facts = {"apart_s": round(apart_s, 3)}
        if abs(apart_s) > self.most_s:
            text = f"The clocks of this host and the database are {abs(apart_s):.1f} s apart."
            raise Unwell(reason("clocks_apart", Severity.MEDIUM, text), facts=facts)
        return facts
