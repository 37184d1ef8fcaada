"""The first page of the admin: right figures from the rows all share, for whoever may see them."""

import json
import re
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from apps.caching.models import CacheUsage
from apps.common import clock, events
from apps.common.measure import Row
from apps.common.scale import COUNT_BUCKET, bucket_of
from apps.performance.models import Alert, MetricReset, SystemSample
from apps.performance.services import dashboard, storing
from apps.tokens.errors import SiteUnavailable
from apps.tokens.models import (
    Account,
    AdmissionLimits,
    LoginAttempt,
    Site,
    SiteBreaker,
    StoredToken,
)
from apps.tokens.services import requests, selection
from tests.performance.tuning.rows import add_login, owner
from tests.tokens.factories import make_account, make_site
from tests.tokens.work import claim

pytestmark = pytest.mark.django_db
PAGE = "/admin/"
PARTS = [
    "lk-as-of",
    "lk-figures",
    "lk-alerts",
    "lk-sites",
    "lk-data-box",
    "lk-hosts",
    "lk-failures",
]
# Outside the sidebar, so outside whatever else the admin asks the database for.
MOST_QUERIES = 26


@pytest.fixture
def at(monkeypatch):
    """A clock that stands still, half a minute past a full hour."""
    moment = datetime(2026, 3, 2, 12, 0, 30, tzinfo=UTC)
    monkeypatch.setattr(clock, "now", lambda: moment)
    return moment


def count(metric, label, n, *, at, site="court", minutes_ago=0):
    minute = int(at.timestamp()) // 60 * 60 - 60 * minutes_ago
    storing.store([Row(minute, metric, site, label, COUNT_BUCKET, n, 0.0, 0.0, 0.0)])


def observe(metric, value, *, at, label="", site="", minutes_ago=0, n=1):
    minute = int(at.timestamp()) // 60 * 60 - 60 * minutes_ago
    row = Row(minute, metric, site, label, bucket_of(value), n, value * n, value, value)
    storing.store([row])


def sample(at, *, role="supervisor", host="h1", pid=1, ago_s=0, **fields):
    values = {
        "cpu_percent": 10.0, "memory_percent": 20.0, "process_cpu_percent": 1.0,
        "rss_bytes": 1_000_000, "threads": 3, "redis": "off",
    } | fields  # fmt: skip
    return SystemSample.objects.create(
        at=at - timedelta(seconds=ago_s), host=host, pid=pid, role=role, **values
    )


def read(name="1h", may=lambda permission: True):
    return dashboard.read(dashboard.window(name), may=may)


def figure(title):
    return next(one for one in read().figures if one.title == title)


def lines(name, window="1h"):
    chart = next(chart for chart in read(window).charts if chart.name == name)
    return {line.name: line.values for line in chart.lines}


def site_line(slug):
    return next(line for line in read().sites if line.slug == slug)


def states(slug):
    return [state.text for state in site_line(slug).states]


# Figures and charts ---------------------------------------------------------------------------
def test_the_success_rate_is_of_what_ended_and_was_not_cancelled(at):
    count(events.ACQUISITIONS, "success", 6, at=at)
    count(events.ACQUISITIONS, "success", 3, at=at, site="other", minutes_ago=5)
    count(events.ACQUISITIONS, "timeout", 1, at=at)
    count(events.ACQUISITIONS, "cancelled", 7, at=at)
    count(events.ACQUISITIONS, "failed", 50, at=at, minutes_ago=61)

    found = figure("Success rate")
    assert (found.value, found.note) == ("90.0 %", "9 of 10 requests")
    drawn = lines("requests")
    assert (drawn["succeeded"][-1], drawn["succeeded"][-6], sum(drawn["succeeded"])) == (6, 3, 9)
    assert (drawn["failed"][-1], sum(drawn["failed"])) == (1, 1)


def test_login_times_are_percentiles_of_all_sites(at):
    for number in range(1, 101):
        observe(events.LOGIN_S, number / 10, at=at, label="ok", site=f"s{number % 3}")
    observe(events.LOGIN_S, 50.0, at=at, label="failed", minutes_ago=2)

    assert figure("Login time").value == "5.1 s"
    drawn = lines("login_time")
    assert drawn["median"][-1] == pytest.approx(5, rel=0.02)
    assert drawn["p95"][-1] == pytest.approx(9.5, rel=0.02)
    assert drawn["p95"][-3] == pytest.approx(50, rel=0.02)
    assert drawn["median"][-2] is None


