"""How the installation is said to be, and why."""

import time
from collections import namedtuple
from datetime import timedelta

import pytest
from django.db import OperationalError, connection
from django.test import Client

from apps.access.contracts import Principal
from apps.access.keycache import CACHE
from apps.caching import services as cache
from apps.caching.contracts import Health
from apps.common import clock
from apps.common.clock import database_now
from apps.performance.models import Alert, Turn
from apps.performance.models.alerts import Severity
from apps.performance.services import health, health_checks
from apps.performance.services.health_checks import ClockCheck, DatabaseCheck, DiskCheck, Unwell
from apps.performance.services.health_selection import LIKELY, SelectionCheck
from apps.performance.services.health_stored import KeysCheck, MigrationsCheck
from apps.performance.services.health_workers import QueueCheck, WorkersCheck
from apps.tokens.models import Account, ClusterBeat, SecretVerdict, SiteBreaker, StoredToken
from apps.tokens.services import accounts as account_services
from apps.tokens.services.owner import Owner
from tests.tokens.factories import make_account, make_site

TWO_KEYS = "t2:" + "QkJC" * 10 + "QkI="


def codes(check):
    with pytest.raises(Unwell) as caught:
        check.run()
    return [(reason.code, reason.severity) for reason in caught.value.reasons]


def beat(*, host="h1", cluster="default", answered_s=1, asked_s=1):
    at = database_now()
    ClusterBeat.objects.create(
        cluster=cluster,
        host=host,
        asked_at=at - timedelta(seconds=asked_s),
        answered_at=None if answered_s is None else at - timedelta(seconds=answered_s),
    )


def alert(severity):
    at = database_now()
    return Alert.objects.create(
        rule_name="r", metric="cpu_percent", direction="above", threshold=1, severity=severity,
        value=2, opened_value=2, opened_at=at, seen_at=at,
    )  # fmt: skip


def test_a_whole_installation_is_healthy():
    beat()
    make_account(make_site())

    report = health.check()

    assert (report.status, report.reasons) == ("healthy", ())
    assert {result.status for result in report.checks} == {"ok"}
    assert len(report.checks) == 11


@pytest.mark.parametrize(
    ("severities", "status"),
    [([1], "warning"), ([2, 1], "degraded"), ([1, 3, 2], "unhealthy"), ([], "healthy")],
)
def test_the_worst_open_alert_gives_the_status(severities, status):
    beat()
    for severity in severities:
        alert(severity)

    report = health.check()

    assert report.status == status
    assert [reason.severity for reason in report.reasons] == sorted(severities, reverse=True)


def test_a_resolved_alert_is_no_reason():
    beat()
    row = alert(Severity.HIGH)
    Alert.objects.filter(pk=row.pk).update(resolved_at=database_now())

    assert health.check().status == "healthy"


def test_a_site_whose_accounts_are_all_refused_is_a_reason_as_selection_sees_it():
    account = make_account(make_site())
    make_account(make_site("other"))
    SecretVerdict.objects.create(
        account=account, fingerprint=account.secret_fingerprint, wrong_at=database_now()
    )

    assert codes(SelectionCheck()) == [("no_account_can_log_in", Severity.MEDIUM)]


def test_one_able_account_is_found_behind_any_number_that_are_not():
    """Of each site a few are judged first; that they are refused says nothing of the others."""
    site = make_site()
    spoilt = [make_account(site, f"spoilt-{n}") for n in range(LIKELY + 2)]
    for account in spoilt:
        SecretVerdict.objects.create(
            account=account, fingerprint=account.secret_fingerprint, wrong_at=database_now()
        )
    able = make_account(site, "able", enabled=False)
    assert codes(SelectionCheck()) == [("no_account_can_log_in", Severity.HIGH)]
    Account.objects.filter(pk=able.pk).update(enabled=True, last_attempt_at=database_now())
    assert SelectionCheck().run()["unable"] == []


def test_when_no_site_is_left_that_can_serve_it_is_unhealthy():
    make_account(make_site(), enabled=False)

    assert codes(SelectionCheck()) == [("no_account_can_log_in", Severity.HIGH)]


