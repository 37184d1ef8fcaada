"""What a schema cannot say about a recipe: variables, functions, expressions, names.

Every check yields (path, reason). The recipe has passed the schema before.
"""

import codecs
from collections.abc import Iterator, Mapping
from typing import Any, Final
from zoneinfo import ZoneInfo

from apps.tokens.connectors import expressions, flow
from apps.tokens.connectors.captures import SOURCES
from apps.tokens.connectors.conditions import COMPARISONS
from apps.tokens.connectors.recipe_text import Path
from apps.tokens.connectors.template import TemplateError, roots

Fault = tuple[Path, str]

BODIES: Final = ("form", "json", "body")
EXPIRIES: Final = ("seconds", "iso", "epoch", "jwt", "cookie", "ttl_s")
SINGLES: Final = ("verify", "probe", "health", "keepalive", "logout")


def faults(recipe: Mapping[str, Any]) -> Iterator[Fault]:
    """Yield everything that is wrong, step by step in the order of the run."""
    for path, step in flow.all_steps(recipe):
        yield from _step(step, path)
    yield from _section(recipe, ())
    if "refresh" in recipe:
        yield from _section(recipe["refresh"], ("refresh",))
    for name in SINGLES:
        if name in recipe:
            yield from _single(recipe[name], (name,))
    yield from flow.faults(recipe)


def _section(section: Mapping[str, Any], path: Path) -> Iterator[Fault]:
    names: set[str] = set()
    for at, step in enumerate(section["steps"]):
        if step["name"] in names:
            yield (*path, "steps", at, "name"), f"There are two steps {step['name']!r}."
        names.add(step["name"])
    for at, step in enumerate(section["steps"]):
        yield from _challenges(step, (*path, "steps", at), names)
    if "token" in section:
        yield from _token(section["token"], (*path, "token"))
    for name in ("expiry", "refresh_expiry"):
        if name in section:
            yield from _expiry(section[name], (*path, name))
    yield from expressions.calls(section.get("refresh_token"), (*path, "refresh_token"))
    yield from expressions.calls(section.get("variables", {}), (*path, "variables"), named=True)


def _step(step: Mapping[str, Any], path: Path) -> Iterator[Fault]:
    bodies = [name for name in BODIES if name in step]
    if len(bodies) > 1:
        yield (*path, bodies[1]), f"A request has one body: {' or '.join(bodies)}."
    if "encoding" in step and not _is_codec(step["encoding"]):
        yield (*path, "encoding"), f"{step['encoding']!r} is no character set."
    yield from expressions.calls(step.get("let", {}), (*path, "let"), named=True)
    yield from _captures(step.get("capture", {}), (*path, "capture"))
    for at, condition in enumerate(step.get("success", [])):
        yield from _condition(condition, (*path, "success", at))
    for at, failure in enumerate(step.get("failures", [])):
        yield from _failure(failure, (*path, "failures", at))


def _failure(failure: Mapping[str, Any], path: Path) -> Iterator[Fault]:
    yield from _condition(failure["when"], (*path, "when"))
    if "retry_after" in failure:
        yield from _capture(failure["retry_after"], (*path, "retry_after"))
    if "precise" in failure and failure["is"] != "invalid_credentials":
        yield (*path, "precise"), "Only invalid_credentials can be precise."
    if "challenge" not in failure:
        return
    if failure["is"] != "challenge_needed":
        yield (*path, "challenge"), "A challenge belongs to `is: challenge_needed`."
    challenge = failure["challenge"]
    yield from _captures(challenge.get("capture", {}), (*path, "challenge", "capture"))
    image = challenge.get("image", {})
    if image and "url" not in image:
        yield from _capture(image, (*path, "challenge", "image"))
    elif len(image) > 1:
        yield (*path, "challenge", "image"), "An image comes from a url or from the answer."


def _challenges(step: Mapping[str, Any], path: Path, names: set[str]) -> Iterator[Fault]:
    for at, failure in enumerate(step.get("failures", [])):
        resume = failure.get("challenge", {}).get("resume")
        if resume is not None and resume not in names:
            where = (*path, "failures", at, "challenge", "resume")
            yield where, expressions.did_you_mean(f"There is no step {resume!r}", resume, names)


def _single(step: Mapping[str, Any], path: Path) -> Iterator[Fault]:
    for at, failure in enumerate(step.get("failures", [])):
        if "challenge" in failure:
            yield (*path, "failures", at, "challenge"), "Only a login can ask a person."


def _captures(captures: Mapping[str, Any], path: Path) -> Iterator[Fault]:
    for name, spec in captures.items():
        yield from _capture(spec, (*path, name))


def _capture(spec: Mapping[str, Any], path: Path) -> Iterator[Fault]:
    sources = [name for name in SOURCES if name in spec]
    if not sources:
        yield path, f"A capture needs one of {', '.join(SOURCES)}."
    # A regex may search what another source found.
    if len([name for name in sources if name != "regex"]) > 1:
        yield path, f"A capture has one source, not {' and '.join(sources)}."
    yield from expressions.languages(spec, path)


def _condition(condition: Mapping[str, Any], path: Path) -> Iterator[Fault]:
    compared = [name for name in ("jmespath", "header") if name in condition]
    comparing = [name for name in COMPARISONS if name in condition]
    if len(compared) > 1:
        yield path, "One condition compares one thing; use `all` for more."
    if comparing and not compared:
        yield (*path, comparing[0]), f"`{comparing[0]}` needs jmespath or header beside it."
    yield from expressions.languages(condition, path)
    for group in ("any", "all"):
        for at, inner in enumerate(condition.get(group, [])):
            yield from _condition(inner, (*path, group, at))
    if "not" in condition:
        yield from _condition(condition["not"], (*path, "not"))


def _token(token: Mapping[str, Any], path: Path) -> Iterator[Fault]:
    for name in token.keys() - {"cookies"}:
        yield from expressions.calls(token[name], (*path, name), named=name != "bearer")
    try:
        if "cookies" not in token and not roots(token):
            yield path, "This token captures nothing: no variable and no cookie is in it."
    except TemplateError:
        return  # reported where it stands


def _expiry(expiry: Mapping[str, Any], path: Path) -> Iterator[Fault]:
    kinds = [name for name in EXPIRIES if name in expiry]
    if len(kinds) > 1:
        yield (*path, kinds[1]), f"An expiry comes from one place: {' or '.join(kinds)}."
    if "timezone" in expiry and not _is_zone(expiry["timezone"]):
        yield (*path, "timezone"), f"{expiry['timezone']!r} is no time zone."
    for name in ("seconds", "iso", "epoch", "jwt"):
        if name in expiry:
            yield from expressions.calls(expiry[name], (*path, name))


def _is_codec(name: str) -> bool:
    try:
        # Codecs such as base64 or rot13 are not for texts.
        return bool(codecs.lookup(name)._is_text_encoding)
    except (LookupError, ValueError):
        return False


def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (LookupError, ValueError, OSError):
        return False
    return True
