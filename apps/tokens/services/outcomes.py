"""The one place where a request ends: a compare-and-swap, and its history row with it."""

from datetime import datetime
from functools import partial
from typing import Any, Final
from uuid import UUID

import structlog
from django.db import DatabaseError, transaction

from apps.common import events
from apps.history import services as history
from apps.history.contracts import AcquisitionRecord, HistoryStatus
from apps.tokens.models import TokenRequest
from apps.tokens.models.requests import LIVE, Stage, Status
from apps.tokens.services import checkpoints

log = structlog.get_logger(__name__)

_HISTORY_STATUS: Final = {
    "login_timeout": HistoryStatus.TIMEOUT,
    "request_expired": HistoryStatus.TIMEOUT,
    "network_error": HistoryStatus.NETWORK_ERROR,
    "challenge_unanswered": HistoryStatus.CAPTCHA_ERROR,
    "invalid_credentials": HistoryStatus.CREDENTIAL_ERROR,
    "secret_known_wrong": HistoryStatus.CREDENTIAL_ERROR,
}


def end(
    pk: UUID, status: Status, *, at: datetime, only_if: Status | None = None, **facts: Any
) -> bool:
    """End a live request and write its history; False if it had ended already.

    `facts` are fields of the row: served_by, token_fingerprint, error_code, error_message,
    login_s. Call it inside the transaction that decided. If the history row cannot be written
    the request still ends, and the sweep completes what is pending.
    """
    live = [only_if] if only_if else list(LIVE)
    stage = {"stage": Stage.DONE} if status == Status.DONE else {}
    changed = TokenRequest.objects.filter(pk=pk, status__in=live).update(
        status=status, finished_at=at, **stage, **facts
    )
    if changed:
        write_history(pk)
        transaction.on_commit(partial(_measure, pk), robust=True)
        checkpoints.keep(pk)
    return bool(changed)


def write_history(pk: UUID) -> bool:
    """Write the history row of an ended request, or mark it as pending; say which."""
    row = TokenRequest.objects.select_related("site", "account").get(pk=pk)
    try:
        with transaction.atomic():
            history.record(_record(row))
    except DatabaseError as error:
        log.warning("history_postponed", request=str(pk), error=type(error).__name__)
        TokenRequest.objects.filter(pk=pk).update(history_pending=True)
        return False
    if row.history_pending:
        TokenRequest.objects.filter(pk=pk).update(history_pending=False)
    return True


def _measure(pk: UUID) -> None:
    row = TokenRequest.objects.select_related("site").get(pk=pk)
    ended, started = row.finished_at or row.created_at, row.started_at
    events.acquisition_ended(
        site=row.site.slug,
        status=events.CANCELLED if row.status == Status.CANCELLED else _history_status(row),
        total_s=(ended - row.created_at).total_seconds(),
        queue_wait_s=(started - row.created_at).total_seconds() if started else None,
    )


def _record(row: TokenRequest) -> AcquisitionRecord:
    ended = row.finished_at or row.created_at
    return AcquisitionRecord(
        request_id=row.pk,
        site=row.site.slug,
        account=row.served_by or (row.account.username if row.account else ""),
        status=_history_status(row),
        trigger_reason=row.reason,
        queue=row.queue,
        attempts=row.attempts,
        retries=max(0, row.attempts - 1),
        total_s=max(0.0, (ended - row.created_at).total_seconds()),
        login_s=row.login_s,
        token_fingerprint=row.token_fingerprint,
        error_code=row.error_code,
        error_message=row.error_message,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=ended,
    )


def _history_status(row: TokenRequest) -> HistoryStatus:
    if row.status == Status.DONE:
        return HistoryStatus.SUCCESS
    return _HISTORY_STATUS.get(row.error_code, HistoryStatus.FAILED)
