"""Bringing archived facts back."""

from itertools import islice
from pathlib import Path

import structlog
from django.db import OperationalError, transaction

from apps.history import partitions
from apps.history.contracts import RestoreReport
from apps.history.guard import one_restore_at_a_time, withdraw
from apps.history.models import TokenAcquisitionHistory
from apps.history.periods import day_of
from apps.history.services.archive import DamagedArchive, inspect, read
from apps.history.services.pacing import Pace, insist
from apps.history.services.rollup import roll_up

log = structlog.get_logger(__name__)

CHUNK = 1_000


def restore(path: Path) -> RestoreReport:
    """Put the rows of an archive back; what is there already stays as it is.

    The rows get new ids. The whole file is read once before anything is written, so a damaged
    one changes nothing. A last chunk that is cut, as a crash leaves it, is left out and told: its
    rows were not deleted. Raises DamagedArchive, or OSError if it cannot be read. May be repeated.
    """
    found = inspect(path)
    if not found.rows and not found.cut:
        raise DamagedArchive(f"{path.name} holds no record.")
    _make_partitions(found.months)
    rows, pace = read(path, found.rows), Pace()
    restored = 0
    while chunk := list(islice(rows, CHUNK)):
        while chunk:
            batch, chunk = chunk[: pace.size], chunk[pace.size :]
            with pace.step():
                restored += _insert(batch)
    roll_up()
    return RestoreReport(
        path=path,
        read=found.rows,
        restored=restored,
        present=found.rows - restored,
        cut=found.cut,
    )


def _make_partitions(months: frozenset[int]) -> None:
    try:
        insist(lambda: partitions.ensure(months))
    except OperationalError:
        # The rows go to the default partition; reading, adding up and deleting do not mind.
        log.warning("history_partition_postponed", exc_info=True)


@transaction.atomic
def _insert(batch: list[TokenAcquisitionHistory]) -> int:
    """Insert the rows whose request has none; return how many that were.

    Exact however many restores there are: another one commits before this one looks, or waits.
    """
    one_restore_at_a_time()
    withdraw({day_of(row.finished_at) for row in batch})
    wanted = {row.request_id: row for row in batch}
    present = TokenAcquisitionHistory.objects.filter(request_id__in=list(wanted))
    for request_id in present.values_list("request_id", flat=True):
        wanted.pop(request_id, None)
    # Only one of these requests being recorded this very moment could be in the way.
    TokenAcquisitionHistory.objects.bulk_create(wanted.values(), ignore_conflicts=True)
    return len(wanted)
