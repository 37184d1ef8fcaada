"""What an answer costs: a number of queries that does not depend on how much is there.

And that rows read as columns are shown as instances of their models are.
"""

import json
import random
from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework import serializers

from apps.caching.models import CachePolicy, CacheUsage
from apps.common import measure
from apps.common.output import RowOutput
from apps.performance.models import AlertRule, LimitChange, MetricReset, SystemSample
from apps.tokens.models import BreakerTransition, Site, SiteBreaker, TokenRequest
from tests.load.operations import API, OPERATIONS, Kind

pytest_plugins = ["tests.lab"]
# Authentication is remembered, and so is the allowance: none of these is for the asking itself.
MOST_QUERIES = {Kind.RETRIEVE: 0, Kind.STORE: 15, Kind.LIST: 2, Kind.READ: 8}
MORE_QUERIES = {
    "keys": 4,  # the user's, and the grants of all
    "performance/metrics": 12,
    "performance/metrics?site_name={site}": 13,
    "performance/resource-usage": 9,
    "/metrics": 9,
    "sites/{site}/explain": 15,  # on PostgreSQL the clock is one of them
}


@pytest.fixture
def client(facts):
    return Client(headers={"X-API-Key": facts.keys[0]})


def send(client, call):
    body = json.dumps(call.body) if call.body else ""
    return client.generic(call.method, call.path, body, content_type="application/json")


def test_no_answer_takes_more_queries_than_it_may(facts, client):
    too_many = {}
    for one in OPERATIONS:
        if one.kind is Kind.ACQUIRE:
            continue
        dice = random.Random(1)
        send(client, one.make(facts, dice))
        with CaptureQueriesContext(connection) as queries:
            send(client, one.make(facts, random.Random(1)))
            taken = [found["sql"] for found in queries.captured_queries]
        taken = [sql for sql in taken if "access_ratewindow" not in sql]
        if len(taken) > MORE_QUERIES.get(one.name, MOST_QUERIES[one.kind]):
            too_many[one.name] = taken
    assert {name: len(taken) for name, taken in too_many.items()} == {}


@pytest.fixture
def rows_everywhere(facts):
    """At least a row in every list of DETAILS; a request of any account among them."""
    site, at = Site.objects.first(), timezone.now()
    SiteBreaker.objects.create(site=site, changed_at=at)
    BreakerTransition.objects.create(site=site, at=at, before="closed", after="open", reason="3")
    later = dict.fromkeys(("order_at", "not_before", "expires_at"), at)
    TokenRequest.objects.create(
        site=site, reason="no_token", created_at=at + timedelta(days=1), **later
    )
    LimitChange.objects.create(at=at, before=1, after=2, reason="why", numbers={}, by="anna")
    MetricReset.objects.create(since=at)
    SystemSample.objects.create(
        at=at, host="here", pid=1, role="web", cpu_percent=1, memory_percent=1,
        process_cpu_percent=1, rss_bytes=1, threads=1,
    )  # fmt: skip
    AlertRule.objects.get_or_create(
        name="cpu", defaults={"metric": "cpu_percent", "threshold": 70, "severity": 1}
    )
    CachePolicy.objects.get_or_create(namespace="tokens")
    CacheUsage.objects.create(namespace="tokens", layer="l1", minute=at, hits=1)
    measure.count("hand_outs", site="s")
    measure.flush()


# The lists of what only grows, by what they are mostly asked.
LONG = (
    "audit?", "audit?site=load-01&", "cache/usage?", "history?", "history?site=site-00&",
    "history?status=success&", "logins?", "logins?site=load-01&", "performance/metrics/buckets?",
    "performance/samples?", "repairs?", "requests?",
)  # fmt: skip


@pytest.mark.skipif(connection.vendor != "sqlite", reason="PostgreSQL sorts what is little")
def test_long_lists_are_read_in_the_order_of_an_index(client, rows_everywhere):
    sorted_by_hand = []
    for path in LONG:
        with CaptureQueriesContext(connection) as queries:
            client.get(f"{API}/{path}page_size=1")
        page = queries.captured_queries[-1]["sql"]
        assert page.endswith("LIMIT 1")
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN QUERY PLAN {page}")
            plan = [row[3] for row in cursor.fetchall()]
        sorted_by_hand += [path for step in plan if step == "USE TEMP B-TREE FOR ORDER BY"]
    assert sorted_by_hand == []


# Rows as columns -----------------------------------------------------------------------------
# List → what a single row is asked for by.
DETAILS = {
    "accounts": "id", "breakers": "site", "breaker-transitions": "id",
    "cache/policies": "namespace", "history": "id", "keys": "id", "logins": "id",
    "performance/alert-rules": "id", "performance/limit-changes": "id",
    "performance/metrics/buckets": "id", "performance/metrics/resets": "id",
    "performance/samples": "id", "repairs": "id", "requests": "id", "sites": "slug",
    "tokens": "id", "workers": "id",
}  # fmt: skip


def test_a_row_is_shown_in_its_list_as_by_itself(client, rows_everywhere):
    for path, name in DETAILS.items():
        (first, *_) = client.get(f"{API}/{path}").json()["results"]
        alone = client.get(f"{API}/{path}/{first[name]}").json()
        assert list(first.items()) == list(alone.items())


def _outputs(kind=RowOutput):
    for one in kind.__subclasses__():
        yield from (one, *_outputs(one))


def test_rows_are_shown_as_the_framework_would_show_them(rows_everywhere):
    compared = 0
    for kind in _outputs():
        rows = kind.Meta.model.objects.all()
        rows = rows.named() if hasattr(rows, "named") else rows
        rows = rows.with_counts() if hasattr(rows, "with_counts") else rows
        for row in rows[:3]:
            assert kind(row).data == serializers.Serializer.to_representation(kind(row), row)
            compared += 1
    assert compared > 20
