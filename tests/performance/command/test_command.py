"""The command: what it runs, what it says, and the exit codes cron goes by."""

import io
import json
from argparse import ArgumentTypeError
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command, get_commands, load_command_class
from django.db import OperationalError

from apps.access import audit
from apps.access.contracts import AuditKind, AuditRecord
from apps.caching import services as caching
from apps.caching.contracts import Health
from apps.common.clock import now
from apps.history import services as history
from apps.history.models import TokenAcquisitionHistory
from apps.performance.management.commands.optimize_performance import DAYS, SECONDS
from apps.performance.models import LimitChange, MetricReset, UpkeepLease
from apps.performance.services import upkeep
from apps.tokens.models import Site, StoredToken, TokenRequest
from apps.tokens.services import lookup, warming
from tests.performance.command.rows import old_record, workers_answer
from tests.performance.tuning.rows import add_level
from tests.tokens.factories import make_account, make_site
from tests.tokens.work import work

NAME = "optimize_performance"


def run(*words, name=NAME):
    out = io.StringIO()
    call_command(name, *words, stdout=out, stderr=out)
    return out.getvalue()


def failing(*words):
    out = io.StringIO()
    with pytest.raises(CommandError) as caught:
        call_command(NAME, *words, stdout=out, stderr=out)
    return caught.value.returncode, f"{out.getvalue()}{caught.value}"


def test_every_app_has_its_steps():
    names = {step.name.partition(".")[0] for step in upkeep.discover()}

    assert names >= {"tokens", "caching", "history", "access", "performance"}


def test_clean_up_deletes_what_is_older():
    old_record(days=40)
    old_record(days=3)

    text = run("--cleanup-days", "30")

    assert TokenAcquisitionHistory.objects.count() == 1
    assert "Deleted 1 records older than 30 days." in text


def test_a_dry_run_changes_nothing(tmp_path):
    old_record()
    make_account(make_site())

    text = run(
        "--cleanup-days", "30", "--warm-cache", "--optimize-concurrency", "--apply",
        "--reset-metrics", "--dry-run", "--archive-to", str(tmp_path / "old"),
    )  # fmt: skip

    assert "Would delete 1 records" in text
    assert TokenAcquisitionHistory.objects.count() == 1
    assert not TokenRequest.objects.exists()
    assert not MetricReset.objects.exists()
    assert not (tmp_path / "old").exists()


def test_records_are_archived_before_they_go(tmp_path):
    old_record()

    run("--cleanup-days", "30", "--archive-to", str(tmp_path / "old"))

    assert len(list((tmp_path / "old").glob("*.gz"))) == 1


def test_the_audit_is_imported_and_outlives_the_history():
    audit.record(
        AuditRecord(
            kind=AuditKind.SETTINGS, principal_kind="user", principal_id="1",
            principal_name="ann", at=now() - timedelta(days=60),
        )
    )  # fmt: skip

    text = run("--cleanup-days", "30")

    assert "Imported 1 audit lines" in text
    assert "Deleted 0 audit entries older than 365 days." in text


def test_warming_named_sites_queues_their_logins():
    make_account(make_site())
    make_account(make_site("other"))

    run("--warm-cache", "court_zxfw")

    assert TokenRequest.objects.get().site.slug == "court_zxfw"


def test_warming_without_names_means_all_sites():
    make_account(make_site())
    make_account(make_site("other"))

    run("--warm-cache")

    assert TokenRequest.objects.count() == 2


def test_limits_are_only_suggested_unless_told_to_apply():
    site = make_site(max_concurrent=3)
    account = make_account(site)
    add_level(site, account, 2)
    add_level(site, account, 3, refused=5)

    assert "court_zxfw: Lower to 2" in run("--optimize-concurrency")
    assert Site.objects.get().max_concurrent == 3

    run("--optimize-concurrency", "--apply")

    assert Site.objects.get().max_concurrent == 2
    assert LimitChange.objects.get().by == NAME


def test_each_limit_has_a_line_with_its_reason_also_where_it_stays():
    make_site("quiet", max_concurrent=4)

    lines = run("--optimize-concurrency").splitlines()

    assert lines == [
        "ok   performance.concurrency: 0 of 2 limits should change, none applied.",
        "     quiet: Keep 4: fewer than 12 logins at any level so far.",
        "     all sites: Keep 3: no logins in the window.",
    ]


def test_metrics_are_shown_from_now_on():
    run("--reset-metrics")

    assert MetricReset.objects.get().by == NAME


def test_a_healthy_installation_ends_well():
    workers_answer()

    assert "ok   performance.health" in run("--health-check")


def test_an_unhealthy_installation_ends_with_1():
    code, text = failing("--health-check")

    assert code == 1
    assert "No workers have been seen" in text


def test_a_cached_token_that_is_not_the_databases_is_dropped():
    workers_answer()
    make_account(make_site())
    warming.warm(None)
    work()
    assert lookup.find("court_zxfw", "alice") is not None
    StoredToken.objects.update(fingerprint="another")

    code, text = failing("--health-check")

    assert code == 1
    # The site's row and its accounts' credentials are cached as well.
    assert "2 of 3 cached values are those of the database. Dropped the other 1" in text
    assert "2 of 2 cached values" in run("--health-check")


def test_cron_can_mail_failures_alone(broken_step):
    out, err = io.StringIO(), io.StringIO()

    with pytest.raises(CommandError):
        call_command(NAME, "--cleanup-days", "30", stdout=out, stderr=err)

    assert "ok   history.cleanup" in out.getvalue()
    assert "FAIL broken" in err.getvalue()
    assert "FAIL" not in out.getvalue()


