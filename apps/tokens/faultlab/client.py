"""A small synchronous client of the lab's control paths, for tests and scripts."""

from types import TracebackType
from typing import Any, Self

import httpx


class LabClient:
    """Talks to the lab at `url`. Raises httpx.HTTPStatusError where the lab refuses."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._http = httpx.Client(base_url=self.url, timeout=10, trust_env=False)

    def put(self, site: str, **behaviour: Any) -> str:
        """Make a site, or replace its behaviour; returns its base URL."""
        self._call("PUT", f"/_lab/sites/{site}", behaviour)
        return f"{self.url}/{site}"

    def patch(self, site: str, **changes: Any) -> None:
        """Change some keys (JSON merge patch; None sets a key back to its default)."""
        self._call("PATCH", f"/_lab/sites/{site}", changes)

    def delete(self, site: str) -> None:
        """Remove a site and cut its running logins."""
        self._call("DELETE", f"/_lab/sites/{site}")

    def counts(self, site: str | None = None) -> dict[str, Any]:
        """Return the counts of a site with its `accounts`, or `{"all": …, "sites": …}`."""
        return self._call("GET", f"/_lab/sites/{site}/counts" if site else "/_lab/counts")

    def log(self, site: str) -> list[dict[str, Any]]:
        """Return every login of a site, in the order they began."""
        logins: list[dict[str, Any]] = self._call("GET", f"/_lab/sites/{site}/log")["logins"]
        return logins

    def captchas(self, site: str) -> dict[str, str]:
        """Return the site's open pictures: id → digits."""
        return self._call("GET", f"/_lab/sites/{site}/captchas")

    def invalidate(self, site: str, account: str | None = None, *, refresh: bool = False) -> int:
        """End all sessions of a site, or one account's; returns how many."""
        body = {"account": account, "refresh": refresh}
        return int(self._call("POST", f"/_lab/sites/{site}/invalidate", body)["ended"])

    def reset(self) -> int:
        """Remove all sites, counts and sessions; returns how many running logins were cut."""
        return int(self._call("POST", "/_lab/reset")["dropped"])

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _call(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        answer = self._http.request(method, path, json=body)
        if answer.is_client_error:
            # The lab's reason is worth more than a status: it names the key that is wrong.
            raise httpx.HTTPStatusError(answer.text, request=answer.request, response=answer)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found
