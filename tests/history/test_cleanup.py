import os
import random
import resource
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from django.db import OperationalError, connection

from apps.common.errors import ValidationFailed
from apps.history import partitions, services
from apps.history.contracts import Grouping, Window
from apps.history.models import (
    DayCell,
    HourCell,
    MonthCell,
    Rollup,
    Spread,
    StatusCell,
    TokenAcquisitionHistory,
)
from apps.history.periods import day_of, month_of
from apps.history.services import archive
from apps.history.services.recording import to_row
from tests.history import plain
from tests.history.factories import make_record
from tests.history.test_statistics import random_record

AT = datetime(2026, 11, 20, 12, tzinfo=UTC)
ALL = Window(start=AT - timedelta(days=90), end=AT, groups=frozenset(Grouping))


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr("apps.history.services.rollup.PAUSE_SHARE", 0)
    monkeypatch.setattr("apps.history.services.pacing.LEAST_PAUSE_S", 0)
    monkeypatch.setattr("apps.history.services.pacing.PAUSE_SHARE", 0)


def fill(count: int = 400) -> None:
    chance = random.Random(3)
    TokenAcquisitionHistory.objects.bulk_create(to_row(random_record(chance)) for _ in range(count))


def snapshot_of_rows() -> set:
    fields = list(archive.FIELDS)
    return set(TokenAcquisitionHistory.objects.values_list(*fields, "total_bucket", "login_bucket"))


def assert_statistics_are_right() -> None:
    answer, rows = services.statistics(ALL), plain.in_window(ALL)
    assert answer.summary == plain.figures(rows)
    for grouping in ALL.groups:
        given = {(group.site, group.key): group.figures for group in answer.groups[grouping]}
        assert given == plain.groups(rows, grouping, ALL.zone)


@pytest.mark.django_db
def test_only_what_is_older_is_deleted():
    services.record(make_record(finished_at=AT - timedelta(days=30)))
    services.record(make_record(finished_at=AT - timedelta(days=30, microseconds=1)))
    report = services.cleanup(30, at=AT)
    assert (report.matched, report.deleted) == (1, 1)
    assert TokenAcquisitionHistory.objects.get().finished_at == AT - timedelta(days=30)


@pytest.mark.django_db
def test_a_dry_run_counts_and_deletes_nothing(tmp_path):
    fill(50)
    report = services.cleanup(30, dry_run=True, archive_to=tmp_path, at=AT)
    assert (report.dry_run, report.deleted) == (True, 0)
    assert report.matched > 0
    assert TokenAcquisitionHistory.objects.count() == 50
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("days", [0, -3, 36_501, 1_000_000])
def test_senseless_numbers_of_days_are_refused(days):
    with pytest.raises(ValidationFailed):
        services.cleanup(days)


@pytest.mark.django_db
@pytest.mark.parametrize("partitioned", [False, True])
def test_statistics_stay_exact_through_clean_up_and_restore(tmp_path, partitioned):
    fill()
    if partitioned:
        partitions.ensure(range(month_of(AT) - 3, month_of(AT) + 1))
    services.roll_up(at=AT)
    before = snapshot_of_rows()
    seen = []
    report = services.cleanup(30, archive_to=tmp_path, at=AT, on_progress=seen.append)
    assert report.deleted == report.matched == report.archived == seen[-1].deleted
    assert [step.done for step in seen] == sorted(step.done for step in seen)
    assert seen[-1].done == seen[-1].total
    assert_statistics_are_right()
    assert TokenAcquisitionHistory.objects.count() == 400 - report.deleted
    restored = services.restore(report.archive)
    assert (restored.restored, restored.present) == (report.deleted, 0)
    assert snapshot_of_rows() == before
    assert_statistics_are_right()
    services.roll_up(at=AT)
    assert_statistics_are_right()


@pytest.mark.django_db
def test_statistics_are_exact_after_every_batch():
    fill(120)
    services.roll_up(at=AT)
    services.cleanup(15, at=AT, on_progress=lambda progress: assert_statistics_are_right())
    assert TokenAcquisitionHistory.objects.count() < 60


@pytest.mark.django_db
def test_old_cells_go_with_their_facts():
    fill(100)
    services.roll_up(at=AT)
    cells = (HourCell, DayCell, MonthCell, StatusCell, Spread)
    assert min(model.objects.count() for model in cells) > 0
    services.cleanup(1, at=AT)
    for model in cells:
        assert model.objects.count() == 0, model
    assert not Rollup.objects.filter(level="d", period__lt=day_of(AT) - 1).exists()


@pytest.mark.django_db
def test_whole_months_are_dropped_with_their_partitions(no_month_yet):
    if connection.vendor != "postgresql":
        pytest.skip("partitions are of PostgreSQL")
    partitions.ensure(range(month_of(AT) - 3, month_of(AT) + 1))
    fill(100)
    report = services.cleanup(30, at=AT)
    assert report.partitions_dropped == ("history_p2026_08", "history_p2026_09")
    assert report.deleted == report.matched
    assert month_of(AT) - 2 not in partitions.existing()