def test_hit_rate_and_hand_outs(at):
    minute = at.replace(second=0)
    CacheUsage.objects.create(namespace="a", layer="l1", minute=minute, hits=6, misses=4)
    CacheUsage.objects.create(namespace="a", layer="l2", minute=minute, hits=3, misses=1)
    count(events.HAND_OUTS, "cached", 8, at=at)
    count(events.HAND_OUTS, "login", 2, at=at)

    assert (figure("Cache hit rate").value, figure("Cache hit rate").note) == (
        "90.0 %",
        "of 10 reads",
    )
    assert lines("hit_rate")["hit rate"][-2:] == [None, 90.0]
    assert (figure("Handed out").value, figure("Handed out").note) == ("10", "8 without a login")


def test_what_runs_and_waits_now_is_counted_in_rows():
    site = make_site()
    for name in ("alice", "bob"):
        demand = requests.Demand(site=site, account=make_account(site, name), reason="manual")
        requests.ask(demand, asker=None)
    assert claim()

    assert (figure("Logging in").value, figure("Waiting").value) == ("1", "1")
    found = site_line(site.slug)
    assert (found.running, found.waiting) == (1, 1)


def test_hosts_are_plotted_by_their_means_the_busiest_of_many(at):
    observe(events.CPU, 20.0, at=at, label="h1", n=2)
    observe(events.CPU, 50.0, at=at, label="h1", n=1)
    for number in range(2, 10):
        observe(events.CPU, float(number), at=at, label=f"h{number}")
    observe(events.RSS_BYTES, 150e6, at=at, label="web")

    drawn = lines("cpu")
    assert drawn["h1"][-2:] == [None, 30.0]
    assert sorted(drawn) == ["h1", "h5", "h6", "h7", "h8", "h9"]
    assert lines("rss")["web"][-1] == 150


def test_supervisors_are_plotted_by_the_most_they_saw(at):
    sample(at, in_flight=1, queue_depth=4, database_ms=0.5, database_connections=7)
    sample(at, in_flight=3, queue_depth=2, ago_s=10)
    sample(at, role="web", in_flight=9, ago_s=5)
    sample(at, in_flight=8, ago_s=3_700)

    assert {name: values[-1] for name, values in lines("now").items()} == {
        "logging in": 3,
        "waiting": 4,
    }
    assert max(value or 0 for value in lines("now")["logging in"]) == 3
    assert lines("database")["one query"][-1] == 0.5
    assert lines("connections")["connections"][-1] == 7


