"""The sessions of a site: access tokens, session cookies and families of refresh tokens."""

import secrets
import time
from dataclasses import dataclass, field
from typing import Final

from apps.tokens.faultlab.access_tokens import new_token, promised_s
from apps.tokens.faultlab.behaviour import Behaviour

MAX_SESSIONS: Final = 100_000
"""A site forgets its oldest session, and its oldest refresh token, beyond this."""


@dataclass(slots=True, eq=False)
class Family:
    """All refresh tokens that descend from one login.

    It is dead once its account, or the whole site, has entered a later era.
    """

    account: str
    era: tuple[int, int]
    alive: bool = True


@dataclass(slots=True, eq=False)
class Session:
    """What a login or a refresh gave. Times by the monotonic clock."""

    account: str
    token: str = field(repr=False)
    dies_at: float
    family: Family
    used_at: float
    promised_s: float | None
    refresh_token: str = field(default="", repr=False)
    alive: bool = True


@dataclass(frozen=True, slots=True)
class Refreshed:
    """The end of a refresh: a session, or None; `replayed` if the token had been used before."""

    account: str
    session: Session | None = None
    replayed: bool = False


class SessionStore:
    """Opens, checks and ends the sessions of one site."""

    def __init__(self) -> None:
        self._sessions: dict[str, Session] = {}
        self._by_account: dict[str, set[Session]] = {}
        self._refresh: dict[str, tuple[Family, bool]] = {}
        self._eras: dict[str, int] = {}
        self._era = 0

    def open(self, behaviour: Behaviour, account: str, family: Family | None = None) -> Session:
        """Return a new session; with `single_session` the account's older ones end.

        A login also ends their refresh tokens; a refresh goes on in its `family`.
        """
        if behaviour.single_session:
            self.end(account, refresh=family is None)
        now = time.monotonic()
        lives_s = behaviour.session_ttl_s
        if behaviour.session_dies_after_s is not None:
            lives_s = behaviour.session_dies_after_s
        session = Session(
            account=account,
            token=new_token(behaviour, account),
            dies_at=now + lives_s,
            family=family or Family(account, self._now(account)),
            used_at=now,
            promised_s=promised_s(behaviour),
        )
        self._sessions[session.token] = session
        self._by_account.setdefault(account, set()).add(session)
        if len(self._sessions) > MAX_SESSIONS:
            self._forget(next(iter(self._sessions.values())))
        return session

    def give_refresh(self, session: Session) -> None:
        """Add a refresh token to a session."""
        session.refresh_token = "r-" + secrets.token_urlsafe(24)
        self._refresh[session.refresh_token] = (session.family, False)
        if len(self._refresh) > MAX_SESSIONS:
            del self._refresh[next(iter(self._refresh))]

    def check(self, behaviour: Behaviour, token: str) -> tuple[str, Session | None]:
        """Return whose token this is ('' if unknown), and the session if it is alive."""
        session = self._sessions.get(token)
        if session is None:
            return "", None
        now = time.monotonic()
        idle = behaviour.idle_ttl_s is not None and now - session.used_at > behaviour.idle_ttl_s
        if not session.alive or now >= session.dies_at or idle:
            session.alive = False
            return session.account, None
        session.used_at = now
        return session.account, session

    def refresh(self, behaviour: Behaviour, token: str) -> Refreshed:
        """Trade a refresh token. With rotation a token works once, also if the answer is lost."""
        family, used = self._refresh.get(token, (None, False))
        if family is None:
            return Refreshed("")
        if used and behaviour.reuse_kills_family:
            self._end_family(family)
        if used or not family.alive or family.era != self._now(family.account):
            return Refreshed(family.account, replayed=used)
        session = self.open(behaviour, family.account, family)
        if behaviour.rotate_refresh:
            self._refresh[token] = (family, True)
            self.give_refresh(session)
        return Refreshed(family.account, session)

    def end(self, account: str | None = None, *, refresh: bool = False) -> int:
        """End all sessions, or one account's; with `refresh` their refresh tokens too.

        Returns how many living sessions ended.
        """
        if refresh and account is None:
            self._era += 1
        elif refresh and account is not None:
            self._eras[account] = self._eras.get(account, 0) + 1
        names = list(self._by_account) if account is None else [account]
        ended = 0
        for name in names:
            for session in self._by_account.pop(name, ()):
                ended += session.alive
                session.alive = False
        return ended

    def logout(self, token: str) -> str:
        """End one session and its refresh tokens; returns whose it was, '' if unknown."""
        session = self._sessions.get(token)
        if session is None:
            return ""
        self._end_family(session.family)
        session.alive = False
        return session.account

    def _now(self, account: str) -> tuple[int, int]:
        return self._era, self._eras.get(account, 0)

    def _end_family(self, family: Family) -> None:
        family.alive = False
        for session in self._by_account.get(family.account, ()):
            if session.family is family:
                session.alive = False

    def _forget(self, session: Session) -> None:
        del self._sessions[session.token]
        mine = self._by_account.get(session.account)
        if mine is not None:
            mine.discard(session)
