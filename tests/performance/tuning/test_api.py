"""Tuning over HTTP and in the admin."""

import pytest
from django.contrib.admin.sites import site as admin_site
from django.contrib.auth import get_user_model
from django.test import Client
from django.urls import reverse

from apps.access.contracts import Grant
from apps.performance.models import LimitChange, TuningBounds
from apps.performance.services import tuning
from apps.tokens.models import Site
from tests.performance.tuning.rows import add_level
from tests.tokens.api.conftest import api, key, robot, service
from tests.tokens.factories import make_account, make_site

__all__ = ["api", "key", "robot", "service"]


@pytest.fixture
def site():
    site = make_site(max_concurrent=3)
    account = make_account(site)
    add_level(site, account, 2)
    add_level(site, account, 3, refused=5)
    return site


def test_recommendations_come_with_reasons_and_change_nothing(site, api):
    answer = api().post("performance/optimize-concurrency")

    first = answer.json["recommendations"][0]
    assert (first["site"], first["effective"], first["recommended"]) == (site.slug, 3, 2)
    assert "refused 25%" in first["reason"]
    assert answer.json["applied"] == []
    assert Site.objects.get().max_concurrent == 3


def test_applying_is_recorded_under_the_callers_name(site, api):
    answer = api().post("performance/optimize-concurrency", {"apply": True})

    assert [row["after"] for row in answer.json["applied"]] == [2]
    assert Site.objects.get().max_concurrent == 2
    assert LimitChange.objects.get().by == "robot"


def test_a_change_is_listed_and_taken_back_once(site, api):
    client = api()
    client.post("performance/optimize-concurrency", {"apply": True})
    (row,) = client.get("performance/limit-changes?site=court_zxfw").json["results"]

    taken = client.post(f"performance/limit-changes/{row['id']}/revert")
    again = client.post(f"performance/limit-changes/{row['id']}/revert")

    assert (taken.status, taken.json["reverts"]) == (200, row["id"])
    assert again.status == 409
    assert Site.objects.get().max_concurrent == 3


def test_a_simulation_compares_record_present_and_proposed(site, api):
    answer = api().post("performance/simulate", {"sites": {site.slug: 1}, "window_s": 86_400})

    assert answer.status == 200
    assert answer.json["busiest"] == {site.slug: 1}
    assert answer.json["recorded"]["requests"] == 40


@pytest.mark.parametrize(
    "body",
    [{"sites": {"nowhere": 1}}, {"max_concurrent": 0}, {"window_s": 1}, {"sites": {"x": 0}}],
    ids=str,
)
def test_a_simulation_of_nonsense_is_refused(site, api, body):
    assert api().post("performance/simulate", body).status == 400


def test_bounds_are_made_and_checked(site, api):
    client = api()
    good = {"site": site.slug, "automatic": True, "lowest": 1, "highest": 4}

    assert client.post("performance/tuning-bounds", good).status == 201
    assert client.post("performance/tuning-bounds", good).status == 400
    assert client.post("performance/tuning-bounds", {"lowest": 5, "highest": 2}).status == 400
    assert client.post("performance/tuning-bounds", {"lowest": 1, "highest": 9}).status == 201
    assert client.post("performance/tuning-bounds", {"lowest": 1, "highest": 9}).status == 400
    assert TuningBounds.objects.count() == 2


def test_bounds_that_go_leave_a_line_in_the_audit(site, api, monkeypatch):
    lines = []
    monkeypatch.setattr("apps.access.audit.record", lines.append)
    row = TuningBounds.objects.create(site=site, automatic=True)

    answer = api().delete(f"performance/tuning-bounds/{row.pk}")

    assert (answer.status, TuningBounds.objects.count()) == (204, 0)
    assert (lines[-1].site, lines[-1].details) == (site.slug, {"tuning_bounds": "deleted"})


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "performance/optimize-concurrency"),
        ("POST", "performance/simulate"),
        ("GET", "performance/limit-changes"),
        ("GET", "performance/tuning-bounds"),
    ],
)
def test_limits_are_for_who_operates_all_sites(site, api, method, path):
    body = {} if method == "POST" else None

    assert api(Grant(site=site.slug))(method, path, body).status == 403
    assert api(Grant(site="*"), scopes=("requests:read",))(method, path, body).status == 403


def test_the_admin_shows_the_rows_and_takes_changes_back(site):
    get_user_model().objects.create_superuser("root", password="x")
    client = Client()
    client.force_login(get_user_model().objects.get())
    TuningBounds.objects.create(site=site)
    change = tuning.change_limit(site=site.slug, before=3, after=5, reason="r", by="ann")
    for model in (TuningBounds, LimitChange):
        assert model in admin_site._registry
        name = model._meta.model_name
        assert client.get(reverse(f"admin:performance_{name}_changelist")).status_code == 200

    client.post(
        reverse("admin:performance_limitchange_changelist"),
        {"action": "revert_changes", "_selected_action": [change.pk]},
    )

    assert Site.objects.get().max_concurrent == 3
    assert LimitChange.objects.get(reverts=change).by == "root"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"lowest": 1, "highest": 9}, "There are bounds for the limit over all sites already"),
        ({"lowest": 9, "highest": 1}, "The highest limit must be at least the lowest"),
    ],
)
def test_the_admin_says_what_is_wrong_with_bounds(admin_client, fields, said):
    TuningBounds.objects.create()
    answer = admin_client.post(reverse("admin:performance_tuningbounds_add"), fields)
    text = answer.content.decode()
    assert said in text
    assert "is violated" not in text
    assert TuningBounds.objects.count() == 1
