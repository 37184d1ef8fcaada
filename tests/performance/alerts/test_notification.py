"""Notices: what each receiver gets, and what happens when it does not take it."""

import json
import logging
import time
from datetime import timedelta
from email.utils import formatdate

import pytest
from django.core import mail
from django.db import connection

from apps.common.clock import database_now
from apps.performance.models import NotificationChannel, NotificationDelivery
from apps.performance.models.alerts import DeliveryStatus
from apps.performance.services import notification, notification_sending
from tests.performance.alerts.conftest import due_again, the_notice
from tests.performance.alerts.receivers import ADDRESSES, JUDGES, KEY, SECRET, receiving

KINDS = sorted(JUDGES)
SIGNED = ["dingtalk", "feishu", "webhook"]


def http_date(ahead_s):
    return formatdate(time.time() + ahead_s, usegmt=True)


@pytest.mark.parametrize("kind", KINDS)
def test_each_receiver_takes_body_and_signature(kind, make_channel, opened):
    with receiving(JUDGES[kind]) as server:
        make_channel(kind, url=server.url + ADDRESSES[kind], secret=SECRET)
        opened()

        notification.deliver_due()

    assert (len(server.taken), server.refused) == (1, [])
    assert "Mean time" in server.taken[0][1].decode()
    assert the_notice().status == DeliveryStatus.DELIVERED


