"""How far a request is, and when to ask again."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from django.db.models import Avg, F
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apps.common.clock import database_now
from apps.tokens.models import LoginAttempt, TokenRequest
from apps.tokens.models.attempts import Outcome
from apps.tokens.models.requests import LIVE, Stage, Status

# Stage → percent, text, and seconds left before the site has a history of its own.
STAGES: Final = {
    Stage.QUEUED: (0, gettext_lazy("Queued, waiting for a worker"), 45),
    Stage.WAITING: (5, gettext_lazy("Waiting for its turn"), 40),
    Stage.SELECTING: (10, gettext_lazy("Choosing an account"), 35),
    Stage.LOGGING_IN: (30, gettext_lazy("Logging in at the site"), 30),
    Stage.VERIFYING: (80, gettext_lazy("Verifying the token"), 5),
    Stage.STORING: (95, gettext_lazy("Storing the token"), 1),
    Stage.DONE: (100, gettext_lazy("Done"), 0),
}
_ENDED: Final = {
    Status.FAILED: gettext_lazy("Failed"),
    Status.DEAD: gettext_lazy("Gave up after repeated failures; a person can requeue it"),
    Status.CANCELLED: gettext_lazy("Cancelled"),
    Status.EXPIRED: gettext_lazy("Ended because nobody could serve it in time"),
}
_NOT_BEGUN: Final = (Stage.QUEUED, Stage.WAITING, Stage.SELECTING)
_LEARN_FROM: Final = 20
_ASK_AGAIN_MAX_S: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What `GET requests/{id}/status` says. Seconds; percent from 0 to 100."""

    status: str
    stage: str
    progress: int
    current_step: str
    estimated_remaining_time: float
    ask_again_s: float | None
    created_at: datetime
    completed_at: datetime | None
    error_code: str
    error_message: str | None


def of(request: TokenRequest) -> Progress:
    """Describe a request that was selected with its site."""
    percent, text, _seconds = STAGES[Stage(request.stage)]
    live = request.status in LIVE
    left_s = _remaining_s(request) if live else 0.0
    return Progress(
        status=request.status,
        stage=request.stage,
        progress=percent if live or request.status == Status.DONE else 100,
        current_step=_current_step(request, str(text)),
        estimated_remaining_time=round(left_s, 1),
        ask_again_s=_ask_again_s(request, left_s) if live else None,
        created_at=request.created_at,
        completed_at=request.finished_at,
        error_code=request.error_code,
        error_message=request.error_message or None,
    )


def _current_step(request: TokenRequest, text: str) -> str:
    if request.status == Status.PAUSED:
        return _("Waiting for a person to answer the site's question")
    return str(_ENDED.get(Status(request.status), text))


def _remaining_s(request: TokenRequest) -> float:
    """Estimate from the site's last logins; from the table above before there are any."""
    at = database_now()
    waiting_s = max(0.0, (request.not_before - at).total_seconds())
    recent = LoginAttempt.objects.filter(site=request.site, outcome=Outcome.SUCCEEDED)
    recent = recent.order_by("-started_at")[:_LEARN_FROM]
    usual = recent.aggregate(s=Avg(F("finished_at") - F("started_at")))["s"]
    if usual is None:
        return waiting_s + float(STAGES[Stage(request.stage)][2])
    spent_s = 0.0
    if request.stage not in _NOT_BEGUN:
        open_one = request.logins.filter(outcome=Outcome.OPEN)
        begun = open_one.values_list("started_at", flat=True).first()
        spent_s = (at - begun).total_seconds() if begun else 0.0
    return waiting_s + max(1.0, float(usual.total_seconds()) - spent_s)


def _ask_again_s(request: TokenRequest, left_s: float) -> float:
    """Ask often while the end may be near, and not much before the estimate says so."""
    return min(_ASK_AGAIN_MAX_S, max(1.0, left_s / 2))