@pytest.fixture
def september(no_month_yet):
    """A partition with one record."""
    if connection.vendor != "postgresql":
        pytest.skip("partitions are of PostgreSQL")
    at = datetime(2026, 9, 10, tzinfo=UTC)
    partitions.ensure([month_of(at)])
    services.record(make_record(finished_at=at))
    return month_of(at)


@pytest.mark.django_db
def test_a_partition_is_dropped_only_with_the_rows_that_were_archived(september):
    (pk,) = TokenAcquisitionHistory.objects.values_list("pk", flat=True)
    one_more, another = partitions.Contents(0, 0), partitions.Contents(1, pk + 1)
    assert partitions.drop(september, only_if=one_more) is None
    assert partitions.drop(september, only_if=another) is None
    assert TokenAcquisitionHistory.objects.count() == 1
    assert partitions.drop(september, only_if=partitions.Contents(1, pk)) == 1


@pytest.mark.django_db
def test_a_partition_that_another_clean_up_has_dropped_is_no_failure(september):
    assert partitions.drop(september, only_if=None) == 1
    assert partitions.drop(september, only_if=None) is None


@pytest.mark.django_db
def test_a_partition_in_use_for_a_moment_is_dropped_all_the_same(september, monkeypatch):
    tries = []
    drop = partitions.drop

    def busy_twice(*args, **options):
        tries.append(args)
        if len(tries) < 3:
            raise OperationalError("canceling statement due to lock timeout")
        return drop(*args, **options)

    monkeypatch.setattr(partitions, "drop", busy_twice)
    report = services.cleanup(30, at=AT)
    assert (report.deleted, report.partitions_dropped) == (1, ("history_p2026_09",))


@pytest.mark.django_db(transaction=True)
def test_a_partition_that_is_being_read_is_cleaned_up_row_by_row(september, reader):
    with reader.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM history_p2026_09")
        report = services.cleanup(30, at=AT)
    assert (report.deleted, report.partitions_dropped) == (1, ())
    reader.rollback()
    partitions.drop(september, only_if=None)


@pytest.mark.django_db
def test_nothing_is_deleted_if_the_archive_cannot_be_written(tmp_path, monkeypatch):
    fill(20)

    def full(file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("apps.history.services.archive.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        services.cleanup(1, archive_to=tmp_path, at=AT)
    assert TokenAcquisitionHistory.objects.count() == 20


@contextmanager
def room_up_to(size: int):
    """Let no file grow past so many bytes; the kernel writes what fits and refuses the rest."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.django_db
def test_a_disk_that_is_full_spoils_nothing_that_was_archived(no_month_yet, tmp_path, monkeypatch):
    fill()
    before = snapshot_of_rows()
    append = archive.Archive.append

    def second_has_no_room(self, rows):
        if not (size := self.path.stat().st_size):
            return append(self, rows)
        with room_up_to(size + 100):
            return append(self, rows)

    monkeypatch.setattr(archive.Archive, "append", second_has_no_room)
    with pytest.raises(OSError, match="too large"):
        services.cleanup(1, archive_to=tmp_path, at=AT)
    left = TokenAcquisitionHistory.objects.count()
    assert 0 < left < 400
    (path,) = tmp_path.iterdir()
    assert services.restore(path).restored == 400 - left
    assert snapshot_of_rows() == before


@pytest.mark.django_db
@pytest.mark.parametrize("partitioned", [False, True])
def test_rows_are_on_the_disk_before_they_are_deleted(tmp_path, monkeypatch, partitioned):
    fill(20)
    if partitioned:
        partitions.ensure(range(month_of(AT) - 3, month_of(AT) + 1))
    synced = []
    real = os.fsync
    monkeypatch.setattr(
        "apps.history.services.archive.os.fsync",
        lambda file: (synced.append(TokenAcquisitionHistory.objects.count()), real(file)),
    )
    services.cleanup(1, archive_to=tmp_path, at=AT)
    assert synced[:2] == [20, 20]  # the folder, then the first chunk
    assert TokenAcquisitionHistory.objects.count() == 0


@pytest.mark.django_db
def test_an_archive_without_rows_leaves_no_file(tmp_path):
    archive.Archive(tmp_path, at=AT).close()
    assert list(tmp_path.iterdir()) == []


def test_the_folders_made_for_an_archive_are_on_the_disk(tmp_path, monkeypatch):
    synced = []
    fsync = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda file: (synced.append(os.fstat(file).st_ino), fsync(file))
    )
    folder = tmp_path / "one" / "two"
    archive.Archive(folder, at=AT).close()
    wanted = {part.stat().st_ino for part in (folder, folder.parent, tmp_path)}
    assert set(synced) == wanted
    synced.clear()
    archive.Archive(folder, at=AT).close()
    assert synced == [folder.stat().st_ino]


@pytest.mark.django_db
def test_the_archive_is_for_its_owner_only(tmp_path):
    fill(5)
    path = services.cleanup(1, archive_to=tmp_path / "new", at=AT).archive
    assert path.stat().st_mode & 0o077 == 0
    assert path.parent.stat().st_mode & 0o077 == 0
