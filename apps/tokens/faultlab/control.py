"""`/_lab/…`: make sites, read what was counted, end sessions, start again."""

import copy
from collections.abc import Awaitable, Callable
from typing import Any, Final

from apps.tokens.faultlab.http import BadRequest, Exchange, read_json
from apps.tokens.faultlab.parsing import BehaviourError
from apps.tokens.faultlab.sites import Lab, Site

Handler = Callable[[Lab, Exchange, str], Awaitable[None]]


async def serve(lab: Lab, exchange: Exchange, parts: list[str]) -> None:
    """Serve a control path; `parts` is what follows `/_lab/`."""
    try:
        if parts[0] == "sites" and len(parts) in (2, 3):
            await _site(lab, exchange, parts[1], "/".join(parts[2:]))
        else:
            await _general(lab, exchange, "/".join(parts))
    except BehaviourError as error:
        await exchange.json(400, {"error": "bad_behaviour", "errors": error.errors})


async def _general(lab: Lab, exchange: Exchange, path: str) -> None:
    match exchange.method, path:
        case "GET", "healthy":
            await exchange.json(200, {"status": "ok", "sites": len(lab.sites)})
        case "GET", "counts":
            await exchange.json(200, lab.counts())
        case "POST", "reset":
            await exchange.json(200, {"dropped": lab.reset()})
        case _:
            await exchange.json(404, {"error": "not_found"})


async def _site(lab: Lab, exchange: Exchange, name: str, action: str) -> None:
    if exchange.method == "PUT" and not action:
        raw = await _json(exchange)
        await exchange.json(200, _described(lab.put(name, raw)))
        return
    site = lab.sites.get(name)
    handler = _HANDLERS.get((exchange.method, action))
    if handler is None:
        await exchange.json(404, {"error": "not_found"})
    elif site is None:
        await exchange.json(404, {"error": "unknown_site", "message": f"PUT /_lab/sites/{name}"})
    else:
        await handler(lab, exchange, site)


async def _get(lab: Lab, exchange: Exchange, site: Site) -> None:
    await exchange.json(200, _described(site))


async def _patch(lab: Lab, exchange: Exchange, site: Site) -> None:
    site.behave(_merged(site.raw, await _json(exchange)))
    await exchange.json(200, _described(site))


async def _delete(lab: Lab, exchange: Exchange, site: Site) -> None:
    await exchange.json(200, {"dropped": lab.delete(site.name)})


async def _counts(lab: Lab, exchange: Exchange, site: Site) -> None:
    await exchange.json(200, site.tally.as_dict())


async def _log(lab: Lab, exchange: Exchange, site: Site) -> None:
    await exchange.json(200, site.log.as_dict())


async def _pictures(lab: Lab, exchange: Exchange, site: Site) -> None:
    await exchange.json(200, dict(site.judge.pictures))


async def _invalidate(lab: Lab, exchange: Exchange, site: Site) -> None:
    wanted = await _json(exchange)
    if not isinstance(wanted, dict) or not set(wanted) <= {"account", "refresh"}:
        raise BadRequest("The body must be {account?, refresh?}.")
    ended = site.sessions.end(wanted.get("account"), refresh=bool(wanted.get("refresh", False)))
    await exchange.json(200, {"ended": ended})


_HANDLERS: Final[dict[tuple[str, str], Callable[[Lab, Exchange, Site], Awaitable[None]]]] = {
    ("GET", ""): _get,
    ("PATCH", ""): _patch,
    ("DELETE", ""): _delete,
    ("GET", "counts"): _counts,
    ("GET", "log"): _log,
    ("GET", "captchas"): _pictures,
    ("POST", "invalidate"): _invalidate,
}


async def _json(exchange: Exchange) -> Any:
    body = await exchange.body()
    return read_json(body) if body else {}


def _described(site: Site) -> dict[str, Any]:
    return {"site": site.name, "behaviour": site.raw}


def _merged(old: Any, patch: Any) -> Any:
    """Return `old` after a JSON merge patch (RFC 7396): null removes, objects merge."""
    if not isinstance(patch, dict):
        return patch
    merged = copy.deepcopy(old) if isinstance(old, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merged(merged.get(key), value)
    return merged
