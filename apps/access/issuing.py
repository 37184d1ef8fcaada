"""Making and revoking keys, and writing down who did."""

import getpass
from collections.abc import Collection
from datetime import datetime
from typing import Any

import structlog
from django.conf import settings
from django.db import transaction

from apps.access import audit, keytext
from apps.access.contracts import AuditKind, AuditRecord, Grant, Principal, Scope
from apps.access.keycache import CACHE
from apps.access.models import ApiKey, SiteGrant
from apps.common import clock
from apps.common.errors import NotPermitted, ValidationFailed
from apps.common.request_context import current_request_id

log = structlog.get_logger(__name__)


def issue_key(
    *,
    user_id: int,
    name: str,
    scopes: Collection[str] = (),
    grants: Collection[Grant] = (),
    expires_at: datetime | None = None,
    rate_limit_per_minute: int | None = None,
    issuer: Principal | None,
    remote_address: str = "",
) -> tuple[ApiKey, str]:
    """Make a key and return its row and its text; the text is not kept anywhere.

    `issuer` None is an operator at the command line, who may give anything. Raises NotPermitted
    if the issuer would give more than it holds; ValidationFailed; AuditUnavailable.
    """
    check_issuable(
        issuer=issuer,
        scopes=scopes,
        grants=grants,
        expires_at=expires_at,
        rate_limit_per_minute=rate_limit_per_minute,
    )
    raw, text = keytext.generate()
    with transaction.atomic():
        key = ApiKey.objects.create(
            user_id=user_id,
            name=name,
            prefix=text.prefix,
            digest=text.digest,
            scopes=sorted({str(scope) for scope in scopes}),
            expires_at=expires_at,
            rate_limit_per_minute=rate_limit_per_minute,
        )
        SiteGrant.objects.bulk_create(
            SiteGrant(key=key, site=grant.site, account=grant.account, label=grant.label)
            for grant in dict.fromkeys(grants)
        )
        # Inside: a key that could not be written down is not made.
        _write_down(AuditKind.KEY_ISSUED, key, issuer, remote_address)
    log.info("key_issued", prefix=key.prefix, name=key.name, user=key.user_id)
    return key, raw


def revoke_key(key: ApiKey, *, by: Principal | None, remote_address: str = "") -> bool:
    """Revoke a key for good; other processes follow within LATCHKEY_L1_MAX_AGE_S.

    Returns False if it was revoked before; the first time stands. `by` None is an operator at
    the command line. Raises AuditUnavailable after the key is revoked.
    """
    changed = ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=clock.now())
    CACHE.forget(key.digest)
    if changed:
        log.info("key_revoked", prefix=key.prefix, name=key.name)
        _write_down(AuditKind.KEY_REVOKED, key, by, remote_address)
    return changed == 1


def check_issuable(
    *,
    issuer: Principal | None,
    scopes: Collection[str],
    grants: Collection[Grant],
    expires_at: datetime | None,
    rate_limit_per_minute: int | None,
    **_others: Any,
) -> None:
    """Raise ValidationFailed or NotPermitted if `issue_key` would not make this key."""
    unknown = sorted(set(scopes) - set(Scope))
    if unknown:
        raise ValidationFailed("There is no such scope.", details={"scopes": unknown})
    if expires_at is not None and expires_at <= clock.now():
        raise ValidationFailed("The key would have expired already.")
    if rate_limit_per_minute is not None and rate_limit_per_minute < 1:
        raise ValidationFailed("A rate limit is at least 1 a minute.")
    if issuer is not None:
        _check_within(issuer, scopes, grants)
        _check_no_longer_nor_faster(issuer, expires_at, rate_limit_per_minute)


def _check_within(issuer: Principal, scopes: Collection[str], grants: Collection[Grant]) -> None:
    extra = sorted(set(scopes) - issuer.scopes)
    if extra:
        raise NotPermitted("You cannot give scopes you do not hold.", details={"scopes": extra})
    beyond = [grant.site for grant in grants if not issuer.may_give(grant)]
    if beyond:
        raise NotPermitted("You cannot give grants you do not hold.", details={"sites": beyond})


def _check_no_longer_nor_faster(
    issuer: Principal, expires_at: datetime | None, rate_limit_per_minute: int | None
) -> None:
    if issuer.expires_at and (expires_at is None or expires_at > issuer.expires_at):
        raise NotPermitted("The key cannot outlive the key that makes it.")
    default = int(settings.LATCHKEY_RATE_LIMIT_PER_MINUTE)
    wanted = rate_limit_per_minute or default
    if issuer.kind == "key" and wanted > (issuer.rate_limit_per_minute or default):
        raise NotPermitted("The key cannot be faster than the key that makes it.")


def _write_down(kind: AuditKind, key: ApiKey, by: Principal | None, remote_address: str) -> None:
    fields: dict[str, Any] = {
        "kind": kind,
        "request_id": current_request_id(),
        "remote_address": remote_address,
        "details": {"prefix": key.prefix, "name": key.name, "scopes": key.scopes},
    }
    if by is not None:
        audit.record(AuditRecord.by(by, **fields))
        return
    account = getpass.getuser()
    audit.record(
        AuditRecord(
            principal_kind="operator", principal_id=account, principal_name=account, **fields
        )
    )
