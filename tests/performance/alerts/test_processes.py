"""What is promised of several processes, with several processes."""

import multiprocessing
import time

import pytest
from django.db import connections

from apps.common.clock import database_now
from apps.performance.models import (
    Alert,
    AlertRule,
    NotificationChannel,
    NotificationDelivery,
    Turn,
)
from apps.performance.services import evaluation, notification
from apps.performance.services.alert_rules import Reading
from apps.performance.services.evaluation import evaluate_if_due

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]
FORK = multiprocessing.get_context("fork")


class Bad:
    """Every value is bad everywhere."""

    def read(self, metric, *, site, window_s):
        return Reading(value=1e6, observations=100)


def evaluate():
    return evaluation.evaluate(at=database_now(), make_source=lambda at, scopes: Bad())


def send():
    """Send what is due; say how many were tried."""
    return notification.deliver_due()


def together(call, *, n=4):
    """Run `call` in `n` processes that begin at one moment; return what each gave, sorted."""
    connections.close_all()
    begin_at, answers = time.monotonic() + 0.3, FORK.SimpleQueue()

    def run():
        connections.close_all()
        time.sleep(max(0.0, begin_at - time.monotonic()))
        answers.put(call())
        connections.close_all()

    running = [FORK.Process(target=run) for _ in range(n)]
    for process in running:
        process.start()
    for process in running:
        process.join(60)
    assert [process.exitcode for process in running] == [0] * n
    return sorted(answers.get() for _ in running)


@pytest.fixture
def rule():
    Turn.objects.all().delete()
    NotificationChannel.objects.create(name="log", kind="log")
    return AlertRule.objects.create(
        name="r", metric="memory_percent", direction="above", threshold=80, severity=2
    )


def test_of_many_processes_one_evaluates(rule):
    assert together(evaluate_if_due) == [False, False, False, True]


def test_processes_that_evaluate_at_once_open_and_tell_one_alert(rule):
    found = together(evaluate)

    assert found == [1] * 4
    assert Alert.objects.count() == 1
    assert NotificationDelivery.objects.count() == 1


def test_processes_that_send_at_once_send_each_notice_once(rule):
    at = database_now()
    channel = NotificationChannel.objects.get()
    notice = {"title": "t", "severity": "low", "lines": [], "data": {}}
    NotificationDelivery.objects.bulk_create(
        NotificationDelivery(
            channel=channel, event="test", notice=notice, not_before=at, created_at=at
        )
        for _ in range(20)
    )

    tried = together(send)

    assert sum(tried) == 20
    assert set(NotificationDelivery.objects.values_list("status", "attempts")) == {("delivered", 1)}
