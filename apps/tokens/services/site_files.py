"""Sites and accounts as YAML: reading with line numbers, writing without secrets unless asked.

A file is applied whole or not at all. Applying it twice changes nothing the second time; an
account whose entry has no `secrets` keeps the ones it has, and what a file does not name stays.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from io import StringIO
from typing import Any, Final

from django.core.exceptions import ValidationError as FieldErrors
from django.db import transaction
from ruamel.yaml import YAML

from apps.common.errors import ValidationFailed
from apps.common.fields import readable
from apps.tokens.connectors.recipe_text import Document, Path, UnreadableText, read
from apps.tokens.connectors.schema import written
from apps.tokens.errors import InvalidRecipe, RecipeError
from apps.tokens.models import Account, Site
from apps.tokens.services import accounts, sites

MAX_BYTES: Final = 8 * 1024 * 1024
SITE_FIELDS: Final = (
    "slug",
    "name",
    "enabled",
    "connector",
    "allowed_hosts",
    "default_ttl_s",
    "safety_margin_s",
    "refresh_lead_s",
    "login_timeout_s",
    "request_timeout_s",
    "max_concurrent",
    "strategy",
    "hand_out",
    "budget_window_s",
    "budget_per_account",
    "budget_per_site",
    "breaker_open_s",
    "breaker_slow_s",
    "closed_hours",
    "keep_warm",
    "warm_hours",
    "time_zone",
    "user_agent",
    "recipe",
)
ACCOUNT_FIELDS: Final = ("username", "labels", "enabled", "preferred")


class InvalidSiteFile(ValidationFailed):
    """A site file cannot be applied; `details.errors` lists line, path and reason."""

    code = "invalid_site_file"
    default_message = "The site file is not valid."

    def __init__(self, errors: list[dict[str, Any]]) -> None:
        first = errors[0]
        super().__init__(
            f"Line {first['line']}: {first['path']}: {first['reason']}", details={"errors": errors}
        )


@dataclass(slots=True)
class Applied:
    """How many rows a file made, changed, and left alone."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0

    def count(self, what: str) -> None:
        setattr(self, what, getattr(self, what) + 1)


def apply(text: str, *, dry_run: bool = False) -> Applied:
    """Make and change sites and accounts as the YAML says. Raises InvalidSiteFile.

    With `dry_run` everything is checked and counted, and nothing is kept.
    """
    try:
        document = read(text, max_bytes=MAX_BYTES)
    except UnreadableText as error:
        raise InvalidSiteFile([{"line": error.line, "path": "", "reason": str(error)}]) from None
    entries = _list(document, document.value, (), "sites", only=("sites",))
    applied = Applied()
    with transaction.atomic():
        for number, entry in enumerate(entries):
            _apply_site(document, entry, ("sites", number), applied)
        if dry_run:
            transaction.set_rollback(True)
    return applied


def dump(*, slugs: list[str] | None = None, with_secrets: bool = False) -> str:
    """Return sites with their accounts as YAML; all of them without `slugs`.

    Raises ValidationFailed naming a slug that does not exist.
    """
    rows = Site.objects.prefetch_related("accounts").order_by("slug")
    if slugs:
        missing = sorted(set(slugs) - set(rows.values_list("slug", flat=True)))
        if missing:
            raise ValidationFailed(f"There is no site {missing[0]!r}.")
        rows = rows.filter(slug__in=slugs)
    out = StringIO()
    yaml = YAML()
    yaml.width = 100
    yaml.dump({"sites": [_site_entry(site, with_secrets=with_secrets) for site in rows]}, out)
    return out.getvalue()


def _apply_site(document: Document, entry: Any, path: Path, applied: Applied) -> None:
    allowed = (*SITE_FIELDS, "accounts", "proxy")
    _mapping(document, entry, path, allowed, required=("slug", "connector"))
    known = Site.objects.filter(slug=str(entry["slug"])).first()
    site = known or Site()
    values = {name: entry[name] for name in (*SITE_FIELDS, "proxy") if name in entry}
    before = {name: readable(site, name) for name in values}
    for name, value in values.items():
        setattr(site, name, value)
    if known is None or before != values:
        _checked(document, path, site, lambda: sites.save(site))
    applied.count("created" if known is None else "updated" if before != values else "unchanged")
    people = _list(document, entry, path, "accounts") if "accounts" in entry else []
    for number, person in enumerate(people):
        _apply_account(document, site, person, (*path, "accounts", number), applied)


