import gzip
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import orjson
import pytest
from django.db import OperationalError, connection

from apps.history import partitions, services
from apps.history.contracts import RestoreReport, Window
from apps.history.models import Level, Rollup, TokenAcquisitionHistory
from apps.history.periods import month_of
from apps.history.querysets import HistoryQuerySet
from apps.history.services import archive
from apps.history.services.recording import to_row
from tests.history.factories import NOON, make_record

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """No pauses, and half a year of days is not added up."""
    monkeypatch.setattr("apps.history.services.restoring.roll_up", lambda: 0)
    monkeypatch.setattr("apps.history.services.rollup.PAUSE_SHARE", 0)
    monkeypatch.setattr("apps.history.services.pacing.LEAST_PAUSE_S", 0)
    monkeypatch.setattr("apps.history.services.pacing.PAUSE_SHARE", 0)


def lines(first: int, end: int) -> bytes:
    """Archived records of these numbers, a minute apart."""
    return b"".join(
        archive.line_of(
            to_row(make_record(request_id=UUID(int=n), finished_at=NOON + timedelta(minutes=n)))
        )
        for n in range(first, end)
    )


def chunk(content: bytes) -> bytes:
    return gzip.compress(content, compresslevel=6, mtime=1)


def flipped(data: bytes, at: int) -> bytes:
    """The data with one bit changed."""
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)


def with_value(name: str, value) -> bytes:
    """A record with one value of another kind."""
    return orjson.dumps(orjson.loads(lines(99, 100)) | {name: value}) + b"\n"


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "history.jsonl.gz"


def assert_refused(path: Path, *, after: int) -> None:
    with pytest.raises(services.DamagedArchive, match=f"after line {after}[.]"):
        services.restore(path)
    assert TokenAcquisitionHistory.objects.count() == 0


def test_restoring_twice_changes_nothing(path):
    path.write_bytes(chunk(lines(0, 20)) + chunk(lines(20, 30)))
    first, again = services.restore(path), services.restore(path)
    assert (first.restored, first.present) == (30, 0)
    assert (again.restored, again.present) == (0, 30)
    assert TokenAcquisitionHistory.objects.count() == 30


@pytest.mark.django_db(transaction=True)
def test_two_restores_at_once_report_together_what_came_back(path, monkeypatch):
    path.write_bytes(chunk(lines(0, 20)))
    create = HistoryQuerySet.bulk_create

    def slowly(*arguments, **options):
        time.sleep(0.5)  # the other one must have looked for itself by now
        return create(*arguments, **options)

    def restore(_) -> RestoreReport:
        try:
            return services.restore(path)
        finally:
            connection.close()

    monkeypatch.setattr(HistoryQuerySet, "bulk_create", slowly)
    with ThreadPoolExecutor(2) as pool:
        reports = list(pool.map(restore, range(2)))
    assert sorted(report.restored for report in reports) == [0, 20]
    assert TokenAcquisitionHistory.objects.count() == 20


@pytest.mark.parametrize(
    "damage", ["flipped", "foreign", "naive", "unended", "spliced", "swallowing", "last"]
)
def test_a_damaged_archive_restores_nothing(path, damage):
    first, last = chunk(lines(0, 30)), chunk(lines(30, 40))
    path.write_bytes(
        {
            "flipped": flipped(first, 200) + last,
            "foreign": chunk(lines(0, 30) + b'{"a": 1}\n'),
            "naive": chunk(lines(0, 30).replace(b"+00:00", b"")),
            "unended": chunk(lines(0, 30)[:-1]),
            "spliced": first[:-200] + last,
            "swallowing": first[:3] + b"\x04" + first[4:10] + b"\xff\xff" + first[12:] + last,
            "last": first + flipped(last, -5),
        }[damage]
    )
    with pytest.raises(services.DamagedArchive):
        services.restore(path)
    assert TokenAcquisitionHistory.objects.count() == 0


