import os
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import orjson
import pytest
from django.db import OperationalError

from apps.access import audit, audit_import, journal
from apps.access.contracts import AuditKind, AuditRecord
from apps.access.journal import JOURNAL
from apps.access.models import AuditEntry

ROOT = Path(__file__).parents[2]


def hand_out(request_id="", **fields):
    return AuditRecord(
        kind=AuditKind.HAND_OUT,
        principal_kind="key",
        principal_id="k1",
        principal_name="robot",
        request_id=request_id,
        **fields,
    )


@pytest.fixture
def folder(settings):
    settings.LATCHKEY_AUDIT_DIR.mkdir(mode=0o700)
    return settings.LATCHKEY_AUDIT_DIR


def left(folder):
    return [path.name for path in folder.iterdir() if path.name != ".import.lock"]


def test_lines_become_rows_with_all_they_say(db, time):
    entry = hand_out(
        "r1",
        key_prefix="abcd1234",
        site="shop",
        account="bob",
        token_fingerprint="f" * 32,
        cached=False,
        purpose="invoices",
        remote_address="::1",
        details={"form": "curl"},
        at=time.at,
    )
    audit.record(entry)
    assert audit.import_journals().imported == 1
    row = AuditEntry.objects.get()
    for name in ("uuid", "kind", "at", "principal_id", "key_prefix", "site", "account", "cached"):
        assert getattr(row, name) == getattr(entry, name), name
    assert row.token_fingerprint == "f" * 32
    assert (row.purpose, row.remote_address, row.details) == ("invoices", "::1", {"form": "curl"})


def test_an_imported_file_is_gone_and_the_writer_goes_on(db, settings):
    for number in range(3):
        audit.record(hand_out(str(number)))
        assert audit.import_journals().imported == 1
        assert left(settings.LATCHKEY_AUDIT_DIR) == []
    assert AuditEntry.objects.count() == 3


def test_nothing_to_import_is_no_error(db, folder):
    assert audit.import_journals() == audit.ImportReport()


def test_a_file_imported_twice_makes_its_rows_once(db, folder):
    audit.record(hand_out())
    (path,) = folder.glob("*.open")
    copy = path.read_bytes()
    audit.import_journals()
    (folder / "again.1.x.taken").write_bytes(copy * 2)
    report = audit.import_journals()
    assert (report.imported, report.duplicates) == (0, 2)
    assert AuditEntry.objects.count() == 1


def test_a_torn_last_line_is_left_out(db, folder):
    audit.record(hand_out("whole"))
    (path,) = folder.glob("*.open")
    with path.open("ab") as file:
        file.write(path.read_bytes()[:-30])
    report = audit.import_journals()
    assert (report.imported, report.torn, report.rejected) == (1, 1, 0)
    assert left(folder) == []


@pytest.mark.parametrize(
    "bad",
    [
        b"not json\n",
        b"[]\n",
        b"{}\n",
        b'{"uuid": "x", "at": "2026-01-01T00:00:00+00:00"}\n',
        b'{"uuid": "' + b"0" * 32 + b'", "at": "soon"}\n',
        b'{"uuid": "' + b"0" * 32 + b'", "at": "2026-01-01T00:00:00+00:00", "new": 1}\n',
        b'{"uuid": "' + b"0" * 32 + b'", "at": "2026-01-01T00:00:00+00:00", "kind": null}\n',
        b'{"uuid": "' + b"0" * 32 + b'", "at": "2026-01-01T00:00:00+00:00", "site": null}\n',
        b'{"uuid": "'
        + b"0" * 32
        + b'", "at": "2026-01-01T00:00:00+00:00", "kind": "'
        + b"x" * 33
        + b'"}\n',
    ],
)
def test_a_damaged_line_stops_no_other_and_its_file_is_kept(db, folder, bad):
    audit.record(hand_out("before"))
    (path,) = folder.glob("*.open")
    with path.open("ab") as file:
        file.write(bad)
    audit.record(hand_out("after"))
    report = audit.import_journals()
    assert (report.imported, report.rejected) == (2, 1)
    (kept,) = left(folder)
    assert kept.endswith(".rejected")
    assert audit.import_journals() == audit.ImportReport()


