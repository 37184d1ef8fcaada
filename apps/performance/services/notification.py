"""Notices as rows: written with what they are about, sent later, repeated until they arrive.

A killed sender's notice is sent again by the next one, so a receiver may get it twice; the id
that goes with it is the same. Nothing here is done by whoever evaluates.
"""

import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final
from uuid import UUID

import structlog
from django.db import connections
from django.db.models import F

from apps.common.clock import database_now
from apps.common.database import with_retry
from apps.performance.models import Alert, NotificationChannel, NotificationDelivery
from apps.performance.models.alerts import DeliveryQuerySet, DeliveryStatus, Severity
from apps.performance.services import notification_sending as sending
from apps.performance.services.notification_formats import Notice
from apps.performance.services.notification_notices import notice_of, test_notice
from apps.performance.services.notification_sending import NotSent

log = structlog.stdlib.get_logger(__name__)

# Longer than a sender's patience; after it a silent one is taken for dead.
LEASE: Final = timedelta(seconds=60)
FIRST_WAIT_S: Final = 10.0
LONGEST_WAIT_S: Final = 3_600.0
ATTEMPTS: Final = 12  # the last one about five hours after the first
SENDERS: Final = 4
KEEP: Final = timedelta(days=30)
RESOLVED: Final = "resolved"
TEST: Final = "test"


def tell(alert: Alert, event: str, *, at: datetime) -> int:
    """Write a notice for every channel that wants it, in the caller's transaction; return how many.

    Those that were told of an alert are told of its end, also if they want only worse ones now.
    """
    rows = []
    for channel in NotificationChannel.objects.filter(enabled=True):
        if not _wants(channel, alert, event):
            continue
        rows.append(
            NotificationDelivery(
                channel=channel,
                alert=alert,
                event=event,
                notice=notice_of(alert, event),
                not_before=at,
                created_at=at,
            )
        )
    NotificationDelivery.objects.bulk_create(rows)
    return len(rows)


def send_test(channel: NotificationChannel, *, by: str) -> str:
    """Send a test notice right now and return '' or why it did not arrive, without a secret."""
    at = database_now()
    row = NotificationDelivery.objects.create(
        channel=channel,
        event=TEST,
        notice=test_notice(channel, by=by, at=at),
        not_before=at + LEASE,
        created_at=at,
        attempts=1,
    )
    try:
        sending.send(channel, _to_send(row))
    except NotSent as error:
        _give_up(row, str(error))
        return str(error)
    _delivered(row)
    return ""


def deliver_due(*, limit: int = 100, lanes: "Lanes | None" = None) -> int:
    """Send what is due, one after the other; return how many were tried."""
    lanes = lanes or Lanes()
    for tried in range(limit):
        with lanes.take() as row:
            if row is None:
                return tried
            _deliver(row)
    return limit


def retry(pk: UUID) -> bool:
    """Let a notice that was given up be tried again, from the beginning; False if it was not."""
    return bool(
        NotificationDelivery.objects.filter(pk=pk, status=DeliveryStatus.FAILED).update(
            status=DeliveryStatus.WAITING,
            attempts=0,
            not_before=database_now(),
            finished_at=None,
            error="",
        )
    )


def prune(*, at: datetime) -> int:
    """Delete notices that ended 30 days ago; return how many."""
    return NotificationDelivery.objects.filter(finished_at__lt=at - KEEP).delete()[0]