@pytest.mark.parametrize("kind", SIGNED)
def test_a_wrong_secret_is_refused_and_not_repeated(kind, make_channel, opened):
    with receiving(JUDGES[kind]) as server:
        make_channel(kind, url=server.url + ADDRESSES[kind], secret="another")
        opened()

        notification.deliver_due()

    assert (server.taken, len(server.refused)) == ([], 1)
    assert (the_notice().status, the_notice().attempts) == (DeliveryStatus.FAILED, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_long_and_hostile_texts_stay_within_what_receivers_take(kind, make_channel):
    notice = notification_sending.Notice(
        id="1", title="Störung 故障 " * 400, severity="high",
        lines=(("Site", "<!channel> & 故障" * 900),), data={"event": "opened"},
    )  # fmt: skip
    with receiving(JUDGES[kind]) as server:
        channel = make_channel(kind, url=server.url + ADDRESSES[kind], secret=SECRET)

        notification_sending.send(channel, notice)

    assert len(server.taken) == 1
    if kind == "slack":
        assert b"<!channel>" not in server.taken[0][1]


def test_a_busy_receiver_is_asked_again_later_and_later(server, make_channel, opened):
    server.answers = [500, 503, 502]
    make_channel("webhook", url=server.url, secret=SECRET)
    opened()

    waits = []
    for _ in range(3):
        notification.deliver_due()
        waits.append(round((the_notice().not_before - database_now()).total_seconds() / 10))
        due_again()
    notification.deliver_due()

    assert waits == [1, 2, 4]
    assert (the_notice().status, the_notice().attempts) == (DeliveryStatus.DELIVERED, 4)


@pytest.mark.parametrize(
    ("form", "asked_s", "waits_s"),
    [(str, 300, 300), (http_date, 300, 300), (str, 10**9, 3_600), (http_date, 10**8, 3_600)],
)
def test_a_receiver_that_says_when_is_not_asked_before(
    server, make_channel, opened, form, asked_s, waits_s
):
    server.answers, server.headers_first = [429], {"Retry-After": form(asked_s)}
    make_channel("webhook", url=server.url, secret=SECRET)
    opened()

    notification.deliver_due()

    wait_s = (the_notice().not_before - database_now()).total_seconds()
    assert waits_s - 10 < wait_s <= waits_s


def test_a_robot_that_is_busy_is_asked_again(make_channel, opened):
    with receiving(lambda *_: (200, b'{"errcode":45009,"errmsg":"freq"}', False)) as server:
        make_channel("wecom", url=server.url + ADDRESSES["wecom"])
        opened()

        notification.deliver_due()

    assert (the_notice().status, the_notice().error) == ("waiting", "refused: 45009 freq")


def test_it_is_given_up_after_twelve_tries_and_can_be_tried_anew(server, make_channel, opened):
    server.answers = [500, 500]
    make_channel("webhook", url=server.url, secret=SECRET)
    opened()
    NotificationDelivery.objects.update(attempts=10)
    notification.deliver_due()
    eleventh = the_notice()
    due_again()
    notification.deliver_due()
    twelfth = the_notice()

    again = notification.retry(twelfth.pk)
    notification.deliver_due()

    assert (eleventh.status, twelfth.status) == (DeliveryStatus.WAITING, DeliveryStatus.FAILED)
    assert (again, the_notice().status) == (True, DeliveryStatus.DELIVERED)


def test_repetitions_carry_the_same_id(server, make_channel, opened):
    make_channel("webhook", url=server.url, secret=SECRET)
    opened()
    notification.deliver_due()
    NotificationDelivery.objects.update(status="waiting", not_before=database_now())

    notification.deliver_due()

    first, second = ({k.lower(): v for k, v in headers.items()} for headers, _ in server.taken)
    assert first["webhook-id"] == second["webhook-id"] == str(the_notice().pk)


def test_what_a_killed_sender_held_is_sent_by_another_when_its_lease_is_over(
    server, make_channel, opened
):
    make_channel("webhook", url=server.url, secret=SECRET)
    opened()
    taken = notification._take()  # and then it dies

    meanwhile = notification.deliver_due()
    due_again()
    later = notification.deliver_due()

    assert (taken.pk, meanwhile, later) == (the_notice().pk, 0, 1)
    assert len(server.taken) == 1


def test_nobody_hears_of_an_alert_after_its_end(server, watch, make_channel, opened):
    server.answers = [500]
    make_channel("webhook", url=server.url, secret=SECRET)
    opened()
    notification.deliver_due()  # and the receiver is down
    watch.sees(1.0)

    meanwhile = notification.deliver_due()
    due_again()
    notification.deliver_due()

    assert meanwhile == 0
    assert [json.loads(body)["event"] for _, body in server.taken] == ["opened", "resolved"]


def test_one_receiver_that_is_down_holds_up_no_other(server, watch, make_channel, opened):
    make_channel("webhook", name="up", url=server.url, secret=SECRET)
    make_channel("webhook", name="down", url="http://127.0.0.1:1/x", secret=SECRET)
    opened()
    notification.deliver_due()
    watch.sees(1.0)

    notification.deliver_due()

    assert [json.loads(body)["event"] for _, body in server.taken] == ["opened", "resolved"]


def test_a_slow_receiver_is_left_after_the_patience(server, make_channel, opened, monkeypatch):
    monkeypatch.setattr(notification_sending, "PATIENCE_S", 0.2)
    server.delay_s = 30.0
    make_channel("webhook", url=server.url, secret=SECRET)
    opened()
    began = time.monotonic()

    notification.deliver_due()

    assert time.monotonic() - began < server.delay_s
    assert the_notice().error == "no answer within 0.2 s"


def test_redirects_are_not_followed(server, make_channel, opened):
    server.answers, server.headers_first = [302], {"Location": f"{server.url}/elsewhere"}
    make_channel("webhook", url=f"{server.url}/hook", secret=SECRET)
    opened()

    notification.deliver_due()

    assert server.seen_paths == ["/hook"]
    assert the_notice().status == DeliveryStatus.FAILED


def test_evaluation_sends_nothing_itself(server, make_channel, opened):
    make_channel("webhook", url=server.url, secret=SECRET)

    opened()

    assert server.seen_paths == []
    assert the_notice().status == DeliveryStatus.WAITING


def test_mail_goes_to_every_recipient(make_channel, opened):
    make_channel("mail", recipients=["ops@example.org", "boss@example.org"])
    opened(name="Mean time\r\nBcc: spy@example.org")

    notification.deliver_due()

    (message,) = mail.outbox
    assert message.to == ["ops@example.org", "boss@example.org"]
    assert "\n" not in message.subject
    assert "Value: 130 (over 120 is bad)" in message.body
    assert message.extra_headers["Message-ID"] == f"<{the_notice().pk}@latchkey>"


def test_the_log_channel_logs(make_channel, opened, caplog):
    make_channel()
    opened()

    with caplog.at_level(logging.WARNING):
        notification.deliver_due()

    assert "alert_notice" in caplog.text


@pytest.mark.parametrize("kind", KINDS)
def test_no_secret_is_in_logs_errors_or_tables(kind, make_channel, opened, caplog):
    caplog.set_level(logging.DEBUG, logger="httpx")  # it logs whole addresses
    with caplog.at_level(logging.DEBUG), receiving(lambda *_: (500, b"", False)) as server:
        make_channel(kind, url=server.url + ADDRESSES[kind], secret=SECRET)
        opened()
        notification.deliver_due()
        problem = notification.send_test(NotificationChannel.objects.get(), by="anna")

    with connection.cursor() as cursor:
        tables = []
        for table in ("notificationchannel", "notificationdelivery", "alert"):
            cursor.execute(f"SELECT * FROM performance_{table}")
            tables.append(repr([[bytes(v) if isinstance(v, memoryview) else v for v in row]
                                for row in cursor.fetchall()]))  # fmt: skip
    from config.logs import redacted_formatter

    shown = "\n".join(redacted_formatter("json").format(record) for record in caplog.records)
    for text in (shown, problem, the_first_error(), *tables):
        assert KEY not in text
        assert SECRET not in text


def the_first_error():
    return NotificationDelivery.objects.exclude(error="").first().error


def test_a_test_notice_says_whether_it_arrived(server, make_channel):
    good = make_channel("webhook", url=server.url, secret=SECRET)
    bad = make_channel("webhook", name="bad", url=server.url, secret="another")

    assert notification.send_test(good, by="anna") == ""
    assert notification.send_test(bad, by="anna") == "HTTP 401"
    assert json.loads(server.taken[0][1])["event"] == "test"


def test_a_new_host_does_not_get_the_old_secret(make_channel):
    from apps.performance.services import notification_channels

    channel = make_channel("webhook", url="https://one.example/x", secret=SECRET)

    notification_channels.save(channel, url="https://one.example/y")
    same = channel.secrets["secret"]
    notification_channels.save(channel, url="https://two.example/x")

    assert (same, channel.secrets["secret"]) == (SECRET, "")


def test_a_channel_that_is_switched_off_gets_nothing(server, make_channel, opened):
    make_channel("webhook", url=server.url, secret=SECRET)
    opened()
    NotificationChannel.objects.update(enabled=False)

    notification.deliver_due()

    assert (server.seen_paths, the_notice().status) == ([], DeliveryStatus.FAILED)


def test_old_notices_are_deleted_and_waiting_ones_are_not(make_channel, opened):
    make_channel()
    opened()
    at = database_now()

    kept = notification.prune(at=at + timedelta(days=60))
    NotificationDelivery.objects.update(status="delivered", finished_at=at)
    gone = notification.prune(at=at + timedelta(days=31))

    assert (kept, gone) == (0, 1)
