"""Senders: threads of a process, at most one of them at a channel."""

import threading
from datetime import timedelta

import pytest
from django.db import OperationalError, connection, connections

from apps.common.clock import database_now
from apps.performance.models import NotificationChannel, NotificationDelivery
from apps.performance.services import notification
from tests.performance.alerts.receivers import receiving

NOTICE = {"title": "t", "severity": "low", "lines": [], "data": {}}
PATIENCE_S = 5.0


def write(channel, *, ago_s):
    at = database_now() - timedelta(seconds=ago_s)
    return NotificationDelivery.objects.create(
        channel=channel, event="test", notice=NOTICE, not_before=at, created_at=at
    )


@pytest.mark.processes
@pytest.mark.django_db(transaction=True)
def test_a_receiver_that_hangs_holds_up_no_other(make_channel):
    arrived, tried = threading.Event(), []

    def hangs(*_):
        tried.append(arrived.wait(PATIENCE_S))
        return 204, b"", True

    def takes(*_):
        arrived.set()
        return 204, b"", True

    with receiving(hangs) as slow, receiving(takes) as quick:
        held_up = make_channel("slack", name="slow", url=slow.url)
        other = make_channel("slack", name="quick", url=quick.url)
        for ago_s in range(2 * notification.SENDERS, 0, -1):
            write(held_up, ago_s=ago_s)
        write(other, ago_s=0)
        senders = notification.Senders()

        senders.start()

        for thread in senders._threads:
            thread.join(10 * PATIENCE_S)
    assert all(tried)
    assert len(tried) == 2 * notification.SENDERS


@pytest.mark.processes
@pytest.mark.django_db(transaction=True)
def test_a_sender_that_ends_leaves_no_connection(make_channel, monkeypatch):
    used = []

    def deliver(**_):
        connection.ensure_connection()
        used.append(connections["default"])

    monkeypatch.setattr(notification, "deliver_due", deliver)
    write(make_channel(), ago_s=1)
    senders = notification.Senders()

    senders.start()

    for thread in senders._threads:
        thread.join(PATIENCE_S)
    assert [wrapper.connection for wrapper in used] == [None]


@pytest.mark.django_db(transaction=True)
def test_what_arrived_is_noted_when_the_database_is_back(make_channel, monkeypatch):
    lost = [OperationalError("server closed the connection")]
    note = notification._note_success

    def fails_once(row):
        if lost:
            raise lost.pop()
        note(row)

    monkeypatch.setattr(notification, "_note_success", fails_once)
    made = write(make_channel(), ago_s=1)

    notification.deliver_due()

    made.refresh_from_db()
    assert made.status == "delivered"


@pytest.mark.parametrize("attempts", [0, notification.ATTEMPTS - 1])
def test_who_lost_the_lease_takes_back_nothing(attempts, make_channel):
    made = write(make_channel("slack", url="http://127.0.0.1:1/x"), ago_s=1)
    NotificationDelivery.objects.update(attempts=attempts)
    slow = notification._take()
    NotificationDelivery.objects.update(not_before=database_now())
    notification._delivered(notification._take())

    notification._deliver(slow)

    made.refresh_from_db()
    assert (made.status, made.error) == ("delivered", "")
    assert NotificationChannel.objects.get().last_failure == ""


def test_of_one_channel_one_notice_is_sent_at_a_time(make_channel):
    one, two = make_channel(name="one"), make_channel(name="two")
    for channel in (one, one, two):
        write(channel, ago_s=1)
    lanes = notification.Lanes()

    with lanes.take() as first, lanes.take() as second, lanes.take() as third:
        waiting = lanes.waiting()
    with lanes.take() as fourth:
        pass

    assert {first.channel_id, second.channel_id} == {one.pk, two.pk}
    assert (third, waiting, fourth.channel) == (None, 0, one)


def test_a_channel_is_free_again_whatever_became_of_its_sender(make_channel):
    write(make_channel(), ago_s=1)
    lanes = notification.Lanes()
    with pytest.raises(LookupError), lanes.take():
        raise LookupError

    NotificationDelivery.objects.update(not_before=database_now())

    with lanes.take() as again:
        assert again.channel == NotificationChannel.objects.get()