@pytest.mark.parametrize(("name", "steps", "step_s"), [("6h", 72, 300), ("24h", 96, 900)])
def test_a_longer_window_has_longer_steps(at, name, steps, step_s):
    count(events.ACQUISITIONS, "success", 1, at=at)
    count(events.ACQUISITIONS, "success", 2, at=at, minutes_ago=step_s // 60)
    drawn = lines("requests", name)["succeeded"]

    assert len(drawn) == len(read(name).span.labels()) == steps
    assert drawn[-2:] == [2, 1]


def test_metrics_that_were_reset_are_not_shown(at):
    count(events.ACQUISITIONS, "failed", 5, at=at, minutes_ago=10)
    MetricReset.objects.create(since=at - timedelta(minutes=5))

    assert figure("Success rate").value == "–"


def test_an_open_alert_colours_what_it_is_about(at):
    facts = {"direction": "below", "threshold": 80, "value": 1, "opened_value": 1}
    Alert.objects.create(
        rule_name="a", metric="success_rate", severity=3, opened_at=at, seen_at=at, **facts
    )
    Alert.objects.create(
        rule_name="b", metric="cache_hit_rate", severity=1, opened_at=at, seen_at=at,
        resolved_at=at, **facts,
    )  # fmt: skip

    assert figure("Success rate").tone == "bad"
    assert figure("Cache hit rate").tone == ""
    assert (figure("Open alerts").value, figure("Open alerts").tone) == ("1", "bad")
    assert [alert.rule_name for alert in read().alerts] == ["a"]


# Sites and hosts ------------------------------------------------------------------------------
def test_a_site_says_what_holds_it_back():
    now = timezone.now()
    for slug in ("well", "empty", "off", "paused", "slow", "broken", "stuck", "lasting"):
        site = make_site(slug)
        if slug != "empty":
            make_account(site)
    Site.objects.filter(slug="off").update(enabled=False)
    Site.objects.filter(slug="paused").update(paused=True)
    Site.objects.filter(slug="slow").update(cooldown_until=now + timedelta(hours=1))
    SiteBreaker.objects.create(site=Site.objects.get(slug="broken"), state="open")
    Account.objects.filter(site__slug__in=["stuck", "lasting"]).update(needs_action="Call them")
    store(Account.objects.get(site__slug="lasting"))

    assert {line.slug: states(line.slug) for line in read().sites} == {
        "well": ["open"],
        "empty": ["no accounts"],
        "off": ["disabled"],
        "paused": ["paused"],
        "slow": ["asked to slow down"],
        "broken": ["breaker open"],
        "stuck": ["no account may log in"],
        "lasting": ["no account may log in"],
    }
    order = [line.slug for line in read().sites]
    assert (order[:2], set(order[2:4])) == (["broken", "stuck"], {"lasting", "slow"})


def test_everything_paused_is_said_of_every_site():
    make_account(make_site())
    AdmissionLimits.objects.update_or_create(pk=1, defaults={"paused": True})

    assert states("court_zxfw") == ["everything paused"]


def store(account, *, life_s=3600):
    now = timezone.now()
    end = now + timedelta(seconds=life_s)
    StoredToken.objects.create(
        account=account, version=1, material={"bearer": "x"}, fingerprint="f", issued_at=now,
        expires_at=end, usable_until=end, refresh_after=end,
    )  # fmt: skip


def test_a_pool_counts_tokens_that_serve_and_accounts_that_may_log_in():
    site = make_site()
    for number in range(4):
        make_account(site, f"user{number}")
    users = {row.username: row for row in Account.objects.all()}
    store(users["user0"])
    store(users["user1"], life_s=-5)
    Account.objects.filter(username="user2").update(enabled=False)
    make_account(make_site("other"), "elsewhere")

    pool = site_line(site.slug).pool
    assert (pool.accounts, pool.able, pool.tokens) == (4, 3, 1)


def test_all_pools_are_judged_as_each_by_itself():
    limits, worker = AdmissionLimits.current(), owner()
    for slug, budget in (("a", 2), ("b", 3), ("c", 20)):
        site = make_site(slug, budget_per_account=budget, budget_window_s=60 * budget)
        for name in ("x", "y", "z"):
            make_account(site, name)
        spent, some, _ = site.accounts.order_by("username")
        for number in range(3):
            add_login(site, spent, asked_s_ago=10 + number, took_s=1, by=worker)
        add_login(site, some, asked_s_ago=50, took_s=1, by=worker, error=SiteUnavailable)
        # Outside of its own site's window, inside of another's.
        add_login(site, some, asked_s_ago=150, took_s=1, by=worker)
    at = timezone.now()

    def told(judged):
        return {(one.account.pk, one.why_not) for one in judged}

    each = [
        selection.judge(Account.objects.filter(site=site), site=site, at=at, limits=limits)
        for site in Site.objects.all()
    ]
    every = selection.judge_all(Account.objects.select_related("site"), at=at, limits=limits)
    assert told(every) == {one for judged in each for one in told(judged)}
    assert sum(one.why_not is not None for one in every) == 2


def test_hosts_add_up_their_processes(at):
    workers = [{"host": "h1", "running": [{}, {}]}, {"host": "h2", "running": [{}]}]
    sample(at, workers=workers, database_connections=3, database_connections_max=100, open_files=5)
    sample(at, role="worker", pid=2, rss_bytes=3_000_000, open_files=7, redis="degraded")
    sample(at, role="worker", pid=2, rss_bytes=9, ago_s=12)
    sample(at, role="web", host="h2", pid=1, cpu_percent=70.0)
    sample(at, role="queue", host="h2", pid=2, redis="")
    sample(at, role="web", host="gone", ago_s=40)

    first, second = read().hosts
    assert (first.name, first.running, first.rss_bytes) == ("h1", 2, 4_000_000)
    assert (first.processes, first.open_files) == ((("supervisor", 1), ("worker", 1)), 12)
    assert (first.redis, first.connections) == ("degraded", "3 of 100")
    assert (second.name, second.running, second.cpu_percent) == ("h2", 1, 70.0)
    assert second.redis == "off"


# The page -------------------------------------------------------------------------------------
def fill(*, sites, at):
    """Everything that the page shows, for so many sites and hosts."""
    worker = owner()
    for number in range(sites):
        site = make_site(f"site{number}", budget_per_account=1)
        for name in ("x", "y"):
            account = make_account(site, name)
            store(account)
            add_login(site, account, asked_s_ago=60, error=SiteUnavailable, by=worker)
        SiteBreaker.objects.create(site=site, state="half_open")
        sample(at, host=f"h{number}", in_flight=1)
        observe(events.CPU, 5.0, at=at, label=f"h{number}")
        observe(events.LOGIN_S, 5.0, at=at, label="ok", site=site.slug)
        count(events.ACQUISITIONS, "success", 2, at=at, site=site.slug)
        CacheUsage.objects.create(
            namespace=site.slug, layer="l1", minute=at.replace(second=0, microsecond=0), hits=1
        )
        Alert.objects.create(
            rule_name=site.slug, metric="success_rate", direction="below", threshold=1,
            severity=2, value=1, opened_value=1, opened_at=at, seen_at=at, site=site.slug,
        )  # fmt: skip


def queries(client, address):
    with CaptureQueriesContext(
        connection,
    ) as asked:
        answer = client.get(address)
    assert answer.status_code == 200
    return len(asked)


@pytest.mark.usefixtures("patient")
def test_the_number_of_queries_does_not_grow(admin_client):
    now = timezone.now()
    fill(sites=1, at=now)
    pages = [f"/admin/dashboard?window={name}" for name in ("1h", "24h")]
    first = [queries(admin_client, page) for page in pages]
    Site.objects.all().delete()
    SystemSample.objects.all().delete()
    Alert.objects.all().delete()
    CacheUsage.objects.all().delete()
    fill(sites=9, at=now)
    many = [queries(admin_client, page) for page in pages]

    assert LoginAttempt.objects.count() == 18
    assert many == first
    assert max(many) <= MOST_QUERIES


@pytest.mark.usefixtures("patient")
def test_the_page_shows_it_all_and_every_link_leads_somewhere(admin_client):
    fill(sites=2, at=timezone.now())
    text = admin_client.get(PAGE).content.decode()
    page = text[text.index('id="lk-dashboard"') :]
    page = page[: page.index('<div class="app-')]

    for part in PARTS:
        assert f'id="{part}"' in page
    assert page.count("<canvas") == 9
    for word in ("100 %", "breaker half open", "2 tokens", "h1", "site_unavailable"):
        assert word in page
    links = {link.replace("&amp;", "&") for link in re.findall(r'href="([^"]+)"', page)}
    assert len(links) > 15
    for link in links:
        assert admin_client.get(link if link.startswith("/") else PAGE + link).status_code == 200


def test_an_empty_installation_is_explained(admin_client):
    text = admin_client.get(PAGE).content.decode()

    for sentence in ("There is no site yet.", "No process has reported", "No login has failed"):
        assert sentence in text
    data = json.loads(re.search(r'<script id="lk-data"[^>]*>(.*?)</script>', text)[1])
    assert [chart["name"] for chart in data["charts"] if not chart["empty"]] == []
    assert text.count('class="lk-empty"') == len(data["charts"]) == 9


def test_nothing_is_loaded_from_elsewhere(admin_client):
    text = admin_client.get(PAGE).content.decode()
    loaded = re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="([^"]+)"', text)

    assert len(loaded) > 8
    assert [address for address in loaded if not address.startswith("/static/")] == []


