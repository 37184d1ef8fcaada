"""Which hosts a site's connector may talk to."""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Self

import httpx
import idna

DEFAULT_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class AllowedHost:
    """One entry of a site's list: `host`, `host:port`, `*.host`, `*.host:port`, `[::1]:8443`."""

    host: str
    port: int | None = None
    subdomains: bool = False

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the entry. Raises ValueError with a sentence an operator can act on."""
        entry = text.strip()
        if not entry or any(character in entry for character in "/@?# "):
            raise ValueError(f"{text!r} is not host, host:port or *.host.")
        host, port = _split_port(entry)
        subdomains = host.startswith("*.")
        name = normal_host(host.removeprefix("*."))
        if subdomains and _is_address(name):
            raise ValueError(f"{text!r}: an address has no subdomains.")
        return cls(host=name, port=port, subdomains=subdomains)

    def matches(self, host: str, port: int) -> bool:
        """Say whether a normal host and a port fall under this entry."""
        if self.port is not None and self.port != port:
            return False
        if self.subdomains:
            return host.endswith(f".{self.host}") and not _is_address(host)
        return host == self.host


def normal_host(host: str) -> str:
    """Return a host in lower case, as ASCII (IDNA 2008), addresses in their shortest form.

    Raises ValueError if it cannot be a host.
    """
    bare = host.strip().removeprefix("[").removesuffix("]").removesuffix(".").lower()
    if _is_address(bare):
        return str(ipaddress.ip_address(bare))
    if not bare.isascii():
        bare = idna.encode(bare, uts46=True).decode("ascii")  # IDNAError is a ValueError
    labels = bare.split(".")
    if not all(labels) or not all(set(label) <= _LABEL for label in labels):
        raise ValueError(f"{host!r} is not a host.")
    return bare


def is_allowed(url: httpx.URL, allowed: Iterable[str]) -> bool:
    """Say whether a URL may be asked for: http or https, and a host and port on the list.

    An empty list allows nothing; an entry that cannot be read allows nothing.
    """
    if url.scheme not in DEFAULT_PORTS or not url.host:
        return False
    try:
        host = normal_host(url.raw_host.decode("ascii"))
    except ValueError:
        return False
    port = url.port or DEFAULT_PORTS[url.scheme]
    return any(entry.matches(host, port) for entry in _entries(tuple(allowed)))


@lru_cache(maxsize=512)
def _entries(allowed: tuple[str, ...]) -> tuple[AllowedHost, ...]:
    found = []
    for text in allowed:
        try:
            found.append(AllowedHost.parse(text))
        except ValueError:
            continue
    return tuple(found)


_LABEL: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_")


def _split_port(entry: str) -> tuple[str, int | None]:
    if entry.count(":") > 1 and not entry.startswith("["):
        return entry, None  # a bare IPv6 address
    host, separator, digits = entry.rpartition(":")
    if not separator or entry.endswith("]"):
        return entry, None
    if not (digits.isascii() and digits.isdigit() and 1 <= int(digits) <= 65_535):
        raise ValueError(f"{entry!r}: the port must be 1 to 65535.")
    return host, int(digits)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
