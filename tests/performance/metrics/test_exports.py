"""What Prometheus and Grafana are given: right in any number of processes, and it fits together."""

import json
import math
import re
import subprocess
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from django.test import Client
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from apps.access.contracts import Grant, Scope
from apps.caching.models import CacheUsage
from apps.common import events, measure
from apps.performance.models import SystemSample
from apps.performance.models.alerts import Severity
from apps.performance.services import exposition, keeping
from apps.tokens.models import AdmissionLimits
from tests.performance.metrics.conftest import exposed
from tests.promtool import find as find_promtool
from tests.tokens.factories import make_site

ROOT = Path(__file__).parents[3]
RULES = ROOT / "docs/deploy/prometheus-rules.yml"
DASHBOARD = ROOT / "docs/deploy/grafana-dashboard.json"
# What a rule that ships watches → the same for Prometheus, and its unit there as ours.
SAME_RULE = {
    "success_rate": ("LatchkeySuccessRateLow", 100),
    "timeout_rate": ("LatchkeyTimeoutRateHigh", 100),
    "mean_total_s": ("LatchkeyAcquisitionSlow", 1),
    "in_flight_and_waiting": ("LatchkeyQueueLong", 1),
    "memory_percent": ("LatchkeyMemoryHigh", 100),
    "cpu_percent": ("LatchkeyCpuHigh", 100),
    "cache_hit_rate": ("LatchkeyCacheHitRateLow", 100),
    "store_p95_ms": ("LatchkeyStoreSlow", 1000),
    "retrieve_p95_ms": ("LatchkeyRetrieveSlow", 1000),
    "api_p95_ms": ("LatchkeyApiSlow", 1000),
}
# Read as they are: of these there is one value, not many of a window.
GAUGES = {"in_flight_and_waiting", "memory_percent", "cpu_percent"}


@pytest.fixture(scope="session")
def promtool():
    """Run promtool with arguments and perhaps an input; returns what came of it."""
    program = find_promtool()
    if program is None:
        pytest.skip("promtool is not here (Debian package prometheus; or name it: PROMTOOL)")

    def run(*arguments, given=None):
        return subprocess.run(
            [program, *map(str, arguments)],
            input=given, capture_output=True, text=not isinstance(given, bytes), timeout=60,
            check=False,
        )  # fmt: skip

    return run


def measure_some():
    make_site("court")
    for status in ("success", "success", "timeout", "cancelled"):
        events.acquisition_ended(site="court", status=status, total_s=3.0, queue_wait_s=0.2)
    events.login_ended(site="court", took_s=2.0)
    events.login_ended(site="court", took_s=2.0, error_type="api_error", code="network_error")
    events.handed_out(site="court", cached=True, took_s=0.004)
    events.problem_answered(error_type="validation_error", code="not_found")
    events.cache_incident(reason="timeout")
    route = "/api/v1/automation/"
    events.request_answered(method="GET", route=route + "sites", status=200, took_s=0.05)
    events.request_answered(method="POST", route=route + "tokens/acquire", status=200, took_s=3.0)
    measure.observe(events.STORE_S, 0.02)
    measure.observe(events.CALL_S, 0.02, site="court", label="f")
    measure.count(events.CALLS, site="court", label="f")
    measure.count(events.CALL_ERRORS, site="court", label="f|KeyError")
    measure.flush()


@pytest.fixture
def measured(db):
    measure_some()


def test_counts_and_histograms_are_exposed(measured):
    found = exposed()
    ended = ("site", "court"), ("status", "success")
    assert found["latchkey_acquisitions_total", ended] == 2
    site = (("site", "court"),)
    assert found["latchkey_acquisition_duration_seconds_count", site] == 3
    assert found["latchkey_acquisition_duration_seconds_sum", site] == pytest.approx(9.0)
    within = {
        dict(labels)["le"]: value
        for (name, labels), value in found.items()
        if name == "latchkey_acquisition_duration_seconds_bucket"
    }
    assert (within["2.5"], within["5.0"], within["+Inf"]) == (0, 3, 3)


def test_what_is_exposed_never_shrinks_while_rows_age_and_go(measured, time):
    before = {key: value for key, value in exposed().items() if key[0].endswith("_total")}
    assert before
    for step in (keeping.KEEP_MINUTES, keeping.KEEP_HOURS, keeping.KEEP_DAYS):
        time.move(step.total_seconds() + 86_400)
        keeping.keep()
    after = exposed()
    assert {key: after[key] for key in before} == before


