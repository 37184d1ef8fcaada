"""Refresh tokens, accepted by lineage.

A rotating site makes the old refresh token void the moment it answers. So the new one is written
by compare-and-swap on its parent's fingerprint, whatever has happened to the attempt's fence: a
late worker may hold the only valid one. Before it is sent, the sending is journaled; a refresh
whose answer never came is in doubt and not blindly repeated. What cannot be repaired: a crash
after the site has rotated and before its answer has arrived; then a full login is needed.
"""

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from django.db import transaction
from django.db.models import F

from apps.common.clock import database_now
from apps.common.crypto import fingerprint
from apps.tokens.contracts import LoginGrant
from apps.tokens.models import Account, RefreshToken


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """The refresh token to send, and the fingerprint its child will name as parent."""

    secret: str = field(repr=False)
    fingerprint: str


def current(account_id: UUID) -> Lineage | None:
    """Return the refresh token that may be sent; None if there is none, or it is in doubt."""
    row = RefreshToken.objects.filter(account_id=account_id, rejected_at=None, sent_by=None).first()
    if row is None or (row.expires_at and row.expires_at <= database_now()):
        return None
    return Lineage(secret=row.secret["token"], fingerprint=row.fingerprint)


def journal(account_id: UUID, lineage: Lineage, *, attempt_id: UUID) -> bool:
    """Commit that this attempt is about to send it; False if somebody else has it."""
    return bool(
        RefreshToken.objects.filter(
            account_id=account_id,
            fingerprint=lineage.fingerprint,
            sent_by=None,
            rejected_at=None,
        ).update(sent_by=attempt_id, sent_at=database_now())
    )


def release(account_id: UUID, lineage: Lineage) -> None:
    """Note that the site answered without taking it: it may be sent again."""
    RefreshToken.objects.filter(account_id=account_id, fingerprint=lineage.fingerprint).update(
        sent_by=None, sent_at=None
    )


def accept(account_id: UUID, lineage: Lineage, grant: LoginGrant) -> bool:
    """Store what a refresh gave, before its access token is handed to anybody.

    An answer without a refresh token keeps the old one. Returns False if the stored token is not
    the parent any more, which means that a newer line has replaced it.
    """
    with transaction.atomic():
        rows = RefreshToken.objects.filter(account_id=account_id, fingerprint=lineage.fingerprint)
        if grant.refresh_token is None or grant.refresh_token == lineage.secret:
            return bool(rows.update(sent_by=None, sent_at=None))
        row = rows.select_for_update().first()
        if row is None:
            return False
        sealed = RefreshToken._meta.get_field("secret").seal(row, {"token": grant.refresh_token})
        return bool(
            rows.update(
                secret=sealed,
                fingerprint=_mark(grant.refresh_token),
                parent_fingerprint=lineage.fingerprint,
                generation=F("generation") + 1,
                expires_at=grant.refresh_expires_at,
                stored_at=database_now(),
                sent_by=None,
                sent_at=None,
            )
        )


def reject(account_id: UUID, lineage: Lineage) -> Lineage | None:
    """Note that the site refused it; return a newer one if another worker stored it meanwhile."""
    changed = RefreshToken.objects.filter(
        account_id=account_id, fingerprint=lineage.fingerprint
    ).update(rejected_at=database_now())
    return None if changed else current(account_id)


def start_lineage(account: Account, grant: LoginGrant, *, at: datetime) -> None:
    """Store the refresh token of a full login; inside the transaction that stores its token."""
    if grant.refresh_token is None:
        return
    row = RefreshToken.objects.filter(account=account).first() or RefreshToken(account=account)
    row.secret = {"token": grant.refresh_token}
    row.fingerprint = _mark(grant.refresh_token)
    row.parent_fingerprint = ""
    row.generation = 1
    row.expires_at = grant.refresh_expires_at
    row.stored_at = at
    row.sent_by = row.sent_at = row.rejected_at = None
    row.save()


def _mark(secret: str) -> str:
    return fingerprint(secret.encode(), purpose="refresh-token")
