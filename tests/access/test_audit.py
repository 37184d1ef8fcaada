import asyncio
import fcntl
import os
import resource
import stat
import threading

import orjson
import pytest

from apps.access import audit, journal
from apps.access.contracts import AuditKind, AuditRecord, Principal
from apps.access.journal import JOURNAL, AuditUnavailable
from apps.access.models import AuditEntry

ROBOT = Principal(kind="key", id="k1", name="robot", user_id=1, prefix="abcd1234")


def hand_out(**fields):
    return AuditRecord.by(ROBOT, kind=AuditKind.HAND_OUT, site="shop", account="bob", **fields)


def files(settings):
    return sorted(settings.LATCHKEY_AUDIT_DIR.glob("*.open"))


def lines(settings):
    return [orjson.loads(line) for path in files(settings) for line in path.open("rb")]


def test_a_record_is_in_the_file_when_the_call_returns(settings):
    entry = hand_out(token_fingerprint="f" * 32, cached=True, purpose="invoices")
    audit.record(entry)
    (line,) = lines(settings)
    assert line["uuid"] == str(entry.uuid)
    assert (line["principal_name"], line["key_prefix"]) == ("robot", "abcd1234")
    assert (line["site"], line["account"], line["cached"]) == ("shop", "bob", True)
    assert line["purpose"] == "invoices"


def test_only_the_owner_may_read_the_journal(settings):
    audit.record(hand_out())
    (path,) = files(settings)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_secrets_are_replaced(settings):
    audit.record(
        hand_out(details={"password": "hunter2", "how": "curl"}, purpose="with lk_abcd1234_00ff")
    )
    (line,) = lines(settings)
    assert line["details"] == {"password": "[redacted]", "how": "curl"}
    assert "00ff" not in line["purpose"]


@pytest.mark.parametrize("text", ["a\0b", "a\ud800b", "\r\n", "x" * 10_000])
def test_whatever_a_caller_gives_makes_one_line(settings, text):
    audit.record(hand_out(purpose=text, request_id=text, details={"note": text, text[:3]: 1}))
    assert len(lines(settings)) == 1
    assert len(lines(settings)[0]["purpose"]) <= 200


def test_a_disk_that_fails_raises(settings, monkeypatch):
    def full(fd, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(journal.os, "write", full)
    with pytest.raises(AuditUnavailable):
        audit.record(hand_out())


def test_a_folder_that_cannot_be_made_raises(settings, tmp_path):
    (tmp_path / "file").write_text("")
    settings.LATCHKEY_AUDIT_DIR = tmp_path / "file" / "audit"
    with pytest.raises(AuditUnavailable):
        audit.record(hand_out())


def test_a_line_written_in_part_raises_and_is_followed_by_nothing(settings, monkeypatch):
    audit.record(hand_out())
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(journal.os, "write", lambda fd, data: write(fd, data[:20]))
        with pytest.raises(AuditUnavailable):
            audit.record(hand_out())
    audit.record(hand_out())
    assert sorted(path.read_bytes().count(b"\n") for path in files(settings)) == [1, 1]


def test_a_look_finds_out_whether_a_line_would_be_taken(settings, tmp_path):
    journal.probe()
    assert not list(settings.LATCHKEY_AUDIT_DIR.iterdir())
    _soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(AuditUnavailable, match="cannot be written: No space left"):
            journal.probe()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    (tmp_path / "file").write_text("")
    settings.LATCHKEY_AUDIT_DIR = tmp_path / "file" / "audit"
    with pytest.raises(AuditUnavailable, match="Not a directory"):
        journal.probe()


def test_a_failed_sync_is_raised_by_the_next_record(settings, monkeypatch):
    audit.record(hand_out())
    with monkeypatch.context() as patch:
        patch.setattr(journal.os, "fsync", lambda fd: (_ for _ in ()).throw(OSError(5, "I/O")))
        JOURNAL.sync()
    with pytest.raises(AuditUnavailable):
        audit.record(hand_out())
    audit.record(hand_out())


def test_lines_reach_the_disk_within_the_stated_window(settings, monkeypatch):
    synced = threading.Event()
    fsync = os.fsync
    audit.record(hand_out())
    monkeypatch.setattr(journal.os, "fsync", lambda fd: (fsync(fd), synced.set()))
    audit.record(hand_out())
    assert synced.wait(journal.SYNC_EVERY_S * 2 + 1)


def test_a_forked_child_writes_to_a_file_of_its_own(settings):
    audit.record(hand_out())
    child = os.fork()
    if child == 0:
        audit.record(hand_out())
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    audit.record(hand_out())
    assert sorted(path.read_bytes().count(b"\n") for path in files(settings)) == [1, 2]


async def test_what_an_event_loop_hands_out_in_one_turn_is_written_at_once(settings, monkeypatch):
    audit.record(hand_out())
    written = []
    write = os.write
    monkeypatch.setattr(journal.os, "write", lambda fd, data: written.append(1) or write(fd, data))

    done = await asyncio.gather(*(audit.record_held(hand_out(purpose=str(n))) for n in range(50)))

    assert done == [True] * 50
    assert len(written) == 1
    assert [line["purpose"] for line in lines(settings)[1:]] == [str(n) for n in range(50)]
    assert await audit.record_held(hand_out())


async def test_an_event_loop_waits_for_no_lock_and_opens_no_file(settings):
    assert await audit.record_held(hand_out()) is False
    audit.record(hand_out())
    (path,) = files(settings)
    with path.open("rb") as taken:
        fcntl.flock(taken, fcntl.LOCK_EX)
        assert (
            await asyncio.gather(*(audit.record_held(hand_out()) for _ in range(3))) == [False] * 3
        )
    with JOURNAL._lock:
        assert await audit.record_held(hand_out()) is False
    assert len(lines(settings)) == 1


async def test_a_disk_that_fails_is_told_to_all_whose_lines_are_lost(settings, monkeypatch):
    audit.record(hand_out())
    monkeypatch.setattr(journal.os, "write", lambda fd, data: 20)
    done = await asyncio.gather(
        *(audit.record_held(hand_out()) for _ in range(3)), return_exceptions=True
    )
    assert [type(one) for one in done] == [AuditUnavailable] * 3


async def test_one_who_leaves_takes_nobody_along(settings):
    audit.record(hand_out())
    staying, leaving = (asyncio.create_task(audit.record_held(hand_out())) for _ in range(2))
    await asyncio.sleep(0)
    leaving.cancel()
    assert await staying is True


def test_old_entries_are_purged_oldest_first(settings, db, time):
    audit.record(hand_out(at=time.at))
    time.move(100)
    audit.record(hand_out(at=time.at))
    audit.import_journals()
    assert audit.purge(before=time.at) == 1
    assert AuditEntry.objects.get().at == time.at
