"""The lab as an ASGI application: who answers which path."""

import logging
from collections.abc import Awaitable, Callable
from typing import Final

from apps.tokens.faultlab import control, logins, pages
from apps.tokens.faultlab.flows import form, oauth2, session
from apps.tokens.faultlab.flows.json_login import JsonFace
from apps.tokens.faultlab.http import BadRequest, ClientGone, Exchange, Receive, Scope, Send
from apps.tokens.faultlab.sites import Lab, Site

log = logging.getLogger(__name__)

_JSON: Final = JsonFace()
_FORM: Final = form.FormFace()


async def _json_login(site: Site, exchange: Exchange) -> None:
    await logins.serve(site, exchange, _JSON)


async def _form_login(site: Site, exchange: Exchange) -> None:
    await logins.serve(site, exchange, _FORM)


ROUTES: Final[dict[tuple[str, str], Callable[[Site, Exchange], Awaitable[None]]]] = {
    ("POST", "api/login"): _json_login,
    ("GET", "login"): form.show,
    ("POST", "login"): _form_login,
    ("POST", "oauth/token"): oauth2.token,
    ("GET", "api/me"): session.me,
    ("GET", "home"): session.home,
    ("POST", "api/logout"): session.logout,
    ("GET", "health"): session.health,
    ("GET", "captcha"): session.captcha,
}


class LabApp:
    """The ASGI callable."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(scope, receive, send)
        try:
            await self._route(exchange)
        except ClientGone:
            return
        except BadRequest as error:
            await exchange.json(400, {"error": "bad_request", "message": str(error)})

    async def _route(self, exchange: Exchange) -> None:
        first, _, rest = exchange.path[1:].partition("/")
        if first == "_lab":
            await control.serve(self.lab, exchange, rest.split("/"))
        elif not first:
            await pages.overview(self.lab, exchange)
        elif (site := self.lab.sites.get(first)) is None:
            message = f"There is no site {first!r}; make it with PUT /_lab/sites/{first}."
            await exchange.json(404, {"error": "unknown_site", "message": message})
        elif (handler := ROUTES.get((exchange.method, rest))) is None:
            await exchange.json(404, {"error": "not_found"})
        else:
            await handler(site, exchange)