class Lanes:
    """The channels that the senders of a process are at: one sender at each.

    A receiver that hangs costs one of them, however many notices wait for it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._busy: set[UUID] = set()

    @contextmanager
    def take(self) -> Iterator[NotificationDelivery | None]:
        """Take the next notice of a channel that nobody here is at; None if there is none."""
        with self._lock:
            row = _take(besides=self._busy)
            if row is not None:
                self._busy.add(row.channel_id)
        try:
            yield row
        finally:
            if row is not None:
                with self._lock:
                    self._busy.discard(row.channel_id)

    def waiting(self) -> int:
        """Return how many channels that nobody here is at have something to send."""
        with self._lock:
            due = _due(at=database_now(), besides=self._busy)
            return due.order_by().values("channel").distinct().count()


class Senders:
    """Up to four threads that send, so that a slow receiver holds up neither rules nor others."""

    def __init__(self) -> None:
        self._threads: list[threading.Thread] = []
        self._lanes = Lanes()

    def start(self) -> None:
        """Start as many as there is work for; each ends when nothing is due."""
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        for _ in range(min(SENDERS - len(self._threads), self._lanes.waiting())):
            thread = threading.Thread(target=self._run, name="alert-notices", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _run(self) -> None:
        try:
            deliver_due(lanes=self._lanes)
        except Exception:
            # What it held is sent again when its lease is over.
            log.exception("notices_interrupted")
        finally:
            # A thread that has ended keeps its connection until garbage is collected.
            connections.close_all()


def _wants(channel: NotificationChannel, alert: Alert, event: str) -> bool:
    if event == RESOLVED:
        told = NotificationDelivery.objects.filter(channel=channel, alert=alert)
        return channel.notify_resolved and told.exists()
    fits = not channel.site or channel.site == alert.site
    return fits and Severity(alert.severity) >= channel.minimum_severity


def _due(*, at: datetime, besides: Collection[UUID] = ()) -> DeliveryQuerySet:
    return NotificationDelivery.objects.due(at=at).exclude(channel__in=besides)


def _take(*, besides: Collection[UUID] = ()) -> NotificationDelivery | None:
    """Take the notice that has waited longest; one conditional UPDATE decides between senders."""
    at = database_now()
    due = _due(at=at, besides=besides).order_by("not_before")
    for pk in due.values_list("pk", flat=True)[:SENDERS]:
        mine = NotificationDelivery.objects.due(at=at).filter(pk=pk)
        if mine.update(not_before=at + LEASE, attempts=F("attempts") + 1):
            return NotificationDelivery.objects.select_related("channel").get(pk=pk)
    return None


def _deliver(row: NotificationDelivery) -> None:
    if not row.channel.enabled:
        _give_up(row, "the channel is switched off")
        return
    if row.attempts > ATTEMPTS:
        _give_up(row, "its senders died or failed without a word")
        return
    try:
        sending.send(row.channel, _to_send(row))
    except NotSent as error:
        if error.for_good or row.attempts >= ATTEMPTS:
            _give_up(row, str(error))
        else:
            _wait(row, str(error), wait_s=error.wait_s)
    else:
        _delivered(row)


def _wait(row: NotificationDelivery, error: str, *, wait_s: float) -> None:
    at = database_now()
    backoff_s = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** (row.attempts - 1))
    later = at + timedelta(seconds=max(backoff_s, wait_s))
    if _held(row).update(not_before=later, error=error):
        _note_failure(row, error, at=at)


def _give_up(row: NotificationDelivery, error: str) -> None:
    at = database_now()
    if _held(row).update(status=DeliveryStatus.FAILED, finished_at=at, error=error):
        _note_failure(row, error, at=at)


def _held(row: NotificationDelivery) -> DeliveryQuerySet:
    """The notice, unless its lease was over and it is another sender's, or delivered, by now."""
    return NotificationDelivery.objects.filter(
        pk=row.pk,
        status=DeliveryStatus.WAITING,
        attempts=row.attempts,
        not_before=row.not_before,
    )


def _note_failure(row: NotificationDelivery, error: str, *, at: datetime) -> None:
    NotificationChannel.objects.filter(pk=row.channel_id).update(
        last_failure_at=at, last_failure=error
    )
    log.warning("notice_not_sent", channel=row.channel.name, attempt=row.attempts, error=error)


def _delivered(row: NotificationDelivery) -> None:
    # A moment without a database must not have it sent again.
    with_retry(partial(_note_success, row))


def _note_success(row: NotificationDelivery) -> None:
    at = database_now()
    NotificationDelivery.objects.filter(pk=row.pk).update(
        status=DeliveryStatus.DELIVERED, finished_at=at, error=""
    )
    NotificationChannel.objects.filter(pk=row.channel_id).update(last_success_at=at)


def _to_send(row: NotificationDelivery) -> Notice:
    kept: dict[str, Any] = row.notice
    return Notice(
        id=str(row.pk),
        title=kept["title"],
        severity=kept["severity"],
        lines=tuple((name, value) for name, value in kept["lines"]),
        data=kept["data"],
    )