def _apply_account(
    document: Document, site: Site, entry: Any, path: Path, applied: Applied
) -> None:
    allowed = (*ACCOUNT_FIELDS, "secrets")
    _mapping(document, entry, path, allowed, required=("username",))
    secrets = entry.get("secrets")
    if secrets is not None and not _is_texts(secrets):
        raise _wrong(document, (*path, "secrets"), "Must be a mapping of names to texts.")
    known = Account.objects.filter(site=site, username=str(entry["username"])).first()
    account = known or Account(site=site)
    account.site = site
    values = {name: entry[name] for name in ACCOUNT_FIELDS if name in entry}
    before = {name: getattr(account, name) for name in values}
    for name, value in values.items():
        setattr(account, name, value)
    _checked(document, path, account, lambda: None)
    if known is None:
        accounts.create(account, secrets or {})
        applied.count("created")
        return
    new_secrets = None if secrets == (readable(known, "secrets") or {}) else secrets
    if before == values and new_secrets is None:
        applied.count("unchanged")
        return
    accounts.update(account, fields=list(values), secrets=new_secrets)
    applied.count("updated")


def _checked(document: Document, path: Path, row: Site | Account, save: Any) -> None:
    """Check a row's fields and save it; errors name the line of the field."""
    try:
        # Secrets are no matter of fields, and those of a lost key cannot be looked at.
        row.full_clean(["proxy", "secrets"], validate_unique=False, validate_constraints=False)
        save()
    except FieldErrors as error:
        raise InvalidSiteFile(
            [
                _fault(document, (*path, name), " ".join(reasons))
                for name, reasons in error.message_dict.items()
            ]
        ) from None
    except RecipeError as error:  # the connector is not installed
        raise _wrong(document, (*path, "connector"), error.message) from None
    except InvalidRecipe as error:
        raise InvalidSiteFile(recipe_faults(document, (*path, "recipe"), error)) from None
    except ValidationFailed as error:
        raise _wrong(document, path, error.message) from None


def recipe_faults(document: Document, path: Path, error: InvalidRecipe) -> list[dict[str, Any]]:
    """Return a recipe's errors with the lines they have in the text; `path` leads to the recipe."""
    depth = len(path)
    lines = {
        written(place[depth:]): line
        for place, line in document.lines.items()
        if place[:depth] == path
    }
    found = []
    for fault in error.details.get("errors", []):
        place = fault["path"]
        while place not in lines and place:
            place = place[: max(place.rfind("."), place.rfind("["), 0)]
        line = lines.get(place, document.line(path))
        found.append({"line": line, "path": fault["path"], "reason": fault["reason"]})
    return found or [_fault(document, path, error.message)]


def _mapping(
    document: Document, value: Any, path: Path, allowed: tuple[str, ...], required: tuple[str, ...]
) -> None:
    if not isinstance(value, dict):
        raise _wrong(document, path, "Must be a mapping.")
    for name in value:
        if name not in allowed:
            raise _wrong(document, (*path, name), f"Unknown; allowed: {', '.join(allowed)}.")
    for name in required:
        if not value.get(name):
            raise _wrong(document, path, f"{name} is missing.")


def _list(
    document: Document, value: Any, path: Path, name: str, only: tuple[str, ...] = ()
) -> list[Any]:
    if not isinstance(value, dict) or not isinstance(value.get(name), list):
        raise _wrong(document, (*path, name), f"{name} must be a list.")
    for key in value:
        if only and key not in only:
            raise _wrong(document, (*path, key), f"Unknown; allowed: {', '.join(only)}.")
    found: list[Any] = value[name]
    return found


def _is_texts(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(name, str) and isinstance(text, str) for name, text in value.items()
    )


def _wrong(document: Document, path: Path, reason: str) -> InvalidSiteFile:
    return InvalidSiteFile([_fault(document, path, reason)])


def _fault(document: Document, path: Path, reason: str) -> dict[str, Any]:
    return {"line": document.line(path), "path": written(path), "reason": reason}


def _site_entry(site: Site, *, with_secrets: bool) -> Mapping[str, Any]:
    entry: dict[str, Any] = {name: getattr(site, name) for name in SITE_FIELDS}
    if with_secrets and site.proxy:
        entry["proxy"] = site.proxy
    entry["accounts"] = [
        {name: getattr(account, name) for name in ACCOUNT_FIELDS}
        | ({"secrets": account.secrets or {}} if with_secrets else {})
        for account in site.accounts.all()
    ]
    return entry
