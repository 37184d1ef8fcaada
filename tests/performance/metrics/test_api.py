"""The endpoints: paths, verbs, scopes, grants, and what they answer."""

import csv
import io
from urllib.parse import urljoin

import pytest
from django.db import connection

from apps.access.contracts import Grant, Scope
from apps.caching import services as cache
from apps.caching.models import CacheGeneration
from apps.common import clock, events, measure
from apps.performance.models import MetricBucket, MetricReset
from apps.tokens.models import ClusterBeat, TokenRequest
from tests.tokens.factories import make_account, make_site
from tests.tokens.work import work

pytestmark = pytest.mark.django_db
ROOT = "/api/v1/automation/performance/"
READS = [
    "metrics", "statistics", "resource-usage", "cache-stats", "metrics/series?metric=x",
    "metrics/export", "metrics/buckets", "metrics/resets", "samples",
]  # fmt: skip
WRITES = [
    ("post", "metrics/reset"), ("delete", "cache/clear"), ("post", "resources/cleanup"),
]  # fmt: skip


@pytest.mark.parametrize("path", READS)
@pytest.mark.parametrize("scope", [Scope.OPERATE, Scope.REQUESTS_READ])
def test_either_scope_may_read(client, path, scope):
    assert client(scopes=(scope,)).get(ROOT + path).status_code == 200


@pytest.mark.parametrize("path", READS)
def test_other_scopes_may_not_read(client, path):
    answer = client(scopes=(Scope.TOKENS_READ,)).get(ROOT + path)
    assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")


@pytest.mark.parametrize(("verb", "path"), WRITES)
def test_only_an_operator_may_write(client, verb, path):
    watcher = client(scopes=(Scope.REQUESTS_READ,))
    assert getattr(watcher, verb)(ROOT + path).status_code == 403
    assert MetricReset.objects.count() == 0
    operator = client(scopes=(Scope.OPERATE,))
    assert getattr(operator, verb)(ROOT + path).status_code == 200


@pytest.mark.parametrize(
    ("verb", "path"), [("post", "metrics"), ("get", "metrics/reset"), ("post", "cache/clear")]
)
def test_other_verbs_are_refused(client, verb, path):
    assert getattr(client(), verb)(ROOT + path).status_code == 405


def test_nobody_reads_without_a_key(client):
    client()
    from rest_framework.test import APIClient

    assert APIClient().get(ROOT + "metrics").status_code == 401


@pytest.mark.parametrize("path", ["metrics", "statistics", "metrics/export"])
def test_a_caller_sees_the_sites_of_its_grants_only(client, path):
    caller = client(scopes=(Scope.REQUESTS_READ,), grants=(Grant(site="court"),))
    assert caller.get(f"{ROOT}{path}?site_name=court").status_code == 200
    assert caller.get(f"{ROOT}{path}?site_name=bank").status_code == 404
    assert caller.get(ROOT + path).status_code == 403


@pytest.mark.parametrize(
    ("verb", "path"),
    [
        *(("get", path) for path in (
            "resource-usage", "samples", "metrics/buckets", "metrics/resets", "cache-stats",
        )),
        *WRITES,
        ("patch", "../limits"), ("delete", "../cache/policies/tokens/values"),
    ],
)  # fmt: skip
def test_what_concerns_all_sites_needs_a_grant_for_all(client, verb, path):
    caller = client(scopes=(Scope.OPERATE,), grants=(Grant(site="court"),))
    assert getattr(caller, verb)(urljoin(ROOT, path)).status_code == 403
    assert MetricReset.objects.count() == 0


def test_metrics_answer_with_what_was_measured(client, time):
    caller = client()
    events.acquisition_ended(site="court", status="success", total_s=2.0)
    events.acquisition_ended(site="court", status="timeout", total_s=60.0)
    measure.flush()
    found = caller.get(ROOT + "metrics?window_s=60&site_name=court").json()
    assert (found["total"], found["success"], found["timeout_errors"]) == (2, 1, 1)
    assert found["success_rate"] == 0.5
    assert found["total_s"]["max"] == 60.0
    assert len(found["error_types"]) == 6


