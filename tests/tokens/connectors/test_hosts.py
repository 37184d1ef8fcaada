"""Which hosts an entry of the list allows."""

import httpx
import pytest

from apps.tokens.connectors.hosts import AllowedHost, is_allowed


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://portal.example/login", "portal.example"),
        ("https://PORTAL.Example:8443/", "portal.example"),
        ("https://portal.example/", "Portal.EXAMPLE:443"),
        ("http://portal.example/", "portal.example:80"),
        ("https://portal.example./", "portal.example"),
        ("https://a.b.portal.example/", "*.portal.example"),
        ("https://a.portal.example:444/", "*.portal.example:444"),
        ("https://法院.example/", "法院.example"),
        ("https://xn--nww899f.example/", "法院.example"),
        ("https://法院.example/", "xn--nww899f.example"),
        ("http://[::1]:8000/", "::1"),
        ("http://[0:0:0:0:0:0:0:1]:8000/", "[::1]:8000"),
        ("http://127.0.0.1:8000/", "127.0.0.1:8000"),
    ],
)
def test_a_listed_host_is_allowed(url, allowed):
    assert is_allowed(httpx.URL(url), (allowed,))


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://portal.example/", ()),
        ("https://evil.example/", ("portal.example",)),
        ("https://portal.example.evil.example/", ("portal.example",)),
        ("https://notportal.example/", ("*.portal.example",)),
        ("https://portal.example/", ("*.portal.example",)),
        ("https://a.portal.example/", ("portal.example",)),
        ("https://portal.example:8443/", ("portal.example:443",)),
        ("https://portal.example@evil.example/", ("portal.example",)),
        ("http://[::2]/", ("::1",)),
        ("http://[::1]:9/", ("[::1]:8",)),
        ("ftp://portal.example/", ("portal.example",)),
        ("file:///etc/passwd", ("portal.example",)),
        ("/login", ("portal.example",)),
        ("https://portal.example/", ("*",)),
        ("https://portal.example/", ("*.",)),
        ("https://portal.example/", ("https://portal.example",)),
        ("https://portal.example/", ("portal.example:0",)),
        ("http://127.0.0.1/", ("*.0.0.1",)),
    ],
)
def test_anything_else_is_not(url, allowed):
    assert not is_allowed(httpx.URL(url), allowed)


@pytest.mark.parametrize("entry", ["", "a b", "http://a", "a/b", "u@a", "a:x", "a:70000", "*.::1"])
def test_an_entry_that_cannot_be_read_says_so(entry):
    with pytest.raises(ValueError, match=r"."):
        AllowedHost.parse(entry)
