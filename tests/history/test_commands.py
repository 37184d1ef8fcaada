import io
import json
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError

from apps.common.clock import now
from apps.history import services
from apps.history.models import Rollup, TokenAcquisitionHistory
from tests.history.factories import make_record

pytestmark = pytest.mark.django_db


def run(*arguments, **options) -> str:
    out = io.StringIO()
    call_command(*arguments, stdout=out, **options)
    return out.getvalue()


@pytest.fixture
def old_and_new():
    for days in (40, 1):
        services.record(make_record(finished_at=now() - timedelta(days=days)))


def test_a_dry_run_says_what_would_go(old_and_new):
    assert run("history_cleanup", "--dry-run") == "1 records would be deleted.\n"
    assert TokenAcquisitionHistory.objects.count() == 2


def test_clean_up_with_archive_and_restore(old_and_new, tmp_path):
    out = run("history_cleanup", "--days", "30", "--archive-to", str(tmp_path))
    (path,) = tmp_path.iterdir()
    assert "1 of 1\nDeleted 1 records" in out
    assert str(path) in out
    assert TokenAcquisitionHistory.objects.count() == 1
    assert "restored 1 of 1" in run("history_restore", str(path))
    assert TokenAcquisitionHistory.objects.count() == 2


def test_a_cut_archive_is_restored_as_far_as_it_goes_and_told(old_and_new, tmp_path):
    run("history_cleanup", "--archive-to", str(tmp_path))
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes() + path.read_bytes()[:-1])
    out = run("history_restore", str(path))
    assert "restored 1 of 1" in out
    assert "last chunk is cut off" in out


@pytest.mark.parametrize("content", [b"", b"not gzip", None])
def test_what_cannot_be_restored_fails_with_its_name(tmp_path, content):
    path = tmp_path / "history.jsonl.gz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CommandError, match=r"history\.jsonl\.gz"):
        run("history_restore", str(path))


@pytest.mark.parametrize("command", [["history_restore", "FILE"], ["history_cleanup"]])
def test_a_database_that_refuses_ends_a_command_with_a_sentence(command, monkeypatch):
    def refuse(*_, **__):
        raise OperationalError("the database system is shutting down")

    monkeypatch.setattr(services, "restore", refuse)
    monkeypatch.setattr(services, "cleanup", refuse)
    with pytest.raises(CommandError, match="shutting down"):
        run(*command)


def test_too_few_days_are_refused(old_and_new):
    with pytest.raises(CommandError):
        run("history_cleanup", "--days", "0")


def test_export_to_standard_output_and_to_a_new_file(old_and_new, tmp_path):
    since = (now() - timedelta(days=2)).isoformat()
    (line,) = run("history_export", "--format", "jsonl", "--since", since).splitlines()
    assert json.loads(line)["site"] == "court_zxfw"
    target = tmp_path / "out.csv"
    run("history_export", output=target)
    assert len(target.read_text("utf-8-sig").splitlines()) == 3
    with pytest.raises(CommandError):
        run("history_export", output=target)


def test_roll_up_by_hand(old_and_new):
    assert "Added up" in run("history_rollup")
    assert Rollup.objects.exists()
