"""An answer of a site, read in the character set it is really in."""

import codecs
import json
from functools import cached_property
from http.cookiejar import Cookie as JarCookie
from typing import Any

import httpx
from parsel import Selector
from w3lib.encoding import html_to_unicode


class Answer:
    """One answer, decoded when first needed; `text` follows the recipe's `encoding`, else the
    header, a byte order mark, the page's meta tag, UTF-8, and GB18030 at last."""

    def __init__(
        self, response: httpx.Response, *, cookies: httpx.Cookies, encoding: str = ""
    ) -> None:
        self.status = response.status_code
        self.headers = response.headers
        self.url = str(response.url)
        self.content = response.content
        self._cookies = cookies
        self._encoding = encoding

    @cached_property
    def text(self) -> str:
        """The body as text; bytes that do not fit become replacement characters."""
        if self._encoding:
            return self.content.decode(_superset(self._encoding), errors="replace")
        declared = self.headers.get("content-type")
        return html_to_unicode(declared, self.content, auto_detect_fun=_guess)[1]

    @cached_property
    def json(self) -> Any:
        """The body as JSON; None where it is none."""
        try:
            return json.loads(self.text.removeprefix("\ufeff"))
        except (ValueError, RecursionError):
            return None

    @cached_property
    def page(self) -> Selector:
        """The body as an HTML page."""
        return Selector(text=self.text or "<html/>", type="html")

    def cookie(self, name: str) -> str | None:
        """Return the value of a cookie in the client's jar, the most recently made of that name."""
        found = [cookie for cookie in self._cookies.jar if cookie.name == name]
        return _newest(found).value if found else None


def _newest(cookies: list[JarCookie]) -> JarCookie:
    return max(cookies, key=lambda cookie: len(cookie.path))


def _superset(name: str) -> str:
    # Pages that say GB2312 or GBK use characters of its supersets; browsers read them so.
    codec = codecs.lookup(name).name
    return "gb18030" if codec in ("gb2312", "gbk") else codec


def _guess(body: bytes) -> str:
    try:
        body.decode("utf-8")
    except UnicodeDecodeError:
        return "gb18030"
    return "utf-8"
