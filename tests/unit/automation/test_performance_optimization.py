"""What the older document shows works as it is written there; it names this file."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.management import call_command

from apps.caching import services as cache
from apps.common import measure
from apps.common.clock import now
from apps.performance.services import statistics
from apps.tokens.models import ClusterBeat
from tests.automation import documented
from tests.tokens.factories import make_account, make_site

ROOT = Path(__file__).parents[3]
SNIPPETS = {
    "cache_manager": documented.CACHE_MANAGER,
    "ConcurrencyConfig": documented.CONCURRENCY_CONFIG,
    "CACHES": documented.REDIS_CACHES,
    "AlertThresholds": documented.ALERT_THRESHOLDS,
    "functional test": documented.FUNCTIONAL_TEST,
}


@pytest.fixture(autouse=True)
def empty_cache():
    cache.clear_all()
    yield
    cache.clear_all()


@pytest.mark.django_db
@pytest.mark.parametrize("snippet", SNIPPETS.values(), ids=SNIPPETS)
def test_a_snippet_runs_in_the_shell_as_it_is(snippet):
    call_command("shell", command=snippet, verbosity=0)


@pytest.mark.django_db
def test_the_cached_token_comes_back():
    shown = documented.CACHE_MANAGER + "assert token == 'token_12345', token\n"

    call_command("shell", command=shown, verbosity=0)


@pytest.mark.django_db(transaction=True)
def test_the_recorded_acquisition_is_measured():
    measure.flush()
    before = statistics.metrics().total

    call_command("shell", command=documented.FUNCTIONAL_TEST, verbosity=0)
    measure.flush()

    assert statistics.metrics().total == before + 1


@pytest.mark.processes
def test_the_functional_test_prints_what_the_document_says(database_url):
    """The process opens the database of the tests, in which there is no row yet."""
    ended = subprocess.run(
        [sys.executable, "manage.py", "shell", "-c", documented.FUNCTIONAL_TEST],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
        env={
            **os.environ,
            "DATABASE_URL": database_url,
            "DJANGO_SETTINGS_MODULE": "config.settings.test",
            "PYTHONIOENCODING": "utf-8",
        },
    )  # fmt: skip

    assert ended.returncode == 0, ended.stderr
    assert "性能监控测试完成" in ended.stdout
    assert "缓存测试完成: test_token" in ended.stdout


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("line", documented.COMMAND_LINES)
def test_a_command_line_works(line, monkeypatch, settings):
    settings.LATCHKEY_CONNECTORS = {"scripted": "tests.tokens.scripted.ScriptedConnector"}
    monkeypatch.setattr("apps.tokens.services.hints.send_to", lambda cluster: True)
    if "court_zxfw" in line:
        make_account(make_site(), "test_account")

    # Without workers the health is bad, and says so.
    ClusterBeat.objects.create(cluster="default", host="h", asked_at=now(), answered_at=now())

    call_command("optimize_token_performance", *line.split())
