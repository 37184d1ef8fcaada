"""Accounts: their secrets, and everything that makes the results of the old world void.

Every change takes the admission lock before its first row: admission and completion touch the
same rows in another order, and PostgreSQL ended one of the two as a deadlock.
"""

from collections.abc import Collection, Mapping
from typing import Any

import orjson
from django.db.models import F

from apps.common.clock import database_now
from apps.common.crypto import fingerprint
from apps.common.errors import BusinessRuleViolated
from apps.common.fields import readable
from apps.tokens.contracts import Credentials
from apps.tokens.models import Account, RefreshToken, SecretVerdict, StoredToken
from apps.tokens.services import directory, locks, lookup, requests
from apps.tokens.services.sites import connector_of, site_config


def create(account: Account, secrets: Mapping[str, str]) -> None:
    """Save a new account with its secrets."""
    account.secrets = {name: value for name, value in secrets.items() if value != ""}
    account.secret_fingerprint = secret_fingerprint(account, account.secrets)
    with locks.admission():
        account.save(force_insert=True)
        directory.forget_accounts(account.site.slug)
        requests.reconsider([account])


def update(
    account: Account, *, fields: Collection[str], secrets: Mapping[str, str] | None = None
) -> None:
    """Save these fields, and new secrets if given; a disabled account's token is forgotten."""
    with locks.admission():
        if fields:
            account.save(update_fields=[*fields, "updated_at"])
        if secrets is not None:
            _replace(account, secrets)
        lookup.forget(account)
        directory.forget_accounts(account.site.slug)
        requests.reconsider([account])


def set_secrets(account: Account, secrets: Mapping[str, str]) -> None:
    """Replace the account's secrets and save it.

    New secrets void every running login's result, lift what was known of the old ones (cooling,
    a person's task) and drop the refresh token. The same secrets again change nothing.
    """
    with locks.admission():
        if _replace(account, secrets):
            directory.forget_accounts(account.site.slug)
            requests.reconsider([account])


def _replace(account: Account, secrets: Mapping[str, str]) -> bool:
    """Replace the secrets; False if they are the same. Under the admission lock."""
    clean = {name: value for name, value in secrets.items() if value != ""}
    mark = secret_fingerprint(account, clean)
    if mark == account.secret_fingerprint and clean == readable(account, "secrets"):
        return False
    account.secrets = clean
    account.secret_fingerprint = mark
    account.save(update_fields=["secrets", "secret_fingerprint", "updated_at"])
    lifted: dict[str, Any] = {
        "credential_version": F("credential_version") + 1,
        "fence": F("fence") + 1,
        "failures_in_a_row": 0,
        "cooldown_until": None,
        "cooldown_reason": "",
        "needs_action": "",
    }
    Account.objects.filter(pk=account.pk).update(**lifted)
    RefreshToken.objects.filter(account=account).delete()
    account.refresh_from_db(fields=list(lifted))
    return True


def remove(account: Account) -> None:
    """Delete an account with its token and attempts. Raises BusinessRuleViolated during a login."""
    with locks.admission():
        if account.logins.filter(outcome="").exists():
            raise BusinessRuleViolated("A login of this account is running; try again when done.")
        lookup.forget(account)
        directory.forget_accounts(account.site.slug)
        account.delete()


def secret_fingerprint(account: Account, secrets: Mapping[str, str]) -> str:
    """Return the keyed fingerprint of what a login would send; '' if there is nothing.

    It covers the username and the static secrets the connector uses (the seed of one-time codes
    included, the codes not), and the account, so that equal passwords do not look equal.
    """
    names = connector_of(account.site).secret_names(site_config(account.site))
    used = sorted((name, value) for name, value in secrets.items() if name in names)
    if not used:
        return ""
    content = orjson.dumps([str(account.pk), account.username, used])
    return fingerprint(content, purpose="account-secret")


def credentials_of(account: Account) -> Credentials:
    """Return the decrypted credentials."""
    secrets: dict[str, Any] = account.secrets or {}
    return Credentials(
        username=account.username, secrets={name: str(value) for name, value in secrets.items()}
    )


def allow_one_attempt(account: Account, *, by: str, reason: str) -> None:
    """Let the present secret be sent exactly once more, although it is known wrong or in doubt.

    The caller checks the permission and writes the audit line.
    """
    SecretVerdict.objects.update_or_create(
        account=account,
        fingerprint=account.secret_fingerprint,
        defaults={
            "allowed_once_at": database_now(),
            "allowed_once_by": by[:200],
            "allowed_once_reason": reason[:300],
        },
    )
    directory.forget_results(account.site.slug)


def revoke(token: StoredToken, *, reason: str) -> bool:
    """Take a token out of circulation, and refuse the result of any login begun before.

    Returns False if it was revoked already. Every process stops serving it within 5 s.
    """
    with locks.admission():
        changed = StoredToken.objects.filter(pk=token.pk, revoked_at=None).update(
            revoked_at=database_now(), revoked_reason=reason[:64]
        )
        if changed:
            Account.objects.filter(pk=token.account_id).update(fence=F("fence") + 1)
            lookup.forget(token.account)
    return bool(changed)
