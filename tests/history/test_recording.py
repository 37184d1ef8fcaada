from datetime import datetime, timedelta
from uuid import uuid4

import pytest
from django.db import DatabaseError, transaction

from apps.common import redaction
from apps.history import guard, services
from apps.history.contracts import HistoryStatus
from apps.history.models import Level, Rollup, TokenAcquisitionHistory
from apps.history.periods import day_of, month_of
from tests.history.factories import NOON, make_record

pytestmark = pytest.mark.django_db


def test_a_record_becomes_one_row_with_every_fact():
    record = make_record(status=HistoryStatus.CAPTCHA_ERROR, attempts=3, retries=2)
    services.record(record)
    row = TokenAcquisitionHistory.objects.get()
    for name in [
        "request_id",
        "site",
        "account",
        "status",
        "trigger_reason",
        "queue",
        "attempts",
        "retries",
        "total_s",
        "login_s",
        "token_fingerprint",
        "error_code",
        "error_message",
        "created_at",
        "started_at",
        "finished_at",
    ]:
        assert getattr(row, name) == getattr(record, name), name


def test_a_request_is_recorded_once_even_with_another_time():
    request_id = uuid4()
    created_at = NOON - timedelta(minutes=1)
    services.record(make_record(request_id=request_id, created_at=created_at))
    later = NOON + timedelta(days=40)
    services.record(make_record(request_id=request_id, created_at=created_at, finished_at=later))
    assert TokenAcquisitionHistory.objects.get().finished_at == NOON


def test_what_a_database_refuses_is_stripped_and_long_texts_are_cut():
    services.record(
        make_record(site="a\x00b", error_code="c" * 500, error_message="\ud800x\x00" + "y" * 5000)
    )
    row = TokenAcquisitionHistory.objects.get()
    assert (row.site, len(row.error_code)) == ("ab", 64)
    assert row.error_message == "x" + "y" * 999


def test_secrets_in_an_error_message_are_redacted():
    services.record(make_record(error_message="GET https://portal.example/?password=hunter2"))
    assert "hunter" not in TokenAcquisitionHistory.objects.get().error_message


def test_a_secret_across_the_cut_is_redacted_whole():
    with redaction.guard(["correct-horse-battery"]):
        services.record(make_record(error_message="x" * 990 + "correct-horse-battery"))
    assert "corr" not in TokenAcquisitionHistory.objects.get().error_message


def test_naive_times_are_refused():
    with pytest.raises(ValueError, match="aware"):
        services.record(make_record(created_at=datetime(2026, 3, 10)))  # noqa: DTZ001


@pytest.mark.parametrize("value", [float("nan"), -1.0])
def test_impossible_durations_become_zero(value):
    services.record(make_record(total_s=value))
    assert TokenAcquisitionHistory.objects.get().total_ms == 0


def test_a_failed_record_leaves_the_callers_transaction_usable(monkeypatch):
    def refuse(*args, **kwargs):
        TokenAcquisitionHistory.objects.create()  # violates NOT NULL

    monkeypatch.setattr("apps.history.services.recording.withdraw", refuse)
    with transaction.atomic():
        with pytest.raises(DatabaseError):
            services.record(make_record())
        assert TokenAcquisitionHistory.objects.count() == 0


def test_a_late_record_withdraws_the_roll_ups_of_its_day_and_month_only():
    day, month = day_of(NOON), month_of(NOON)
    for level, period in (("d", day), ("d", day - 1), ("m", month), ("m", month - 1)):
        Rollup.objects.create(level=level, period=period, rolled_at=NOON)
    services.record(make_record())
    left = set(Rollup.objects.values_list("level", "period"))
    assert left == {(Level.DAY, day - 1), (Level.MONTH, month - 1)}


@pytest.mark.django_db(transaction=True)
def test_the_guard_refuses_to_work_outside_a_transaction():
    with pytest.raises(RuntimeError):
        guard.withdraw([1])