def test_a_file_stays_until_its_rows_are_committed(db, folder, monkeypatch):
    audit.record(hand_out())

    def fail(*arguments):
        raise OperationalError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(audit_import, "_add", fail)
        with pytest.raises(OperationalError):
            audit.import_journals()
    assert len(left(folder)) == 1
    assert audit.import_journals().imported == 1


def test_another_hosts_files_are_left_alone_while_it_lives(db, folder, monkeypatch):
    audit.record(hand_out())
    JOURNAL.close()
    monkeypatch.setattr(socket, "gethostname", lambda: "elsewhere")
    assert audit.import_journals().files == 0
    (name,) = left(folder)
    old = time.time() - audit_import.ORPHANED_AFTER_S - 1
    os.utime(folder / name, (old, old))
    assert audit.import_journals().imported == 1


def test_a_second_importer_does_nothing(db, folder):
    audit.record(hand_out())
    with audit_import._only_importer(folder):
        assert audit.import_journals().skipped
    assert audit.import_journals().imported == 1


def test_a_writer_waits_while_its_file_is_taken(folder, monkeypatch):
    """The rename happens between the writer's look at the path and its write, unless locked."""
    audit.record(hand_out("1"))
    (path,) = folder.glob("*.open")
    look = JOURNAL._is_in_place
    taken = []

    def look_then_lose_the_race():
        there = look()
        if not taken:
            importer = subprocess.run(
                ["flock", "-n", str(path), "mv", str(path), f"{path}.taken"], check=False
            )
            taken.append(importer.returncode)
        return there

    monkeypatch.setattr(JOURNAL, "_is_in_place", look_then_lose_the_race)
    audit.record(hand_out("2"))
    assert taken == [1]
    assert path.read_bytes().count(b"\n") == 2


@pytest.fixture
def start(database_url, folder):
    running = []

    def one(*arguments):
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.access.journal_worker", *map(str, arguments)],
            cwd=ROOT,
            env=os.environ | {"DATABASE_URL": database_url, "LATCHKEY_AUDIT_DIR": str(folder)},
            stdout=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        return process

    yield one
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate()


def rows_by_name():
    return Counter(AuditEntry.objects.values_list("request_id", flat=True))


@pytest.mark.processes
def test_a_killed_importer_repeats_no_row_and_loses_none(start, folder, monkeypatch):
    monkeypatch.setattr(journal, "SYNC_EVERY_S", 0)
    for number in range(1_700):
        audit.record(hand_out(str(number)))
    for batches in (1, 2, 3):
        importer = start("import", batches)
        assert importer.stdout.readline() == "stopped\n"
        importer.kill()
        importer.wait()
        assert AuditEntry.objects.count() == batches * 500
        assert len(left(folder)) == 1
    assert audit.import_journals().imported == 200
    assert rows_by_name() == {str(number): 1 for number in range(1_700)}
    assert left(folder) == []


@pytest.mark.processes
def test_killed_writers_and_importers_at_once_keep_every_line(start, folder):
    writers = {name: start("write", name) for name in ("w1", "w2")}
    for process in writers.values():
        process.stdout.readline()
    report = imported_while_running(start, writers)
    last = {}
    for name, process in writers.items():
        process.kill()
        last[name] = int(process.stdout.read().split()[-1])
    audit.import_journals()
    rows = rows_by_name()
    assert set(rows.values()) == {1}
    promised = {f"{name}-{number:08}" for name in writers for number in range(last[name] + 1)}
    assert promised <= set(rows)
    # One line a writer may be written and not yet promised when it is killed.
    assert len(rows) <= len(promised) + len(writers)
    assert report > 0


def imported_while_running(start, writers):
    """Import against live writers many times, with an importer killed in between."""
    importer = start("import", 1)
    importer.stdout.readline()
    importer.kill()
    importer.wait()
    return sum(audit.import_journals().imported for _ in range(8))


def test_a_line_is_readable_json(folder):
    audit.record(hand_out("r1"))
    (path,) = folder.glob("*.open")
    assert orjson.loads(path.read_bytes())["request_id"] == "r1"