def test_a_last_chunk_that_is_cut_keeps_no_other_from_coming_back(path):
    """A crash leaves it so, and no row of it had been deleted."""
    path.write_bytes(chunk(lines(0, 20)) + chunk(lines(20, 30))[:-20])
    report = services.restore(path)
    assert (report.read, report.restored, report.cut) == (20, 20, True)
    assert TokenAcquisitionHistory.objects.count() == 20


def test_a_cut_is_known_wherever_it_is(path):
    first, last = chunk(lines(0, 20)), chunk(lines(20, 30))
    found = set()
    for size in range(1, len(last)):
        path.write_bytes(first + last[:size])
        found.add(archive.inspect(path))
    assert found == {archive.Found(20, frozenset({month_of(NOON)}), cut=True)}
    path.write_bytes(first + last)
    assert archive.inspect(path) == archive.Found(30, frozenset({month_of(NOON)}), cut=False)


def test_an_archive_with_nothing_but_a_cut_chunk_is_no_failure(path):
    path.write_bytes(chunk(lines(0, 20))[:-1])
    report = services.restore(path)
    assert (report.read, report.restored, report.cut) == (0, 0, True)


def test_chunks_of_any_size_and_padding_are_read(path):
    content = lines(0, 1_000)
    path.write_bytes(chunk(content[:333_333]) + b"\0" * 100_000 + chunk(content[333_333:]))
    assert archive.inspect(path).rows == 1_000
    assert b"".join(map(archive.line_of, archive.read(path, 1_000))) == content


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("site", 5),
        ("error_message", None),
        ("attempts", "3"),
        ("attempts", 2**31),
        ("retries", None),
        ("total_ms", None),
        ("login_ms", []),
        ("request_id", 5),
        ("status", "unheard_of"),
        ("created_at", 1_700_000_000),
        ("created_at", "0001-01-01T00:00:00+05:00"),
        ("finished_at", None),
        ("finished_at", "9999-12-31T00:00:00+00:00"),
    ],
)
def test_a_value_no_row_can_have_is_found_before_anything_is_written(path, name, value):
    path.write_bytes(chunk(lines(0, 30) + with_value(name, value) + lines(30, 40)))
    assert_refused(path, after=30)


@pytest.mark.parametrize(
    "line",
    [b"[]\n", b"5\n", b"\n", b"x" * 70_000 + b"\n"],
    ids=["list", "number", "empty", "long"],
)
def test_a_line_that_is_no_record_is_refused(path, line):
    path.write_bytes(chunk(lines(0, 30) + line))
    assert_refused(path, after=30)


def test_a_table_in_use_for_a_moment_gets_its_partitions_all_the_same(path, monkeypatch):
    path.write_bytes(chunk(lines(0, 10)))
    tries = []

    def busy_twice(months):
        tries.append(months)
        if len(tries) < 3:
            raise OperationalError("canceling statement due to lock timeout")

    monkeypatch.setattr(partitions, "ensure", busy_twice)
    assert services.restore(path).restored == 10
    assert tries[:3] == [{month_of(NOON)}] * 3


@pytest.mark.django_db(transaction=True)
def test_rows_come_back_and_go_again_while_somebody_reads(path, reader):
    """Without a partition of their month they lie in the default one until they get it."""
    path.write_bytes(chunk(lines(0, 10)))
    month, in_default = month_of(NOON), f"SELECT count(*) FROM {partitions.DEFAULT}"
    with reader.cursor() as reading, connection.cursor() as cursor:
        reading.execute(f"SELECT count(*) FROM {partitions.TABLE}")
        assert services.restore(path).restored == 10
        cursor.execute(in_default)
        assert cursor.fetchone() == (10,)
        services.roll_up(at=NOON + timedelta(days=30), budget_s=60)
        assert Rollup.objects.filter(level=Level.MONTH, period=month).exists()
        window = Window(start=NOON - timedelta(days=40), end=NOON + timedelta(days=40))
        assert services.statistics(window).summary.total == 10
        assert services.cleanup(1).deleted == 10
        services.restore(path)
        reader.rollback()
        partitions.ensure([month])
        cursor.execute(in_default)
        assert cursor.fetchone() == (0,)
    assert partitions.drop(month, only_if=None) == 10