def test_a_site_that_still_has_a_token_is_a_low_reason():
    account = make_account(make_site(), enabled=False)
    at = database_now()
    later = at + timedelta(hours=1)
    StoredToken.objects.create(
        account=account, version=1, fingerprint="f", material={}, issued_at=at, expires_at=later,
        usable_until=later, refresh_after=later,
    )  # fmt: skip

    assert codes(SelectionCheck()) == [("no_account_can_log_in", Severity.LOW)]


def test_sites_without_accounts_and_closed_sites_are_no_reason():
    make_site("empty")
    make_account(make_site("paused", paused=True), enabled=False)
    make_account(make_site("whole"))

    assert SelectionCheck().run() == {"sites": 3, "closed": 1, "unable": []}


def test_an_open_breaker_is_a_reason():
    site = make_site()
    make_account(site)
    SiteBreaker.objects.create(site=site, state="open")

    assert codes(SelectionCheck()) == [("breaker_open", Severity.MEDIUM)]


def test_without_workers_nothing_logs_in():
    assert codes(QueueCheck()) == [("no_workers", Severity.HIGH)]


def test_a_cluster_whose_tasks_do_not_come_back_is_a_high_reason():
    beat(answered_s=300)
    beat(cluster="browser")

    assert codes(QueueCheck()) == [("queue_silent", Severity.HIGH)]


def test_one_silent_host_of_two_is_a_medium_reason():
    beat(answered_s=None)
    beat(host="h2")

    assert codes(QueueCheck()) == [("queue_silent_on_host", Severity.MEDIUM)]


def test_a_host_that_is_no_more_is_forgotten():
    beat(answered_s=9_000, asked_s=9_000)
    beat(host="h2")

    assert QueueCheck().run() == {"default": {"hosts": 1, "alive": 1}}


def test_a_worker_that_does_not_renew_its_lease_is_a_reason():
    from apps.tokens.models import WorkerProcess

    owner = Owner.take(cluster="default")
    whole = WorkersCheck().run()
    past = database_now() - timedelta(seconds=61)
    WorkerProcess.objects.filter(pk=owner.id).update(lease_until=past)

    assert whole == {"running": 1, "silent": 0}
    assert codes(WorkersCheck()) == [("workers_silent", Severity.MEDIUM)]


@pytest.mark.parametrize(("free", "severity"), [(9, Severity.MEDIUM), (1, Severity.HIGH)])
def test_a_full_disk_is_a_reason(monkeypatch, free, severity):
    usage = namedtuple("usage", "total used free")(100, 100 - free, free)
    monkeypatch.setattr(health_checks.shutil, "disk_usage", lambda _: usage)

    assert codes(DiskCheck()) == [("disk_full", severity)]


@pytest.mark.parametrize("apart_s", [-3, 3])
def test_clocks_that_are_apart_are_a_reason(monkeypatch, apart_s):
    there = clock.now() + timedelta(seconds=apart_s)
    monkeypatch.setattr(health_checks.clock, "database_now", lambda: there)

    assert codes(ClockCheck()) == [("clocks_apart", Severity.MEDIUM)]


def test_a_key_that_is_gone_is_named(settings):
    account = make_account(make_site())
    settings.LATCHKEY_KEYS = TWO_KEYS

    with pytest.raises(Unwell, match="'t1'") as caught:
        KeysCheck().run()

    assert account.pk
    assert caught.value.reasons[0].severity == Severity.HIGH


def test_an_old_key_that_is_still_configured_is_fine(settings):
    make_account(make_site())
    settings.LATCHKEY_KEYS = f"{TWO_KEYS},{settings.LATCHKEY_KEYS}"
    account_services.create(make_unsaved(), {"password": "sealed-with-t2"})

    assert KeysCheck().run() == {"active": "t2", "configured": ["t1", "t2"]}


def make_unsaved():
    from apps.tokens.models import Account, Site

    return Account(site=Site.objects.get(), username="bob")


def test_a_missing_migration_is_named():
    from django.db.migrations.recorder import MigrationRecorder

    MigrationRecorder(connection).record_unapplied("performance", "0003_shipped_alert_rules")

    with pytest.raises(Unwell, match=r"performance\.0003_shipped_alert_rules"):
        MigrationsCheck().run()


def test_the_write_to_the_database_is_taken_back():
    DatabaseCheck().run()

    assert not Turn.objects.filter(pk=health_checks.PROBE).exists()


