"""The older names lead to the services that do the work."""

from datetime import timedelta
from importlib import import_module

import pytest
from django.apps import apps
from django.db import connection

from apps.access.contracts import Grant
from apps.automation.services.token.account_selection_strategy import AccountSelectionStrategy
from apps.automation.services.token.auto_token_acquisition_service import (
    AutoTokenAcquisitionService,
)
from apps.automation.services.token.cache_manager import cache_manager
from apps.automation.services.token.concurrency_optimizer import (
    ConcurrencyConfig,
    concurrency_optimizer,
)
from apps.automation.services.token.history_recorder import history_recorder
from apps.automation.services.token.performance_monitor import (
    AlertThresholds,
    performance_monitor,
)
from apps.common.clock import now
from apps.history.models import TokenAcquisitionHistory
from apps.performance.models import AlertRule
from apps.tokens.errors import UnknownSite
from apps.tokens.models import AdmissionLimits, TokenRequest
from apps.tokens.services import acquisition, lookup, waiting
from apps.tokens.services.acquisition import AcquireSpec, Ticket
from tests.automation.documented import PATHS
from tests.tokens.factories import caller, make_account, make_site
from tests.tokens.work import work

shipped = import_module("apps.performance.migrations.0003_shipped_alert_rules")


@pytest.mark.parametrize(("method", "path"), PATHS)
def test_a_documented_path_answers(method, path, api):
    make_account(make_site(), "test_account")

    answer = api()(method, f"performance/{path}")

    assert answer.status in (200, 202, 204), answer.json


@pytest.mark.parametrize(("method", "path"), PATHS)
def test_a_documented_path_is_closed_to_strangers(method, path, api):
    stranger = api(Grant(site="*"), scopes=())

    assert stranger(method, f"performance/{path}").status == 403


def test_the_broker_never_hands_out_a_token_that_was_only_cached():
    make_account(make_site(), "test_account")
    cache_manager.cache_token("court_zxfw", "test_account", "forged")

    found = acquisition.obtain(
        AcquireSpec(site="court_zxfw", account="test_account"), principal=caller()
    )

    assert isinstance(found, Ticket)
    assert lookup.find("court_zxfw", "test_account") is None


def test_the_cached_token_of_the_broker_comes_first():
    site = make_site()
    make_account(site, "test_account")
    cache_manager.cache_token("court_zxfw", "test_account", "older")
    acquisition.obtain(AcquireSpec(site="court_zxfw"), principal=caller())
    work()

    assert cache_manager.get_cached_token("court_zxfw", "test_account") == "token-1-test_account"


def test_a_forgotten_token_is_gone():
    cache_manager.cache_token("court_zxfw", "test_account", "t")

    cache_manager.invalidate_token("court_zxfw", "test_account")

    assert cache_manager.get_cached_token("court_zxfw", "test_account") is None


def test_the_service_gives_the_token_and_audits_it(monkeypatch):
    make_account(make_site(), "alice")
    lines = []
    monkeypatch.setattr("apps.access.audit.JOURNAL.append", lines.append)
    monkeypatch.setattr("apps.tokens.services.waiting.POLL_S", 0)
    monkeypatch.setattr("time.sleep", lambda _: None)
    acquisition.obtain(AcquireSpec(site="court_zxfw"), principal=caller())
    work()

    token = AutoTokenAcquisitionService().acquire_token_if_needed("court_zxfw")

    assert token == "token-1-alice"
    assert b'"hand_out"' in lines[-1]


def test_the_service_waits_for_a_login_and_audits_its_token(monkeypatch):
    make_account(make_site(), "alice")
    lines = []
    monkeypatch.setattr("apps.access.audit.JOURNAL.append", lines.append)
    wait = waiting.wait
    monkeypatch.setattr(
        waiting, "wait", lambda ticket, **_: wait(ticket, max_wait_s=9, sleep=lambda _: work())
    )

    view = AutoTokenAcquisitionService().acquire("court_zxfw")

    assert view.material.bearer == "token-1-alice"
    assert b'"hand_out"' in lines[-1]


def test_the_services_patience_ends_and_the_request_lives_on():
    make_account(make_site(), "alice")

    with pytest.raises(TimeoutError):
        AutoTokenAcquisitionService().acquire("court_zxfw", max_wait_s=0)

    assert TokenRequest.objects.live().count() == 1


def test_selection_names_the_account_that_would_log_in():
    site = make_site()
    make_account(site, "alice")
    make_account(site, "bob", preferred=True)
    make_account(site, "carol", cooldown_until=now() + timedelta(hours=1))

    assert AccountSelectionStrategy().select_account("court_zxfw") == "bob"
    assert AccountSelectionStrategy().select_account("court_zxfw", ["bob"]) == "alice"
    assert AccountSelectionStrategy().get_available_accounts("court_zxfw") == ["bob", "alice"]
    with pytest.raises(UnknownSite):
        AccountSelectionStrategy().select_account("nowhere")


def test_the_configurations_show_what_holds():
    assert ConcurrencyConfig() == ConcurrencyConfig.current()
    AdmissionLimits.objects.create(pk=1, max_concurrent=7)
    shipped.write(apps, connection.schema_editor())  # an emptied database has none
    AlertRule.objects.filter(metric="success_rate").update(threshold=91.0)

    assert concurrency_optimizer.config.max_concurrent_acquisitions == 7
    assert AlertThresholds.current() == AlertThresholds(min_success_rate=91.0)


def test_the_shipped_rules_are_the_documented_thresholds():
    assert AlertThresholds.current() == AlertThresholds()


def test_the_history_takes_and_counts_a_record():
    history_recorder.record_acquisition_history(
        site_name="court_zxfw", account="alice", status="timeout", total_duration=120.0
    )

    row = TokenAcquisitionHistory.objects.get()
    assert (row.site, row.status, row.total_ms) == ("court_zxfw", "timeout", 120_000)
    assert history_recorder.get_statistics()["summary"]["total"] == 1


def test_an_end_without_a_start_is_counted_without_a_site():
    performance_monitor.record_acquisition_end("never-begun", False, 3.0, 2.0, "network_error")

    assert performance_monitor.get_real_time_metrics()["total"] >= 0
