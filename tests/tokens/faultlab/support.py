"""What the tests of the lab share: logins as a client makes them."""

import asyncio
import re
import time
from collections.abc import Callable, Iterable
from typing import Any

import httpx

GOOD = "correct-horse"


def login(url: str, username: str = "anna", password: str = GOOD, **more: Any) -> httpx.Response:
    """Log in once with JSON."""
    body = {"username": username, "password": password, **more}
    return httpx.post(f"{url}/api/login", json=body, timeout=10, trust_env=False)


def me(url: str, token: str) -> int:
    """Return the status that the site gives a token."""
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.get(f"{url}/api/me", headers=headers, trust_env=False).status_code


def login_many(url: str, pairs: Iterable[tuple[str, str]]) -> list[int]:
    """Log in with all pairs of username and password at once; returns the statuses."""

    async def run() -> list[int]:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(limits=limits, timeout=30, trust_env=False) as client:
            answers = await asyncio.gather(
                *(
                    client.post(f"{url}/api/login", json={"username": name, "password": secret})
                    for name, secret in pairs
                )
            )
        return [answer.status_code for answer in answers]

    return asyncio.run(run())


def eventually(check: Callable[[], bool], *, within_s: float = 5) -> None:
    """Wait until another process has done something; fails after `within_s`."""
    end = time.monotonic() + within_s
    while not check():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


class FormClient:
    """A client of the HTML form, with a cookie jar."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.http = httpx.Client(trust_env=False)

    def field(self) -> str:
        """Fetch the page and return its CSRF field."""
        found = re.search(rb'name="csrf_token" value="([^"]+)"', self.page().content)
        assert found
        return found[1].decode()

    def page(self) -> httpx.Response:
        return self.http.get(f"{self.url}/login")

    def post(self, username: str = "anna", password: str = GOOD, **more: str) -> httpx.Response:
        form = {"username": username, "password": password, "csrf_token": self.field(), **more}
        return self.http.post(f"{self.url}/login", data=form)