def test_a_degraded_cache_is_a_low_reason(monkeypatch):
    beat()
    away = Health(status="degraded", reasons=("refused",))
    monkeypatch.setattr(cache, "health", lambda: away)

    report = health.check()

    assert report.status == "warning"
    assert report.reasons[0].code == "cache_degraded"


class Broken:
    name = "broken"
    needs_database = False

    def run(self):
        raise KeyError("password=hunter22")


def test_a_check_with_a_bug_makes_nothing_look_well_and_tells_no_secret():
    report = health.check([Broken()])

    assert (report.status, report.reasons[0].code) == ("unhealthy", "broken_failed")
    assert "hunter22" not in report.reasons[0].message


@pytest.fixture
def no_database(monkeypatch):
    def refuse(*_, **__):
        raise OperationalError("connection refused")

    with monkeypatch.context() as patch:
        patch.setattr(connection, "ensure_connection", refuse)
        yield


def test_without_the_database_health_still_answers(no_database):
    report = health.check()

    assert report.status == "unhealthy"
    assert report.reasons[0].code == "database_down"
    skipped = {result.name for result in report.checks if result.status == "skipped"}
    assert skipped == {"queue", "workers", "clock", "keys", "migrations", "selection"}


def ready():
    return Client().get("/readyz")


def test_ready_says_so():
    assert (ready().status_code, ready().json()) == (200, {"status": "ready", "reasons": []})


def test_without_database_and_cache_it_is_not_ready(no_database, monkeypatch):
    monkeypatch.setattr(cache, "health", lambda: Health(status="off"))

    assert (ready().status_code, ready().json()["reasons"]) == (503, ["database_down"])


@pytest.fixture
def known_key():
    """One key is known; it was confirmed ten seconds ago."""
    CACHE.reset()
    robot = Principal(kind="key", id="k1", name="robot", user_id=1)
    CACHE.remember("digest", robot, confirmed_at=clock.monotonic() - 10)
    yield
    CACHE.reset()


@pytest.mark.usefixtures("known_key")
def test_without_database_but_with_redis_it_can_hand_out_tokens(no_database, monkeypatch, settings):
    monkeypatch.setattr(cache, "health", lambda: Health(status="ok"))

    assert ready().status_code == 200

    settings.LATCHKEY_OUTAGE_GRACE_S = 5  # nobody who asks is let in any more

    assert (ready().status_code, ready().json()["reasons"]) == (503, ["database_down"])


@pytest.mark.usefixtures("known_key")
def test_without_database_it_can_hand_out_the_tokens_it_holds(no_database, monkeypatch):
    monkeypatch.setattr(cache, "health", lambda: Health(status="off"))
    assert ready().status_code == 503
    cache.set("tokens", "a", {"bearer": "x"}, expires_at=clock.now() + timedelta(seconds=60))
    assert ready().status_code == 200

    monkeypatch.setattr(health.clock, "monotonic", lambda: time.monotonic() + 61)

    assert ready().status_code == 503


def test_without_an_audit_no_token_leaves(settings, tmp_path):
    (tmp_path / "file").write_text("")
    settings.LATCHKEY_AUDIT_DIR = tmp_path / "file" / "audit"

    assert (ready().status_code, ready().json()["reasons"]) == (503, ["audit_unavailable"])
    report = health.check()
    assert (report.status, report.reasons[0].code) == ("unhealthy", "audit_unavailable")


def test_with_a_key_missing_it_is_not_ready(settings):
    make_account(make_site())
    settings.LATCHKEY_KEYS = TWO_KEYS

    assert (ready().status_code, ready().json()["reasons"]) == (503, ["keys_missing"])


def test_with_a_migration_missing_it_is_not_ready():
    from django.db.migrations.recorder import MigrationRecorder

    MigrationRecorder(connection).record_unapplied("performance", "0003_shipped_alert_rules")

    assert (ready().status_code, ready().json()["reasons"]) == (503, ["migrations_missing"])


def test_readiness_writes_nothing_and_does_not_ask_everything_each_time(
    django_assert_num_queries,
):
    ready()

    # On PostgreSQL the one question is asked past Django, which cannot bound the wait.
    with django_assert_num_queries(0 if connection.vendor == "postgresql" else 1):
        ready()


def test_liveness_asks_nobody(no_database):
    assert Client().get("/livez").status_code == 200