@pytest.mark.usefixtures("patient")
def test_a_refresh_swaps_every_part_and_no_chart(admin_client):
    fill(sites=1, at=timezone.now())
    answer = admin_client.get(reverse("dashboard"), {"window": "6h"})
    text = answer.content.decode()

    assert re.findall(r'id="(lk-[^"]+)"[^>]*hx-swap-oob="true"', text) == PARTS
    assert "<canvas" not in text
    assert answer["Cache-Control"] == "no-store"
    page = admin_client.get(PAGE, {"window": "6h"}).content.decode()
    assert 'hx-get="/admin/dashboard?window=6h"' in page
    assert "every 15s [document.visibilityState" in page


def test_what_others_named_cannot_break_the_page(admin_client):
    now = timezone.now()
    observe(events.CPU, 5.0, at=now, label="</script><script>alert(1)</script>")
    sample(now, host="<b>host</b>")

    text = admin_client.get(PAGE).content.decode()
    assert "alert(1)" in text
    assert "<script>alert" not in text
    assert "<b>host" not in text


# Whoever looks --------------------------------------------------------------------------------
def test_who_is_not_signed_in_any_more_is_sent_to_the_whole_page(client, django_user_model):
    for person in (None, django_user_model.objects.create_user("guest")):
        if person:
            client.force_login(person)
        answer = client.get(reverse("dashboard"))
        assert (answer.status_code, answer.content) == (204, b"")
        assert answer["HX-Refresh"] == "true"


@pytest.mark.usefixtures("patient")
def test_everybody_sees_what_their_permissions_say(django_user_model):
    fill(sites=1, at=timezone.now())
    person = django_user_model.objects.create_user("clerk", is_staff=True)
    client = Client()
    client.force_login(person)

    def shown():
        text = client.get(reverse("dashboard")).content.decode()
        words = {
            "figures": "Success rate", "alerts": "Open alerts", "sites": "half open",
            "hosts": "Processor", "failures": "Last failures",
        }  # fmt: skip
        return {name for name, word in words.items() if word in text}, text

    assert shown()[0] == set()
    permissions = Permission.objects.filter(content_type__app_label__in=["performance", "tokens"])
    for codename, part in (
        ("view_metricbucket", "figures"),
        ("view_site", "sites"),
        ("view_systemsample", "hosts"),
        ("view_alert", "alerts"),
        ("view_loginattempt", "failures"),
    ):
        person.user_permissions.set(permissions.filter(codename=codename))
        parts, text = shown()
        assert parts == {part}
        # A link to a list that one may not open would only annoy.
        for link in re.findall(r'href="([^"]+)"', text):
            assert client.get(link.replace("&amp;", "&")).status_code == 200
