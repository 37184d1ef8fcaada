import gzip
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import orjson
import pytest

from apps.history import services
from apps.history.models import TokenAcquisitionHistory
from apps.history.services import archive
from apps.history.services.recording import to_row
from tests.history.factories import NOON, make_record

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
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


@pytest.mark.parametrize("damage", ["cut", "flipped", "foreign", "naive"])
def test_a_damaged_archive_restores_nothing(path, damage):
    data = chunk(lines(0, 30))
    path.write_bytes(
        {
            "cut": data[:-20],
            "flipped": data[:200] + bytes([data[200] ^ 1]) + data[201:],
            "foreign": chunk(lines(0, 30) + b'{"a": 1}\n'),
            "naive": chunk(lines(0, 30).replace(b"+00:00", b"")),
        }[damage]
    )
    with pytest.raises(services.DamagedArchive):
        services.restore(path)
    assert TokenAcquisitionHistory.objects.count() == 0


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