@pytest.mark.parametrize("value", [0.0011, 0.0499, 0.2, 0.51, 9.0, 1000.0])
def test_a_value_is_on_the_right_side_of_an_edge_within_the_error(db, value):
    measure.observe(events.STORE_S, value)
    measure.flush()
    for (name, labels), count in exposed().items():
        if name == "latchkey_token_store_duration_seconds_bucket":
            edge = float(dict(labels)["le"])
            if math.isinf(edge) or abs(value / edge - 1) > 0.021:
                assert count == (value <= edge), edge


def test_machines_and_work_are_exposed(measured):
    SystemSample.objects.create(
        at=timezone.now(), host="h", pid=1, role="supervisor", cpu_percent=12, memory_percent=50,
        process_cpu_percent=1, rss_bytes=1000, threads=1, database_connections=7, redis="degraded",
    )  # fmt: skip
    found = exposed()
    assert found["latchkey_host_cpu_ratio", (("host", "h"),)] == 0.12
    assert found["latchkey_resident_memory_bytes", (("host", "h"), ("role", "supervisor"))] == 1000
    assert found["latchkey_database_connections", ()] == 7
    assert found["latchkey_logins_in_flight", (("site", "court"),)] == 0
    assert found["latchkey_cache_degraded_processes", ()] == 1
    assert found["latchkey_cache_incidents_total", (("reason", "timeout"),)] == 1


def test_where_logins_may_be_made_now_is_exposed(measured):
    every_hour = [{"from": "00:00", "to": "24:00"}]
    make_site("closed", closed_hours=every_hour)
    make_site("paused", paused=True)
    make_site("off", enabled=False)

    def opened():
        return {
            dict(labels)["site"]: value
            for (name, labels), value in exposed().items()
            if name == "latchkey_site_open"
        }

    assert opened() == {"court": 1, "closed": 0, "paused": 0, "off": 0}
    AdmissionLimits.change({"paused": True})
    assert set(opened().values()) == {0}


def test_the_reads_of_the_hit_rate_are_exposed(measured):
    assert exposed()["latchkey_cache_reads", ()] == 0
    CacheUsage.objects.create(
        minute=timezone.now(), namespace="tokens", layer="l1", hits=3, misses=1
    )
    found = exposed()
    assert found["latchkey_cache_reads", ()] == 4
    assert found["latchkey_cache_hit_ratio", ()] == 0.75


def test_a_scrape_needs_the_token_or_a_key(client, settings):
    def scrape(**headers):
        return Client().get("/metrics", headers=headers)

    settings.LATCHKEY_METRICS_TOKEN = "scrape-me"
    assert scrape().status_code == 401
    assert scrape(authorization="Bearer scrape-you").status_code == 401
    answer = scrape(authorization="Bearer scrape-me")
    assert (answer.status_code, answer["Content-Type"][:10]) == (200, "text/plain")
    assert b"# TYPE latchkey_acquisitions_total counter" in answer.content
    assert client().get("/metrics").status_code == 200
    assert client(scopes=(Scope.TOKENS_READ,)).get("/metrics").status_code == 403
    own_site_only = client(grants=(Grant(site="court"),))
    assert own_site_only.get("/metrics").status_code == 403


def test_without_a_token_in_the_settings_an_empty_one_opens_nothing(db, settings):
    settings.LATCHKEY_METRICS_TOKEN = ""
    for header in ({}, {"authorization": "Bearer "}, {"authorization": "Bearer"}):
        assert Client().get("/metrics", headers=header).status_code == 401


def test_the_names_pass_the_linter_of_prometheus(measured, promtool):
    linted = promtool("check", "metrics", given=exposition.text())
    assert (linted.returncode, linted.stdout + linted.stderr) == (0, b"")


