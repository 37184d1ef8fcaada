"""Who is asking, and what is written down about it: frozen values, never model instances."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Literal, Self
from uuid import UUID

from apps.common import clock
from apps.common.errors import ValidationFailed
from apps.common.request_context import new_id

ANY_SITE: Final = "*"


class Scope(StrEnum):
    """What a caller may do; for which sites, grants say."""

    TOKENS_READ = "tokens:read"
    REQUESTS_READ = "requests:read"
    SITES_READ = "sites:read"
    SITES_WRITE = "sites:write"
    ACCOUNTS_WRITE = "accounts:write"
    HOSTS_WRITE = "hosts:write"
    OPERATE = "operate"
    EXPORT = "export"
    AUDIT_READ = "audit:read"
    KEYS_WRITE = "keys:write"


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """The tokens of a site, or of some of its accounts.

    `site` is a slug or `*`; `account` a username, `label` a label of accounts, '' for any. With
    both, both must fit.
    """

    site: str
    account: str = ""
    label: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `site`, `site,account` or `site,account,label`. Raises ValidationFailed."""
        parts = [part.strip() for part in text.split(",")]
        if len(parts) > 3 or not parts[0]:
            raise ValidationFailed("A grant is written: site,account,label.")
        site, account, label = (*parts, "", "")[:3]
        return cls(site=site, account=account, label=label)

    def covers(self, *, site: str, account: str, labels: Collection[str] = ()) -> bool:
        """Say whether this account of this site is inside the grant."""
        return (
            self.site in (ANY_SITE, site)
            and self.account in ("", account)
            and (not self.label or self.label in labels)
        )

    def within(self, other: "Grant") -> bool:
        """Say whether everything this grant gives, `other` gives too."""
        return (
            other.site in (ANY_SITE, self.site)
            and other.account in ("", self.account)
            and other.label in ("", self.label)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """A caller whose key or session was checked.

    `id` is the key's UUID or the user's primary key, `name` the key's name or the username,
    `prefix` the shown part of the key ('' for people). `rate_limit_per_minute` None means the
    installation's default.
    """

    kind: Literal["key", "user"]
    id: str
    name: str
    user_id: int
    username: str = ""
    prefix: str = ""
    scopes: frozenset[str] = frozenset()
    grants: tuple[Grant, ...] = ()
    rate_limit_per_minute: int | None = None
    expires_at: datetime | None = None

    def may_read(self, *, site: str, account: str, labels: Collection[str] = ()) -> bool:
        """Say whether a grant covers this account. The scope is asked for apart, with `require`.

        For "any account of the site" pass account='': only a grant without account and label
        covers that.
        """
        return any(grant.covers(site=site, account=account, labels=labels) for grant in self.grants)

    def may_read_site(self, site: str) -> bool:
        """Say whether any grant concerns the site, be it for one account of it."""
        return any(grant.site in (ANY_SITE, site) for grant in self.grants)

    def has(self, scope: str) -> bool:
        """Say whether the caller holds the scope."""
        return scope in self.scopes

    def may_give(self, grant: Grant) -> bool:
        """Say whether one of the caller's own grants contains this one."""
        return any(grant.within(own) for own in self.grants)


class AuditKind(StrEnum):
    """What was done."""

    HAND_OUT = "hand_out"
    VIEW = "view"
    EXPORT = "export"
    REPORT = "report"
    REVOKE = "revoke"
    ALLOW_ATTEMPT = "allow_attempt"
    SETTINGS = "settings"
    KEY_ISSUED = "key_issued"
    KEY_REVOKED = "key_revoked"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRecord:
    """One line of the audit: who did what to which account's token, and what for.

    `token_fingerprint` names the token and never holds a part of it; `cached` is None where it
    means nothing. `details` is a flat mapping of JSON values; values under a name that sounds
    like a secret are replaced before they are written.
    """

    kind: str
    principal_kind: str
    principal_id: str
    principal_name: str
    key_prefix: str = ""
    site: str = ""
    account: str = ""
    token_fingerprint: str = ""
    cached: bool | None = None
    purpose: str = ""
    request_id: str = ""
    remote_address: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
    at: datetime = field(default_factory=clock.now)
    uuid: UUID = field(default_factory=new_id)

    @classmethod
    def by(cls, principal: Principal, *, kind: str, **fields: Any) -> Self:
        """Make a record of something this caller does."""
        return cls(
            kind=kind,
            principal_kind=principal.kind,
            principal_id=principal.id,
            principal_name=principal.name,
            key_prefix=principal.prefix,
            **fields,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportReport:
    """What one import of audit journals did.

    `skipped` is True where another import was running. `torn` counts last lines that were cut
    off before they were complete, `rejected` complete lines that are no audit record.
    """

    files: int = 0
    imported: int = 0
    duplicates: int = 0
    torn: int = 0
    rejected: int = 0
    skipped: bool = False
