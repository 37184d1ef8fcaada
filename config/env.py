"""Typed readers for settings that come from the environment.

Every reader names its variable, its default and its range in one line. A bad value is an
`ImproperlyConfigured` that says what was read and what is allowed; a secret is never repeated.
`NAME_FILE` may point to a file that holds the value, for secrets mounted by an orchestrator.
"""

import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final
from urllib.parse import quote

from django.core.exceptions import ImproperlyConfigured

TRUE: Final = {"1", "true", "yes", "on"}
FALSE: Final = {"0", "false", "no", "off", ""}

# Every variable read so far; a test compares it with docs/configuration.md.
known: set[str] = set()
# Default and range of those that are numbers; the same test compares these too.
numbers: dict[str, tuple[float, str]] = {}


def text(name: str, default: str | None = None) -> str:
    """Return the variable, or the content of the file that `<name>_FILE` names.

    Without a default the variable is required, and an empty one counts as missing: raises
    ImproperlyConfigured.
    """
    value = _read(name)
    if value is None:
        value = default
    if value is None or (value == "" and default is None):
        raise ImproperlyConfigured(f"Set {name} (or {name}_FILE); see docs/configuration.md.")
    return value


def number(
    name: str, default: float, *, minimum: float | None = None, maximum: float | None = None
) -> float:
    """Return the variable as a float inside [minimum, maximum]."""
    numbers[name] = (default, _range(minimum, maximum))
    value = _read(name)
    if value is None or value == "":
        return default
    try:
        parsed = float(value)
    except ValueError:
        raise ImproperlyConfigured(f"{name} must be a number.") from None
    if not math.isfinite(parsed):  # NaN would pass any comparison below
        raise ImproperlyConfigured(f"{name} must be a finite number.")
    if (minimum is not None and parsed < minimum) or (maximum is not None and parsed > maximum):
        raise ImproperlyConfigured(f"{name} is {parsed:.12g}; allowed: {_range(minimum, maximum)}.")
    return parsed


def integer(
    name: str, default: int, *, minimum: int | None = None, maximum: int | None = None
) -> int:
    """Return the variable as a whole number inside [minimum, maximum]."""
    parsed = number(name, default, minimum=minimum, maximum=maximum)
    if parsed != int(parsed):
        raise ImproperlyConfigured(f"{name} must be a whole number.")
    return int(parsed)


def seconds(
    name: str, default: float, *, minimum: float = 0, maximum: float | None = None
) -> float:
    """Return a duration in seconds."""
    return number(name, default, minimum=minimum, maximum=maximum)


def flag(name: str, default: bool) -> bool:
    """Return a yes/no variable."""
    value = _read(name)
    if value is None:
        return default
    if value.lower() in TRUE:
        return True
    if value.lower() in FALSE:
        return False
    raise ImproperlyConfigured(f"{name} must be yes or no.")


def choice(name: str, default: str, *, allowed: Iterable[str]) -> str:
    """Return one of the allowed words."""
    value = text(name, default)
    if value not in (words := sorted(allowed)):
        raise ImproperlyConfigured(f"{name} must be one of: {', '.join(words)}.")
    return value


def words(name: str, default: str = "") -> list[str]:
    """Return a comma separated list without empty items."""
    return [item.strip() for item in text(name, default).split(",") if item.strip()]


def pairs(name: str) -> dict[str, str]:
    """Return a comma separated list of `key=value` as a dictionary."""
    found: dict[str, str] = {}
    for item in words(name):
        key, separator, value = item.partition("=")
        if not separator or not key.strip() or not value.strip():
            raise ImproperlyConfigured(f"{name} must be a list of key=value.")
        found[key.strip()] = value.strip()
    return found


def redis_url() -> str:
    """Return REDIS_URL, or one made of REDIS_HOST, REDIS_PORT, REDIS_DB and REDIS_PASSWORD.

    Empty where neither REDIS_URL nor REDIS_HOST is set: this software runs without Redis.
    """
    url, host = text("REDIS_URL", ""), text("REDIS_HOST", "")
    port = integer("REDIS_PORT", 6379, minimum=1, maximum=65_535)
    database = integer("REDIS_DB", 0, minimum=0)
    password = text("REDIS_PASSWORD", "")
    if url or not host:
        return url
    login = f":{quote(password, safe='')}@" if password else ""
    return f"redis://{login}{host}:{port}/{database}"


def traces_endpoint() -> str:
    """Return where traces go: OTEL_EXPORTER_OTLP_TRACES_ENDPOINT as it is, or the path that the
    OTLP specification gives them below OTEL_EXPORTER_OTLP_ENDPOINT. Empty: nowhere.
    """
    whole = text("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "")
    base = text("OTEL_EXPORTER_OTLP_ENDPOINT", "")
    found = whole or (f"{base.rstrip('/')}/v1/traces" if base else "")
    if found and not found.startswith(("http://", "https://")):
        raise ImproperlyConfigured("Traces go over HTTP: their endpoint begins with http or https.")
    return found


def _read(name: str) -> str | None:
    known.add(name)
    value = os.environ.get(name)
    if value:
        return value
    if path := os.environ.get(f"{name}_FILE"):
        try:
            return Path(path).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ImproperlyConfigured(
                f"{name}_FILE cannot be read: {error.strerror}: {path}"
            ) from error
        except UnicodeDecodeError:
            # The exception holds the file's bytes, so it must not be chained.
            raise ImproperlyConfigured(f"{name}_FILE is not UTF-8: {path}") from None
    return value


def _range(minimum: float | None, maximum: float | None) -> str:
    low, high = ("" if bound is None else f"{bound:.12g}" for bound in (minimum, maximum))
    if low and high:
        return f"{low} to {high}"
    return f"at least {low}" if low else f"at most {high}" if high else "any number"
