"""What the tests of the lab share: logins as a client makes them."""

import asyncio
import json
import re
import time
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urlsplit

import httpx

GOOD = "correct-horse"

# One for all tests: a client of its own for each request would read the trusted authorities anew.
_http = httpx.Client(timeout=60, trust_env=False)


def send(method: str, url: str, **options: Any) -> httpx.Response:
    """Send one request, without the cookies of those before."""
    _http.cookies.clear()
    return _http.request(method, url, **options)


def login(url: str, username: str = "anna", password: str = GOOD, **more: Any) -> httpx.Response:
    """Log in once with JSON."""
    body = {"username": username, "password": password, **more}
    return send("POST", f"{url}/api/login", json=body)


def me(url: str, token: str) -> int:
    """Return the status that the site gives a token."""
    headers = {"Authorization": f"Bearer {token}"}
    return send("GET", f"{url}/api/me", headers=headers).status_code


def login_many(url: str, pairs: Iterable[tuple[str, str]]) -> list[int]:
    """Log in with all pairs of username and password at once; returns the statuses.

    Bare sockets: all requests are out in milliseconds, also on a busy machine.
    """
    parts = urlsplit(url)

    async def one(username: str, password: str) -> int:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        body = json.dumps({"username": username, "password": password}).encode()
        head = f"POST {parts.path}/api/login HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n"
        writer.write(head.encode() + b"connection: close\r\n\r\n" + body)
        answer = await reader.read()
        writer.close()
        return int(answer.split(b" ", 2)[1])

    async def run() -> list[int]:
        return await asyncio.gather(*(one(*pair) for pair in pairs))

    return asyncio.run(run())


def eventually(check: Callable[[], bool], *, within_s: float = 60) -> None:
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
