"""Structured logs: structlog over the standard library, one handler, one redaction.

Every line of every library passes the same formatter, which adds the ids of request and trace,
turns exceptions into text (never with local variables) and removes secrets at the very end.
"""

import logging
import re
import sys
from contextlib import suppress
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, Processor

from apps.common.redaction import redact_item
from apps.common.request_context import current_request_id
from apps.common.tracing import current_trace_id

# They log URLs with query strings, headers or frames at INFO and DEBUG.
TALKATIVE = ("httpx", "httpcore", "hpack", "h11", "urllib3", "websockets", "asyncio", "authlib")
# Made here, and never from anything a stranger sent.
OWN_KEYS = frozenset({"timestamp", "level", "logger", "request_id", "trace_id"})
# Line ends, escape sequences of terminals, and what turns the direction of writing around.
CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


class SafeStreamHandler(logging.StreamHandler[TextIO]):
    """Writes to stderr, and never shows the arguments of a line that could not be written."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Name the place of the broken line; logging's own note would print its arguments raw."""
        kind = (sys.exc_info()[0] or Exception).__name__
        with suppress(OSError, ValueError):
            self.stream.write(f"log line lost: {kind} at {record.pathname}:{record.lineno}\n")


def logging_config(level: str, form: str) -> dict[str, Any]:
    """Return Django's LOGGING for lines of at least `level`, as `console` or `json` on stderr.

    Also configures structlog for this process.
    """
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.add_log_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    quiet = {
        name: {"level": "WARNING"}
        for name in (*TALKATIVE, "uvicorn.access", "django.server", "django-q")
    }
    # Of a collector that is away it speaks at every batch; apps.common.tracing_sdk says it once.
    quiet["opentelemetry"] = {"level": "CRITICAL"}
    # What a caller did wrong is in the access line; Django would add a line, or a traceback.
    quiet["django.request"] = {"level": "ERROR"}
    ours = {"handlers": [], "propagate": True}
    names = ("django", "django.server", "django-q", "uvicorn", "uvicorn.error", "uvicorn.access")
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"redacted": {"()": redacted_formatter, "form": form}},
        "handlers": {
            "stderr": {"()": SafeStreamHandler, "formatter": "redacted"},
        },
        "root": {"handlers": ["stderr"], "level": level},
        "loggers": quiet | {name: {**quiet.get(name, {}), **ours} for name in names},
    }


def redacted_formatter(form: str) -> logging.Formatter:
    """Return the one formatter every handler must use; `form` is `console` or `json`."""
    renderer: Processor = structlog.processors.JSONRenderer(ensure_ascii=False, default=str)
    if form == "console":
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.add_logger_name, structlog.stdlib.add_log_level],
        processors=[
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            add_ids,
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.StackInfoRenderer(),
            structlog.processors.format_exc_info,
            remove_secrets,
            *([keep_on_one_line] if form == "console" else []),
            renderer,
        ],
    )


def add_ids(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Add `request_id` and `trace_id` where there are any."""
    # Django logs failed answers when the request's context is left already.
    request = getattr(event.get("_record"), "request", None)
    for name, current in (("request_id", current_request_id()), ("trace_id", current_trace_id())):
        if found := current or getattr(request, name, ""):
            event.setdefault(name, found)
    return event


def remove_secrets(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Replace everything that is or may be a secret; the last step before rendering."""
    return {
        key: value if key in OWN_KEYS else redact_item(key, value) for key, value in event.items()
    }


def keep_on_one_line(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Escape control characters, so that no path of a stranger writes lines of its own.

    JSON does it by itself; a traceback keeps its lines.
    """
    for key, value in event.items():
        if isinstance(value, str):
            lines = value.split("\n") if key in {"exception", "stack"} else [value]
            event[key] = "\n".join(CONTROLS.sub(_escaped, line) for line in lines)
    return event


def _escaped(match: re.Match[str]) -> str:
    return match.group().encode("unicode_escape").decode()
