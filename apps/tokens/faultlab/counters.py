"""What is counted: integers changed in one event loop, without an await in between.

For every scope (all sites, one site, one account), at any moment:
`logins_started == logins_succeeded + logins_failed + disconnects + concurrent_now`.
"""

from dataclasses import dataclass, fields
from typing import Any, Final


@dataclass(slots=True)
class Counts:
    """The figures of one scope. docs/connectors/fault-lab.md defines each."""

    logins_started: int = 0
    logins_succeeded: int = 0
    logins_failed: int = 0
    disconnects: int = 0
    concurrent_now: int = 0
    concurrent_max: int = 0
    wrong_secrets: int = 0
    wrong_secret_repeats: int = 0
    max_wrong_repeats: int = 0
    repeats_after_rejection: int = 0
    wrong_codes: int = 0
    code_replays: int = 0
    lockouts: int = 0
    refused_locked: int = 0
    rate_limited: int = 0
    refreshes: int = 0
    refreshes_refused: int = 0
    refresh_replays: int = 0
    token_checks: int = 0
    rejected_checks: int = 0
    health_checks: int = 0
    logouts: int = 0

    def start(self) -> None:
        """Count a login that begins."""
        self.logins_started += 1
        self.concurrent_now += 1
        self.concurrent_max = max(self.concurrent_max, self.concurrent_now)

    def end(self, *, succeeded: bool, disconnected: bool) -> None:
        """Count a login that ends: its answer is out, or its client is gone."""
        self.concurrent_now -= 1
        if disconnected:
            self.disconnects += 1
        elif succeeded:
            self.logins_succeeded += 1
        else:
            self.logins_failed += 1

    def wrong(self, repeats: int) -> None:
        """Count a wrong secret that was sent `repeats` times before."""
        self.wrong_secrets += 1
        if repeats:
            self.wrong_secret_repeats += 1
            self.max_wrong_repeats = max(self.max_wrong_repeats, repeats)

    def as_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in NAMES}


NAMES: Final = tuple(each.name for each in fields(Counts))


class Tally:
    """The counts of a site, of each of its accounts, and a share in those of all sites."""

    def __init__(self, everything: Counts) -> None:
        self.everything = everything
        self.site = Counts()
        self.accounts: dict[str, Counts] = {}
        self._wrong: dict[tuple[str, str], int] = {}
        self._told: set[tuple[str, str]] = set()

    def account(self, username: str) -> Counts:
        """Return the counts of one account, made on first use."""
        found = self.accounts.get(username)
        if found is None:
            found = self.accounts[username] = Counts()
        return found

    def scopes(self, username: str = "") -> tuple[Counts, ...]:
        """Return what an event of this account is counted in; '' where nobody is known."""
        if not username:
            return (self.everything, self.site)
        return (self.everything, self.site, self.account(username))

    def add(self, name: str, username: str = "") -> None:
        """Add one to the count `name`."""
        for scope in self.scopes(username):
            setattr(scope, name, getattr(scope, name) + 1)

    def secret(self, username: str, fingerprint: str, *, wrong: bool) -> None:
        """Count a secret that has just arrived, whatever the site is going to answer."""
        key = (username, fingerprint)
        if key in self._told:
            self.add("repeats_after_rejection", username)
        if not wrong:
            return
        repeats = self._wrong.get(key, -1) + 1
        self._wrong[key] = repeats
        for scope in self.scopes(username):
            scope.wrong(repeats)

    def told(self, username: str, fingerprint: str, *, wrong: bool) -> None:
        """Remember that the site has called this secret wrong, or right, and was heard."""
        (self._told.add if wrong else self._told.discard)((username, fingerprint))

    def as_dict(self) -> dict[str, Any]:
        """Return the site's figures, and those of each account under `accounts`."""
        accounts = {name: counts.as_dict() for name, counts in self.accounts.items()}
        return {**self.site.as_dict(), "accounts": accounts}
