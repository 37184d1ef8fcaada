import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from datetime import timedelta

import pytest
from django.conf import settings
from django.db import connection, transaction

from apps.history import partitions, services
from apps.history.contracts import Grouping, Window
from apps.history.models import Level, Rollup, TokenAcquisitionHistory
from apps.history.periods import day_of, month_of
from apps.history.selectors import breakdowns
from tests.history import plain
from tests.history.factories import NOON, make_record

LATER = NOON + timedelta(days=60)
WINDOW = Window(start=NOON - timedelta(days=9), end=LATER, groups=frozenset(Grouping))
SECONDS = "1.5"


def race(database_url: str, *roles: str) -> None:
    """Run processes at the same time; all must end well."""
    environment = os.environ | {
        "DATABASE_URL": database_url,
        "DJANGO_SETTINGS_MODULE": os.environ.get(
            "DJANGO_SETTINGS_MODULE", settings.SETTINGS_MODULE
        ),
    }
    command = [sys.executable, "-m", "tests.history.racer"]
    processes = [
        subprocess.Popen([*command, role, SECONDS], env=environment, stderr=subprocess.PIPE)
        for role in roles
    ]
    for process in processes:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors.decode()[-2000:]


def assert_exact() -> None:
    answer, rows = services.statistics(WINDOW), plain.in_window(WINDOW)
    assert answer.summary == plain.figures(rows)
    for grouping in WINDOW.groups:
        given = {(group.site, group.key): group.figures for group in answer.groups[grouping]}
        assert given == plain.groups(rows, grouping, WINDOW.zone)


@pytest.mark.processes
@pytest.mark.django_db(transaction=True)
def test_no_record_is_missed_by_a_roll_up_of_its_day(database_url):
    race(database_url, "write", "write", "roll", "roll")
    assert TokenAcquisitionHistory.objects.count() > 20
    assert_exact()
    services.roll_up(at=LATER)
    assert_exact()


@pytest.mark.processes
@pytest.mark.django_db(transaction=True)
def test_statistics_are_exact_after_writing_rolling_up_and_cleaning_up_at_once(database_url):
    race(database_url, "write", "roll", "clean")
    assert_exact()
    services.roll_up(at=LATER)
    assert_exact()


@pytest.mark.django_db(transaction=True)
def test_a_request_that_is_being_recorded_elsewhere_is_recorded_once():
    first = make_record()
    again = replace(first, finished_at=NOON + timedelta(hours=1))
    written = threading.Event()

    def write() -> None:
        try:
            with transaction.atomic():
                services.record(first)
                written.set()
                time.sleep(0.3)  # the other one must find us uncommitted
        finally:
            connection.close()

    writer = threading.Thread(target=write)
    writer.start()
    assert written.wait(60)
    services.record(again)
    writer.join()
    assert TokenAcquisitionHistory.objects.get().finished_at == NOON


@pytest.mark.django_db(transaction=True)
def test_a_day_with_an_open_writer_is_left_for_later():
    if connection.vendor != "postgresql":
        pytest.skip("on SQLite a roll-up waits for the writer")
    partitions.ensure_ahead(NOON + timedelta(days=2))  # for them the roll-up would wait
    services.record(make_record())
    written, release = threading.Event(), threading.Event()

    def write() -> None:
        try:
            with transaction.atomic():
                services.record(make_record())
                written.set()
                release.wait(60)
        finally:
            connection.close()

    writer = threading.Thread(target=write)
    writer.start()
    assert written.wait(60)
    services.roll_up(at=NOON + timedelta(days=2))
    vouched = set(Rollup.objects.filter(level=Level.DAY).values_list("period", flat=True))
    release.set()
    writer.join()
    assert day_of(NOON) not in vouched
    services.roll_up(at=NOON + timedelta(days=2))
    assert Rollup.objects.filter(level=Level.DAY, period=day_of(NOON)).exists()
    assert services.statistics(WINDOW).summary.total == 2


@pytest.mark.django_db(transaction=True)
def test_statistics_see_one_moment_and_keep_no_writer_waiting(monkeypatch):
    """A record that commits between two of the queries is in all figures or in none."""
    services.record(make_record())
    real = breakdowns.spreads
    written = []

    def record_meanwhile(*arguments):
        def write() -> None:
            try:
                services.record(make_record())
                written.append(True)
            finally:
                connection.close()

        writer = threading.Thread(target=write)
        writer.start()
        writer.join()
        return real(*arguments)

    monkeypatch.setattr(breakdowns, "spreads", record_meanwhile)
    answer = services.statistics(WINDOW)
    assert written == [True]
    assert answer.summary.total == 1
    assert sum(day.figures.total for day in answer.groups[Grouping.DAY]) == 1
    monkeypatch.setattr(breakdowns, "spreads", real)
    assert services.statistics(WINDOW).summary.total == 2


@pytest.fixture
def march():
    """On PostgreSQL, a partition with ten records in cells, and one that is in none."""
    if connection.vendor != "postgresql":
        pytest.skip("partitions are of PostgreSQL")
    month = month_of(NOON)
    partitions.ensure([month])
    for _ in range(10):
        services.record(make_record())
    services.roll_up(at=NOON + timedelta(days=2), budget_s=60)
    services.record(make_record(finished_at=NOON - timedelta(days=1)))
    yield month
    partitions.drop(month, only_if=None)


@pytest.mark.django_db(transaction=True)
def test_a_month_is_not_dropped_from_under_an_answer(march, monkeypatch):
    real, reports = breakdowns.by_status, []

    def clean_up() -> None:
        try:
            reports.append(services.cleanup(1, at=LATER))
        finally:
            connection.close()

    def clean_up_meanwhile(*arguments):
        cleaner = threading.Thread(target=clean_up)
        cleaner.start()
        cleaner.join()
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(partitions, "LOCK_TIMEOUT_MS", 20)
        # Called after what is vouched for has been read, before any fact is.
        patch.setattr(breakdowns, "by_status", clean_up_meanwhile)
        answer = services.statistics(WINDOW)
    assert answer.summary.total == 11
    assert [line.figures.total for line in answer.groups[Grouping.ACCOUNT]] == [11]
    assert [(report.deleted, report.partitions_dropped) for report in reports] == [(11, ())]
    assert_exact()


@pytest.mark.django_db(transaction=True)
def test_an_answer_that_waited_for_a_month_to_be_dropped_is_of_the_time_after(march):
    dropped = threading.Event()

    def drop() -> None:
        try:
            with transaction.atomic():
                partitions.drop(march, only_if=None)
                dropped.set()
                time.sleep(0.3)  # the answer must find us uncommitted
        finally:
            connection.close()

    dropper = threading.Thread(target=drop)
    dropper.start()
    assert dropped.wait(60)
    answer = services.statistics(WINDOW)
    dropper.join()
    assert answer.summary.total == 0
    assert_exact()
