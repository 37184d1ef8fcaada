"""Writing facts."""

from datetime import timedelta

from django.db import transaction

from apps.history.contracts import AcquisitionRecord
from apps.history.guard import one_at_a_time, withdraw
from apps.history.models import TokenAcquisitionHistory
from apps.history.periods import day_of
from apps.history.scale import bucket_of, to_ms
from apps.history.texts import clean, clean_message

# "" means all sites to the cells.
NO_SITE = "-"
# How far the clocks of two hosts may be apart.
SKEW = timedelta(days=1)


def record(record: AcquisitionRecord) -> None:
    """Write one row for this request; a request that has a row already changes nothing.

    A request is known by its id and the time it was created. Works in a savepoint of the caller's
    transaction, so that a failure here leaves the rest of it usable. Raises django.db.Error if
    the row cannot be written, ValueError for a naive time.
    """
    row = to_row(record)
    with transaction.atomic():
        one_at_a_time(row.request_id)
        # Nothing finishes before it is created: this keeps us out of old partitions.
        recent = TokenAcquisitionHistory.objects.filter(finished_at__gte=row.created_at - SKEW)
        if recent.filter(request_id=row.request_id).exists():
            return
        withdraw([day_of(row.finished_at)])
        row.save(force_insert=True)


def to_row(record: AcquisitionRecord) -> TokenAcquisitionHistory:
    """Return the unsaved row: NUL stripped, texts bounded, the message scrubbed of secrets."""
    for at in (record.created_at, record.started_at, record.finished_at):
        if at is not None and at.tzinfo is None:
            raise ValueError("The history takes aware times only.")
    total_ms = to_ms(record.total_s)
    login_ms = None if record.login_s is None else to_ms(record.login_s)
    return TokenAcquisitionHistory(
        request_id=record.request_id,
        site=clean(record.site, "site") or NO_SITE,
        account=clean(record.account, "account"),
        status=record.status.value,
        trigger_reason=clean(record.trigger_reason, "trigger_reason"),
        queue=clean(record.queue, "queue"),
        attempts=max(0, record.attempts),
        retries=max(0, record.retries),
        total_ms=total_ms,
        login_ms=login_ms,
        total_bucket=bucket_of(total_ms),
        login_bucket=None if login_ms is None else bucket_of(login_ms),
        token_fingerprint=clean(record.token_fingerprint, "token_fingerprint"),
        error_code=clean(record.error_code, "error_code"),
        error_message=clean_message(record.error_message),
        created_at=record.created_at,
        started_at=record.started_at,
        finished_at=record.finished_at,
    )