def test_the_alert_rules_do_what_they_say(tmp_path, promtool):
    text = (Path(__file__).parent / "rules_test.yml").read_text(encoding="utf-8")
    (tmp_path / "test.yml").write_text(text.replace("RULES", str(RULES)))
    done = promtool("test", "rules", tmp_path / "test.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_rule_fires_in_a_unit_test():
    rules = [rule["alert"] for rule in yaml.safe_load(RULES.read_text())["groups"][0]["rules"]]
    tests = yaml.safe_load((Path(__file__).parent / "rules_test.yml").read_text())["tests"]
    cases = [case for test in tests for case in test["alert_rule_test"]]
    assert set(rules) == {case["alertname"] for case in cases if case["exp_alerts"]}


def test_the_rules_are_those_that_ship():
    shipped = import_module("apps.performance.migrations.0003_shipped_alert_rules").SHIPPED
    rules = {
        rule["alert"]: rule for rule in yaml.safe_load(RULES.read_text())["groups"][0]["rules"]
    }
    for rule in shipped:
        if rule["metric"] not in SAME_RULE:
            continue
        name, unit = SAME_RULE[rule["metric"]]
        expression = rules[name]["expr"]
        sign = "<" if rule["direction"] == "below" else ">"
        assert f"{sign} {rule['threshold'] / unit:g}" in expression
        assert rules[name]["labels"]["severity"] == Severity(rule["severity"]).label
        if rule["metric"] in GAUGES:
            continue
        assert f">= {rule['minimum']}\n" in expression
        assert f"[{rule['window_s'] // 60}m]" in expression


def queries():
    """Every query of the dashboard and the rules."""
    board = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    for panel in board["panels"]:
        for target in panel["targets"]:
            yield target["expr"]
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["query"]
    for rule in yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"][0]["rules"]:
        yield rule["expr"]


def unknown_parts(query, names):
    """Return the metrics and labels of a query that are not exposed."""
    used = re.findall(r"\b(latchkey_\w+)(?:\{([^}]*)\})?", query)
    assert used, query
    missing = [name for name, _ in used if name not in names]
    labels = set().union(*(names.get(name, set()) for name, _ in used))
    wanted = {
        label
        for _, selector in used
        for label in re.findall(r"(\w+)\s*(?:=~|!=|!~|=)", selector or "")
    }
    for group in re.findall(r"\b(?:by|on)\s*\(([^)]+)\)", query):
        wanted |= {label.strip() for label in group.split(",")}
    return missing + sorted(wanted - labels)


def test_every_query_asks_for_something_that_is_exposed(measured):
    SystemSample.objects.create(
        at=timezone.now(), host="h", pid=1, role="supervisor", cpu_percent=12, memory_percent=50,
        process_cpu_percent=1, rss_bytes=1000, threads=1, database_connections=7,
    )  # fmt: skip
    names = {}
    for family in text_string_to_metric_families(exposition.text().decode()):
        names.setdefault(family.name, set())
        for sample in family.samples:
            names.setdefault(sample.name, set()).update(sample.labels)
    names["latchkey_workers"] = {"cluster"}  # there is none in this test
    wrong = {query: bad for query in queries() if (bad := unknown_parts(query, names))}
    assert wrong == {}
    assert unknown_parts("sum by (x) (latchkey_nonsense{y=~'a'})", names) == [
        "latchkey_nonsense", "x", "y",
    ]  # fmt: skip


def test_prometheus_understands_every_query(tmp_path, promtool):
    rules = [
        {"record": f"q:{number}", "expr": re.sub(r"\$__\w+", "5m", query)}
        for number, query in enumerate(queries())
        if not query.startswith("label_values")
    ]
    (tmp_path / "q.yml").write_text(yaml.safe_dump({"groups": [{"name": "q", "rules": rules}]}))
    done = promtool("check", "rules", tmp_path / "q.yml")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("title", "labels"), [("Success rate", "{}"), ("Success rate by site", '{site="worst"}')]
)
def test_where_nothing_ever_succeeded_the_panel_shows_zero(tmp_path, promtool, title, labels):
    board = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    (panel,) = [panel for panel in board["panels"] if panel["title"] == title]
    (expression,) = [target["expr"] for target in panel["targets"]]
    expression = re.sub(r"\$__\w+", "5m", expression).replace("$site", ".*")
    failed = 'latchkey_acquisitions_total{site="worst",status="failed"}'
    wanted = {"expr": expression, "eval_time": "10m"}
    test = {
        "interval": "1m",
        "input_series": [{"series": failed, "values": "0+5x20"}],
        "promql_expr_test": [{**wanted, "exp_samples": [{"labels": labels, "value": 0}]}],
    }
    (tmp_path / "test.yml").write_text(yaml.safe_dump({"tests": [test]}))
    done = promtool("test", "rules", tmp_path / "test.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_panels_do_not_lie_on_each_other():
    taken = {}
    for panel in json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        for x in range(at["x"], at["x"] + at["w"]):
            for y in range(at["y"], at["y"] + at["h"]):
                assert taken.setdefault((x, y), panel["title"]) == panel["title"]