@pytest.mark.parametrize(
    "query", ["metrics?window_s=0", "metrics?window_s=nan", "metrics?site_name=a/b",
              "statistics?days=0", "statistics?days=366", "metrics/series",
              "metrics/export?format=xml"],
)  # fmt: skip
def test_a_senseless_question_is_a_400(client, query):
    answer = client().get(ROOT + query)
    assert (answer.status_code, answer.json()["error_type"]) == (400, "validation_error")


def test_the_last_errors_are_told_without_secrets(client):
    from datetime import timedelta

    from django.utils import timezone

    from apps.tokens.models import LoginAttempt, WorkerProcess

    account = make_account(make_site("court"))
    at = timezone.now()
    request = TokenRequest.objects.create(
        site=account.site, reason="no_token", status="failed", created_at=at, order_at=at,
        not_before=at, expires_at=at,
    )  # fmt: skip
    owner = WorkerProcess.objects.create(
        host="h", pid=1, process_started_at=0, cluster="default", slots=1, started_at=at,
        lease_until=at,
    )  # fmt: skip
    for number in range(103):
        LoginAttempt.objects.create(
            request=request, site=account.site, account=account, owner=owner, fence=1,
            credential_version=1, concurrency_at_start=1, deadline=at, outcome="failed",
            started_at=at + timedelta(seconds=number), error_code="network_error",
            error_message="GET https://ann:hunter2@court.example failed",
        )  # fmt: skip
    found = client().get(ROOT + "metrics").json()["recent_errors"]
    assert len(found) == 100
    assert found[0]["account"] == "alice"
    assert found[0]["code"] == "network_error"
    assert "hunter2" not in found[0]["message"]


def test_statistics_count_the_history(client):
    found = client().get(ROOT + "statistics?days=30").json()
    assert found["summary"]["total"] == 0


def test_resource_usage_tells_of_this_process_and_the_queue(client):
    found = client().get(ROOT + "resource-usage").json()
    assert [row["rss_bytes"] > 1_000_000 for row in found["processes"]] == [True]
    assert (found["queue_depth"], found["in_flight"], found["workers"]) == (0, 0, [])
    assert 0 < found["memory_percent"] < 100


def test_resource_usage_tells_of_clusters_and_connections(client):
    ClusterBeat.objects.create(cluster="browser", host="h", asked_at=clock.now())
    found = client().get(ROOT + "resource-usage").json()
    assert [row["cluster"] for row in found["clusters"]] == ["browser"]
    states = found["database_states"]
    assert (states.get("active", 0) > 0) == (connection.vendor == "postgresql")


def test_cache_clear_forgets_one_namespace_or_all(client):
    caller = client()
    for namespace in ("blacklist", "progress"):
        cache.set(namespace, "k", 1)
    assert caller.delete(ROOT + "cache/clear?namespace=progress").json() == {"cleared": "progress"}
    assert (cache.get("progress", "k"), cache.get("blacklist", "k")) == (None, 1)
    answer = caller.delete(ROOT + "cache/clear?namespace=nope")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert not CacheGeneration.objects.filter(namespace="nope").exists()
    assert caller.delete(ROOT + "cache/clear").json() == {"cleared": "*"}
    assert cache.get("blacklist", "k") is None


def test_cache_stats_name_every_layer(client):
    cache.set("blacklist", "k", 1)
    cache.get("blacklist", "k")
    found = client().get(ROOT + "cache-stats").json()
    assert found["hit_rate"] == 1.0
    rows = [row for row in found["layers"] if row["namespace"] == "blacklist"]
    assert [row["hits"] for row in rows if row["layer"] == "l1"] == [1]


def test_warm_up_queues_the_missing_logins_and_does_not_wait(client, monkeypatch):
    monkeypatch.setattr("apps.tokens.services.hints.send_to", lambda cluster: True)
    make_account(make_site("court"))
    make_account(make_site("bank"), username="bob")
    caller = client()
    answer = caller.post(ROOT + "cache/warm-up?site_name=court")
    assert answer.status_code == 202
    assert (answer.json()["sites"], answer.json()["requested"]) == (["court"], 1)
    assert [row.site.slug for row in TokenRequest.objects.all()] == ["court"]
    assert caller.post(ROOT + "cache/warm-up").json()["sites"] in (
        ["bank", "court"],
        ["court", "bank"],
    )
    assert caller.post(ROOT + "cache/warm-up?site_name=none").status_code == 404


