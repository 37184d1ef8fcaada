"""Recorded history for tests: requests and their logins, as the services write them."""

import uuid
from datetime import timedelta

from apps.common.clock import now
from apps.tokens.models import LoginAttempt, TokenRequest, WorkerProcess
from apps.tokens.models.attempts import Outcome
from apps.tokens.models.requests import Queue, Reason, Stage, Status


def owner():
    return WorkerProcess.objects.create(
        host="h", pid=1, process_started_at=0, cluster="default", slots=1, started_at=now(),
        lease_until=now(),
    )  # fmt: skip


def add_login(
    site, account, *, asked_s_ago, waited_s=0.0, took_s=10.0, level=1, error=None, by=None,
    queue=Queue.INTERACTIVE, refresh=False,
):  # fmt: skip
    """One request with one login that has ended."""
    asked = now() - timedelta(seconds=asked_s_ago)
    began = asked + timedelta(seconds=waited_s)
    ended = began + timedelta(seconds=took_s)
    request = TokenRequest.objects.create(
        site=site, account=account, requested_key=str(uuid.uuid4()), reason=Reason.NO_TOKEN,
        status=Status.FAILED if error else Status.DONE, stage=Stage.DONE, queue=queue,
        order_at=asked, not_before=asked, expires_at=asked + timedelta(seconds=300), attempts=1,
        created_at=asked, started_at=began, finished_at=ended,
    )  # fmt: skip
    return LoginAttempt.objects.create(
        request=request, site=site, account=account, owner=by or owner(), fence=1,
        credential_version=1, concurrency_at_start=level, started_at=began, deadline=ended,
        finished_at=ended, outcome=Outcome.FAILED if error else Outcome.SUCCEEDED,
        error_code=error.code if error else "", blame=error.blame if error else "",
        used_refresh_token=refresh,
    )  # fmt: skip


def add_level(
    site, account, level, *, logins=20, took_s=10.0, refused=0, refused_took_s=0.3, ago_s=40_000,
    by=None,
):  # fmt: skip
    """Logins that began with `level` at once, a minute apart; the last `refused` were refused."""
    from apps.tokens.errors import RateLimited

    by = by or owner()
    for number in range(logins):
        is_refused = number >= logins - refused
        add_login(
            site, account, asked_s_ago=ago_s - number * 60, level=level, by=by,
            took_s=refused_took_s if is_refused else took_s,
            error=RateLimited if is_refused else None,
        )  # fmt: skip
