"""What cannot be sent: bad addresses, hostile answers, whatever else goes wrong."""

import socket
import threading
import time
from contextlib import contextmanager

import pytest

from apps.performance.models import NotificationChannel
from apps.performance.models.alerts import DeliveryStatus
from apps.performance.services import notification, notification_sending
from apps.performance.services.notification_sending import NotSent
from tests.performance.alerts.conftest import due_again, the_notice
from tests.performance.alerts.receivers import ADDRESSES, KEY, SECRET, receiving

BAD_HOST = "http://xn--zzzzzz99999/x"
HANGS_S = 20.0


@pytest.fixture
def stored_before(make_channel):
    """A channel whose address nobody would take now."""
    channel = make_channel("webhook", url="https://hooks.example/x", secret=SECRET)
    channel.secrets = {"url": BAD_HOST, "secret": SECRET}
    channel.save()
    return channel


def test_an_address_that_cannot_be_written_is_given_up_at_once(stored_before, opened):
    opened()

    notification.deliver_due()

    assert (the_notice().status, the_notice().attempts) == (DeliveryStatus.FAILED, 1)
    assert the_notice().error == "IDNAError"


def test_a_test_notice_to_such_an_address_says_so(stored_before):
    assert notification.send_test(stored_before, by="anna") == "IDNAError"


@pytest.mark.parametrize("words", [r"bad \u0000 sign", r"bad \ud800 sign"])
def test_what_a_robot_says_can_be_stored(words, make_channel, opened):
    answer = b'{"errcode":310000,"errmsg":"%s"}' % words.encode()
    with receiving(lambda *_: (200, answer, False)) as server:
        make_channel("dingtalk", url=server.url + ADDRESSES["dingtalk"], secret=SECRET)
        opened()

        notification.deliver_due()

    assert "\0" not in the_notice().error
    assert "\0" not in NotificationChannel.objects.get().last_failure
    assert the_notice().error


@pytest.mark.parametrize("kind", ["dingtalk", "feishu", "wecom"])
def test_a_key_that_a_robot_repeats_is_not_kept(kind, make_channel):
    words = b'{"errcode":300001,"code":300001,"errmsg":"token %s is not exist"}' % KEY.encode()
    with receiving(lambda *_: (200, words, False)) as server:
        channel = make_channel(kind, url=server.url + ADDRESSES[kind], secret=SECRET)

        problem = notification.send_test(channel, by="anna")

    channel.refresh_from_db()
    assert problem == channel.last_failure == "refused: 300001 token [redacted] is not exist"


def test_nor_is_half_of_it_where_its_words_are_cut(make_channel):
    words = b'{"errcode":300001,"errmsg":"%s %s"}' % (b"a " * 95, KEY.encode())
    with receiving(lambda *_: (200, words, False)) as server:
        channel = make_channel("wecom", url=server.url + ADDRESSES["wecom"])

        problem = notification.send_test(channel, by="anna")

    assert KEY[:4] not in problem
    assert len(problem) == len("refused: 300001 ") + 200


def test_a_mail_to_nobody_is_not_sent(make_channel):
    channel = make_channel("mail", recipients=["ops@example.org"])
    NotificationChannel.objects.update(recipients=[])
    channel.refresh_from_db()

    assert notification.send_test(channel, by="anna") == "the channel has no recipients"


def test_no_error_text_holds_what_a_database_refuses():
    assert str(NotSent("bad \0 sign \ud800", for_good=True)) == "bad  sign "


def test_what_nobody_foresaw_is_repeated_and_given_up(make_channel, opened, monkeypatch):
    def fails(*_):
        raise LookupError("secret-word")

    monkeypatch.setattr(notification_sending, "_post", fails)
    make_channel("slack", url="https://hooks.example/x")
    opened()

    notification.deliver_due()

    assert (the_notice().status, the_notice().error) == (DeliveryStatus.WAITING, "LookupError")


def test_senders_that_die_do_not_try_for_ever(server, make_channel, opened):
    make_channel("webhook", url=server.url, secret=SECRET)
    opened()
    for _ in range(notification.ATTEMPTS):
        notification._take()  # and then it dies
        due_again()

    notification.deliver_due()

    assert server.seen_paths == []
    assert the_notice().status == DeliveryStatus.FAILED


@contextmanager
def never_ending(status):
    """A receiver that takes each notice, says so, and never ends its answer."""

    def serve():
        while True:
            try:
                taken, _ = listener.accept()
            except OSError:
                return
            kept.append(taken)
            taken.recv(65_536)
            taken.sendall(b"HTTP/1.1 %d X\r\nContent-Length: 9\r\n\r\nbegun" % status)

    kept = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/x"
        listener.shutdown(socket.SHUT_RDWR)
    for taken in kept:
        taken.close()


@pytest.mark.parametrize("kind", ["webhook", "slack"])
@pytest.mark.parametrize(("status", "problem"), [(200, ""), (404, "HTTP 404")])
def test_what_the_status_says_is_not_undone_by_the_body(kind, status, problem, make_channel):
    with never_ending(status) as url:
        channel = make_channel(kind, url=url, secret=SECRET)

        assert notification.send_test(channel, by="anna") == problem


def test_a_resolver_that_hangs_holds_up_nobody(make_channel, monkeypatch):
    over = threading.Event()
    monkeypatch.setattr(notification_sending, "PATIENCE_S", 0.2)
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: over.wait(HANGS_S) and [])
    channel = make_channel("webhook", url="https://hooks.example/x", secret=SECRET)
    began = time.monotonic()

    problem = notification.send_test(channel, by="anna")

    took_s = time.monotonic() - began
    over.set()
    assert problem == "no answer within 0.2 s"
    assert took_s < HANGS_S / 2


def test_a_mail_server_that_hangs_holds_up_nobody(make_channel, monkeypatch):
    over = threading.Event()
    monkeypatch.setattr(notification_sending, "MAIL_PATIENCE_S", 0.2)
    monkeypatch.setattr("django.core.mail.EmailMessage.send", lambda *_: over.wait(HANGS_S))
    channel = make_channel("mail", recipients=["ops@example.org"])
    began = time.monotonic()

    problem = notification.send_test(channel, by="anna")

    took_s = time.monotonic() - began
    over.set()
    assert problem == "mail: not taken in time"
    assert took_s < HANGS_S / 2
