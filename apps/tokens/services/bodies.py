"""The JSON content of an answered `acquire`; the serializers document the same shapes."""

from datetime import datetime
from typing import Any

from apps.tokens.models import TokenRequest
from apps.tokens.services import explain, progress
from apps.tokens.services.acquisition import HandOut
from apps.tokens.services.lookup import material_to_plain


def hand_out(found: HandOut) -> dict[str, Any]:
    """Return the JSON content of a 200, the same on both faces."""
    view = found.token
    return {
        "id": str(view.id),
        "site": view.site,
        "account": view.account,
        "fingerprint": view.fingerprint,
        "version": view.version,
        "issued_at": _iso(view.issued_at),
        "expires_at": _iso(view.expires_at),
        "usable_until": _iso(view.usable_until),
        "cached": found.cached,
        "refreshing": found.refreshing,
        "ttl_unattainable": found.ttl_unattainable,
        "token": material_to_plain(view.material),
    }


def ticket(row: TokenRequest, *, ttl_unattainable: bool) -> dict[str, Any]:
    """Return the JSON content of a 202, the same on both faces."""
    state = progress.of(row)
    return {
        "request_id": str(row.pk),
        "status": state.status,
        "stage": state.stage,
        "progress": state.progress,
        "current_step": state.current_step,
        "estimated_remaining_time": state.estimated_remaining_time,
        "ask_again_s": state.ask_again_s,
        "status_url": f"/api/v1/automation/requests/{row.pk}/status",
        "ttl_unattainable": ttl_unattainable,
        "waiting_for": _told(explain.opening(row.site)),
    }


def _told(wait: explain.Waiting | None) -> dict[str, Any] | None:
    """Return what the site is waiting for before it opens, as JSON."""
    if wait is None:
        return None
    return {"code": wait.code, "until": _iso(wait.until) if wait.until else None}


def _iso(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
