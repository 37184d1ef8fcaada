"""What happens, as measurements: one function for each kind, called in one line where it happens.

The names below are what statistics, exports, alerts and tuning ask for. Times are in seconds.
"""

import re
from typing import Final

from apps.common import measure

# Counts.
ACQUISITIONS: Final = "acquisitions"  # by site; label: how it ended
LOGINS: Final = "logins"  # by site; label: "ok" or the error's code
HAND_OUTS: Final = "hand_outs"  # by site; label: "cached" or "login"
ERROR_TYPES: Final = "error_types"  # label: one of the six types of error
ERROR_CODES: Final = "error_codes"  # label: the finer code of what was answered
ANSWERS: Final = "answers"  # label: "2xx", "4xx", "5xx"
CACHE_INCIDENTS: Final = "cache_incidents"  # label: what happened to the shared cache
# Durations.
TOTAL_S: Final = "total_s"  # from asking to the end, by site
LOGIN_S: Final = "login_s"  # of one login, by site; label: "ok" or "failed"
QUEUE_WAIT_S: Final = "queue_wait_s"  # from asking to the first login, by site
STORE_S: Final = "store_s"  # writing a token and all that goes with it
RETRIEVE_S: Final = "retrieve_s"  # finding a token that is there
API_S: Final = "api_s"  # label: method and route
WAITED_S: Final = "waited_s"  # answers of the route whose callers wait as long as they like
# Of monitored functions; label: name, and for errors `name|class`.
CALLS: Final = "calls"
CALL_ERRORS: Final = "call_errors"
CALL_S: Final = "call_s"
# Of the machine; label: host. Percent.
CPU: Final = "host_cpu_percent"
MEMORY: Final = "host_memory_percent"
# Of our processes; label: role.
RSS_BYTES: Final = "process_rss_bytes"
PROCESS_CPU: Final = "process_cpu_percent"
OPEN_FILES: Final = "process_open_files"
# Of what all processes share.
DATABASE_CONNECTIONS: Final = "database_connections"
DATABASE_MS: Final = "database_ms"
QUEUE_DEPTH: Final = "queue_depth"  # requests that wait
IN_FLIGHT: Final = "in_flight"  # logins being made

CANCELLED: Final = "cancelled"
_ACQUIRE: Final = "/tokens/acquire"
_ID: Final = re.compile(r"/(?:\d+|[0-9a-fA-F-]{32,36})(?=/|$)")


def acquisition_ended(
    *, site: str, status: str, total_s: float, queue_wait_s: float | None = None
) -> None:
    """A request ended; `status` is that of its history, or CANCELLED."""
    measure.count(ACQUISITIONS, site=site, label=str(status))
    if status == CANCELLED:
        return
    measure.observe(TOTAL_S, total_s, site=site)
    if queue_wait_s is not None:
        measure.observe(QUEUE_WAIT_S, queue_wait_s, site=site)


def login_ended(*, site: str, took_s: float, error_type: str = "", code: str = "") -> None:
    """One login (or refresh) ended; without `code` it gave a token."""
    measure.count(LOGINS, site=site, label=code or "ok")
    measure.observe(LOGIN_S, took_s, site=site, label="failed" if code else "ok")
    if code:
        measure.count(ERROR_TYPES, label=str(error_type))


def handed_out(*, site: str, cached: bool, took_s: float | None = None) -> None:
    """A token left for a caller; `cached` says that no login was waited for.

    `took_s` is the time to find it, for one that was there already.
    """
    measure.count(HAND_OUTS, site=site, label="cached" if cached else "login")
    if took_s is not None:
        measure.observe(RETRIEVE_S, took_s, site=site)


def problem_answered(*, error_type: str, code: str) -> None:
    """A caller was told of an error."""
    measure.count(ERROR_TYPES, label=str(error_type))
    measure.count(ERROR_CODES, label=code)


def cache_incident(*, reason: str) -> None:
    """A process found the shared cache failing, wiped, restarted or unreadable."""
    measure.count(CACHE_INCIDENTS, label=reason)


def request_answered(*, method: str, route: str, status: int, took_s: float) -> None:
    """An API request was answered; `route` is a pattern or a path, ids in it are left out."""
    measure.count(ANSWERS, label=f"{status // 100}xx")
    route = _ID.sub("/{id}", "/" + route.lstrip("/"))
    # Its callers say how long they are willing to wait: that is not our slowness.
    metric = WAITED_S if route.endswith(_ACQUIRE) else API_S
    measure.observe(metric, took_s, label=f"{method} {route}")