def test_how_far_a_warm_up_is_can_be_asked(client, monkeypatch):
    monkeypatch.setattr("apps.tokens.services.hints.send_to", lambda cluster: True)
    site = make_site("court")
    for name in ("alice", "bob"):
        make_account(site, username=name)
    make_account(site, username="carol", needs_action="call her")
    make_account(make_site("bank"), username="dave")
    caller, page = client(), ROOT + "cache/warm-up?site_name=court"

    def state(more=""):
        found = caller.get(page + more).json()
        return [found[key] for key in ("accounts", "fresh", "pending", "missing", "progress")]

    assert state() == [3, 0, 0, 2, 33]
    assert caller.post(page + "&account=alice").json()["requested"] == 1
    assert state() == [3, 0, 1, 1, 33]
    work()
    assert state() == [3, 1, 0, 1, 66]
    assert state("&account=alice") == [1, 1, 0, 0, 100]
    assert caller.get(ROOT + "cache/warm-up").json()["accounts"] == 4
    assert caller.get(page + "&account=nobody").status_code == 404
    assert caller.get(ROOT + "cache/warm-up?account=alice").status_code == 400


def test_warm_up_is_bound_by_grants_and_for_operators(client):
    make_site("court")
    own = client(grants=(Grant(site="bank"),))
    assert own.post(ROOT + "cache/warm-up?site_name=court").status_code == 404
    assert own.post(ROOT + "cache/warm-up").status_code == 403
    watcher = client(scopes=(Scope.REQUESTS_READ,))
    assert watcher.post(ROOT + "cache/warm-up?site_name=court").status_code == 403


def test_a_reset_is_told_of_and_kept(client):
    caller = client(name="operator")
    events.acquisition_ended(site="court", status="success", total_s=2.0)
    assert caller.post(ROOT + "metrics/reset").json()["by"] == "operator"
    assert caller.get(ROOT + "metrics").json()["total"] == 0
    assert [row["by"] for row in caller.get(ROOT + "metrics/resets").json()["results"]] == [
        "operator"
    ]


def test_cleanup_says_what_it_repaired(client):
    found = client().post(ROOT + "resources/cleanup").json()
    assert found["dead_owners"] == 0
    assert found["metric_rows"] == 0


def _measured(time):
    measure.observe("x", 2.0, site="court", label="=cmd()")
    measure.count("y", 5)
    measure.flush()


def test_export_as_csv_opens_in_a_spreadsheet_without_running_anything(client, time):
    caller = client()
    _measured(time)
    answer = caller.get(ROOT + "metrics/export?format=csv&metric=x")
    [row] = csv.DictReader(io.StringIO(b"".join(answer).decode()))
    assert row["label"] == "'=cmd()"
    assert (row["site"], row["count"], row["mean"]) == ("court", "1", "2.0")


def test_export_as_json_is_one_document(client, time):
    import json

    caller = client()
    _measured(time)
    found = json.loads(b"".join(caller.get(ROOT + "metrics/export?format=json")))
    assert [(row["metric"], row["count"]) for row in found] == [("x", 1), ("y", 5)]
    assert json.loads(b"".join(caller.get(ROOT + "metrics/export?format=json&metric=z"))) == []


def test_lists_can_be_filtered_and_ordered(client, time):
    caller = client()
    _measured(time)
    found = caller.get(ROOT + "metrics/buckets?metric=y&ordering=minute").json()["results"]
    assert len(found) == MetricBucket.objects.filter(metric="y").count() == 2


def test_series_answer_by_minute(client, time):
    caller = client()
    _measured(time)
    points = caller.get(ROOT + "metrics/series?metric=y&step_s=600").json()
    assert len(points) == 6
    assert sum(point["count"] for point in points) == 5