def test_a_failing_step_does_not_stop_the_others(broken_step):
    old_record()

    code, text = failing("--cleanup-days", "30")

    assert code == 1
    assert "FAIL broken" in text
    assert "hunter2" not in text
    assert not TokenAcquisitionHistory.objects.exists()


def test_a_refusal_is_said_in_a_sentence_and_stops_nobody():
    code, text = failing("--warm-cache", "nowhere", "--reset-metrics")

    assert code == 1
    assert "FAIL tokens.warm: There is no site nowhere." in text
    assert "ok   performance.reset" in text


def test_an_interrupted_run_gives_its_lease_back(monkeypatch):
    def stop(*_args, **_options):
        raise KeyboardInterrupt

    old_record()
    monkeypatch.setattr(history, "cleanup", stop)

    code, text = failing("--cleanup-days", "30")

    assert code == 130
    assert "run it again" in text
    assert not UpkeepLease.objects.exists()


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--dry-run"],
        ["--apply", "--reset-metrics"],
        ["--archive-to", "/tmp/x", "--health-check"],
        ["--wait", "5", "--health-check"],
        ["--only", "history.clean"],
        ["--only", "history.cleanup", "--health-check"],
        ["--warm-cache", "--account", "alice"],
        ["--warm-cache", "one", "another", "--account", "alice"],
    ],
    ids=" ".join,
)
def test_misuse_ends_with_2(words):
    assert failing(*words)[0] == 2


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (DAYS, "0"),
        (DAYS, "-3"),
        (DAYS, "1.5"),
        (DAYS, "1000000"),
        (DAYS, "²"),
        (SECONDS, "-1"),
        (SECONDS, "nan"),
    ],
)
def test_senseless_numbers_are_misuse(read, text):
    with pytest.raises(ArgumentTypeError):
        read(text)


@pytest.mark.parametrize("command", [[NAME, "--cleanup-days", "30"], ["history_cleanup"]])
@pytest.mark.parametrize("nothing", ["", " "])
def test_an_archive_folder_without_a_name_is_misuse(command, nothing, capsys):
    """It comes from a variable that is not set, and would be the working directory."""
    name, *words = command

    with pytest.raises(SystemExit) as caught:
        load_command_class(get_commands()[name], name).run_from_argv(
            ["manage.py", name, *words, "--archive-to", nothing]
        )

    assert caught.value.code == 2
    assert "--archive-to" in capsys.readouterr().err


def test_one_step_can_be_run_by_its_name():
    old_record()

    text = run("--only", "history.cleanup")

    assert text.strip().splitlines() == [
        "ok   history.cleanup: Deleted 1 records older than 30 days."
    ]


def test_programs_read_json():
    document = json.loads(run("--cleanup-days", "30", "--optimize-concurrency", "--json"))

    assert document["ok"] is True
    assert {step["name"] for step in document["steps"]} >= {
        "history.cleanup", "performance.concurrency",
    }  # fmt: skip


def test_programs_read_json_where_nothing_was_done():
    out = io.StringIO()

    with upkeep.hold(), pytest.raises(CommandError):
        call_command(NAME, "--reset-metrics", "--json", stdout=out)

    document = json.loads(out.getvalue())
    assert (document["ok"], document["steps"]) == (False, [])
    assert "nothing was done" in document["error"]


def test_without_a_database_the_health_check_says_what_it_sees(monkeypatch):
    def fail(_name):
        raise OperationalError("connection refused")

    monkeypatch.setattr(upkeep, "_take", fail)
    workers_answer()
    out = io.StringIO()

    with pytest.raises(CommandError):
        call_command(NAME, "--health-check", "--reset-metrics", "--json", stdout=out)

    first, *others = json.loads(out.getvalue())["steps"]
    assert (first["name"], first["ok"]) == ("upkeep", False)
    assert "performance.health" in {step["name"] for step in others}
    assert not MetricReset.objects.exists()


def test_a_lease_that_cannot_be_given_back_hides_no_report(monkeypatch):
    class Away:
        def filter(self, **_):
            raise OperationalError("connection refused")

    def lose(*_args, **_options):
        monkeypatch.setattr(UpkeepLease, "objects", Away())
        return real(*_args, **_options)

    real = history.cleanup
    monkeypatch.setattr(history, "cleanup", lose)

    assert "ok   history.cleanup" in run("--only", "history.cleanup")


def test_the_audit_is_meant_to_outlive_the_history():
    assert "raise LATCHKEY_AUDIT_KEEP_DAYS" in run("--cleanup-days", "365")
    assert "raise LATCHKEY_AUDIT_KEEP_DAYS" not in run("--cleanup-days", "364")


def test_a_degraded_cache_is_left_to_the_health(monkeypatch):
    away = Health(status="degraded", reasons=("connection",))
    monkeypatch.setattr(caching, "health", lambda: away)

    assert "ok   caching.check: The shared cache is degraded: connection." in run(
        "--only", "caching.check"
    )


def test_the_list_says_what_asks_for_each_step():
    text = run("--list")

    assert "history.cleanup" in text
    assert "--cleanup-days" in text
    assert all(row["does"] for row in json.loads(run("--list", "--json")))


def test_plain_lines_for_a_log_and_no_control_characters():
    make_account(make_site())

    assert "\x1b" not in run("--warm-cache", "--cleanup-days", "1")


def test_a_terminal_gets_bars(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("TERM", "xterm")
    out = Terminal()
    old_record()

    call_command(NAME, "--cleanup-days", "30", stdout=out)

    assert "\x1b[" in out.getvalue()
    assert "history.cleanup: Deleted 1 records" in out.getvalue()


def test_the_older_name_is_the_same_command():
    assert run("--list", name="optimize_token_performance") == run("--list")
