"""Rows that runs of the upkeep are tried on."""

from datetime import timedelta
from uuid import uuid4

from apps.common.clock import now
from apps.history import services as history
from apps.history.contracts import AcquisitionRecord, HistoryStatus
from apps.tokens.models import ClusterBeat


def old_record(days=40):
    ended = now() - timedelta(days=days)
    history.record(
        AcquisitionRecord(
            request_id=uuid4(), site="s", account="a", status=HistoryStatus.SUCCESS,
            trigger_reason="no_token", queue="interactive", attempts=1, retries=0, total_s=1,
            login_s=1, token_fingerprint="", error_code="", error_message="", created_at=ended,
            started_at=ended, finished_at=ended,
        )
    )  # fmt: skip


def workers_answer():
    ClusterBeat.objects.create(cluster="default", host="h", asked_at=now(), answered_at=now())
