"""What the database says about keys and people."""

from collections.abc import Collection
from datetime import datetime
from hmac import compare_digest
from typing import Final

from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AbstractUser, AnonymousUser

from apps.access.contracts import ANY_SITE, Grant, Principal, Scope
from apps.access.keytext import KeyText
from apps.access.models import ApiKey
from apps.common.errors import NotAuthenticated

PERMISSION_OF_SCOPE: Final[dict[Scope, str]] = {
    Scope.TOKENS_READ: "access.read_tokens",
    Scope.REQUESTS_READ: "tokens.view_tokenrequest",
    Scope.SITES_READ: "tokens.view_site",
    Scope.SITES_WRITE: "tokens.change_site",
    Scope.ACCOUNTS_WRITE: "tokens.change_account",
    Scope.HOSTS_WRITE: "access.change_allowed_hosts",
    Scope.OPERATE: "access.operate",
    Scope.EXPORT: "access.export_tokens",
    Scope.AUDIT_READ: "access.view_auditentry",
    Scope.KEYS_WRITE: "access.add_apikey",
}
USE_ANY_SITE: Final = "access.use_any_site"


def usable_key(text: KeyText, *, at: datetime) -> ApiKey | None:
    """Return the row of this key if it may be used now; one query whatever the answer."""
    key = ApiKey.objects.select_related("user").filter(prefix=text.prefix).first()
    matches = compare_digest(key.digest if key else "0" * 64, text.digest)
    if key is None or not matches or key.revoked_at is not None or not key.user.is_active:
        return None
    return None if key.expires_at is not None and key.expires_at <= at else key


def usable_keys(digests: Collection[str], *, at: datetime) -> list[ApiKey]:
    """Return the rows of those of these keys that may be used now; two queries, with grants."""
    keys = ApiKey.objects.usable(at=at).filter(digest__in=digests)
    return list(keys.select_related("user").prefetch_related("grants").order_by())


def usable_digests(*, at: datetime) -> frozenset[str]:
    """Return the digests of every key that may be used now."""
    return frozenset(ApiKey.objects.usable(at=at).values_list("digest", flat=True))


def principal_of_key(key: ApiKey) -> Principal:
    """Return the caller a key stands for; one query for its grants, if they are not there."""
    return Principal(
        kind="key",
        id=str(key.pk),
        name=key.name,
        user_id=key.user_id,
        username=key.user.get_username(),
        prefix=key.prefix,
        scopes=frozenset(key.scopes),
        grants=tuple(
            Grant(site=row.site, account=row.account, label=row.label) for row in key.grants.all()
        ),
        rate_limit_per_minute=key.rate_limit_per_minute,
        expires_at=key.expires_at,
    )


def principal_of_user(user: AbstractBaseUser | AnonymousUser) -> Principal:
    """Return the caller a logged-in person is; scopes come from Django's permissions.

    Raises NotAuthenticated for anyone not logged in or switched off.
    """
    if not isinstance(user, AbstractUser) or not user.is_active:
        raise NotAuthenticated
    everywhere = user.is_superuser or (user.is_staff and user.has_perm(USE_ANY_SITE))
    return Principal(
        kind="user",
        id=str(user.pk),
        name=user.get_username(),
        user_id=user.pk,
        username=user.get_username(),
        scopes=frozenset(
            scope.value for scope, perm in PERMISSION_OF_SCOPE.items() if user.has_perm(perm)
        ),
        grants=(Grant(site=ANY_SITE),) if everywhere else (),
    )
