import re
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib import admin
from django.contrib.auth import get_user_model
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from apps.common.clock import now
from apps.history import services
from apps.history.admin import ErrorFilter, ReasonFilter, SiteFilter
from apps.history.drilldown import DrillDown
from apps.history.models import TokenAcquisitionHistory
from tests.history.factories import make_record
from tests.history.plans import searches

LIST = "admin:history_tokenacquisitionhistory_changelist"
pytestmark = pytest.mark.django_db


@pytest.fixture
def staff(client):
    user = get_user_model().objects.create_superuser("root", password="x")
    client.force_login(user)
    return client


def test_every_model_can_be_looked_at(staff):
    services.record(make_record(finished_at=datetime(2026, 3, 10, tzinfo=UTC)))
    services.roll_up(at=datetime(2026, 4, 10, tzinfo=UTC))
    for model in admin.site._registry:
        if model._meta.app_label == "history":
            url = reverse(f"admin:history_{model._meta.model_name}_changelist")
            assert staff.get(url).status_code == 200, url


@pytest.mark.parametrize(
    ("model", "shown"),
    [
        ("hourcell", ["2026-03-10 14:00", "all", "court_zxfw", "83.5"]),
        ("daycell", ["2026-03-10", "court_zxfw", "alice", "83.5"]),
        ("monthcell", ["2026-03", "court_zxfw", "alice", "83.5"]),
        ("statuscell", ["2026-03-10", "2026-03", "all", "Success", "83.5"]),
        ("spread", ["2026-03-10", "2026-03", "all", "Month"]),
        ("rollup", ["2026-03-10", "2026-03", "Day"]),
    ],
)
def test_periods_are_shown_as_dates_and_times_in_seconds(staff, model, shown):
    at = datetime(2026, 3, 10, 14, 30, tzinfo=UTC)
    services.record(make_record(account="alice", total_s=83.456, finished_at=at))
    services.roll_up(at=datetime(2026, 4, 10, tzinfo=UTC))

    text = staff.get(reverse(f"admin:history_{model}_changelist")).content.decode()

    cells = {cell.strip() for cell in re.findall(r">([^<>]+)<", text)}
    assert set(shown) <= cells
    assert "83456" not in text


def test_facts_are_read_only(staff):
    services.record(make_record())
    row = TokenAcquisitionHistory.objects.get()
    change = reverse("admin:history_tokenacquisitionhistory_change", args=[row.pk])
    assert staff.get(change).status_code == 200
    assert staff.post(change, {"site": "x"}).status_code == 403
    add = reverse("admin:history_tokenacquisitionhistory_add")
    delete = reverse("admin:history_tokenacquisitionhistory_delete", args=[row.pk])
    assert staff.get(add).status_code == staff.post(delete, {"post": "yes"}).status_code == 403


def test_search_finds_parts_of_an_error_and_whole_request_ids(staff):
    record = make_record(error_message="the portal answered 502", finished_at=now())
    services.record(record)
    for term, found in (("ANSWERED 502", 1), (str(record.request_id), 1), ("absent", 0)):
        answer = staff.get(reverse(LIST), {"q": term})
        assert answer.context["cl"].result_count == found, term


def test_sites_are_offered_as_filters(staff):
    for site in ("portal", "court_zxfw", "portal"):
        services.record(make_record(site=site))
    answer = staff.get(reverse(LIST), {"site": "court_zxfw"})
    assert answer.context["cl"].result_count == 1
    (sites,) = [spec for spec in answer.context["cl"].filter_specs if spec.title == "site"]
    assert sites.lookup_choices == [("court_zxfw", "court_zxfw"), ("portal", "portal")]


def test_error_codes_are_offered_as_filters(staff):
    for code in ("wrong_password", "", "login_timeout", "wrong_password"):
        services.record(make_record(error_code=code))
    answer = staff.get(reverse(LIST), {"error_code": "wrong_password"})
    assert answer.context["cl"].result_count == 2
    (codes,) = [spec for spec in answer.context["cl"].filter_specs if spec.title == "error code"]
    assert [code for code, _ in codes.lookup_choices] == ["login_timeout", "wrong_password"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("site", "portal"),
        ("status__exact", "timeout"),
        ("trigger_reason", "warm_up"),
        ("error_code", "login_timeout"),
    ],
)
def test_a_filter_of_the_sidebar_is_answered_from_an_index(staff, name, value):
    services.record(make_record())
    services.record(make_record(site="portal", error_code="login_timeout"))
    found = staff.get(reverse(LIST), {name: value}).context["cl"]
    assert searches(found.queryset.order_by(), name.removesuffix("__exact"))
    assert found.list_filter == [SiteFilter, "status", ReasonFilter, ErrorFilter]


def test_the_oldest_and_the_newest_are_asked_for_apart(staff):
    """For both at once SQLite reads every row."""
    services.record(make_record())
    with CaptureQueriesContext(connection) as queries:
        staff.get(reverse(LIST))
    ends = [query["sql"] for query in queries if "MIN(" in query["sql"] or "MAX(" in query["sql"]]
    assert len(ends) > 3
    assert not [sql for sql in ends if "MIN(" in sql and "MAX(" in sql]


@pytest.mark.parametrize("kind", ["year", "month", "day"])
def test_the_drill_down_finds_what_django_would(kind):
    for days in (0, 1, 40, 400):
        services.record(
            make_record(finished_at=datetime(2026, 3, 10, 23, tzinfo=UTC) - timedelta(days))
        )
    plain = TokenAcquisitionHistory.objects.datetimes("finished_at", kind)
    leaping = DrillDown(TokenAcquisitionHistory).datetimes("finished_at", kind)
    assert leaping == list(plain)


def test_the_list_drills_down_to_a_day(staff):
    services.record(make_record(finished_at=datetime(2026, 3, 10, tzinfo=UTC)))
    services.record(make_record(finished_at=datetime(2026, 3, 11, tzinfo=UTC)))
    query = {"finished_at__year": 2026, "finished_at__month": 3, "finished_at__day": 10}
    assert staff.get(reverse(LIST), query).context["cl"].result_count == 1


@pytest.mark.parametrize("action", ["export_csv", "export_jsonl"])
def test_a_selection_can_be_exported(staff, action):
    services.record(make_record())
    row = TokenAcquisitionHistory.objects.get()
    answer = staff.post(reverse(LIST), {"action": action, "_selected_action": [row.pk]})
    assert str(row.request_id) in b"".join(answer.streaming_content).decode()


def test_the_list_does_not_count_every_row(staff):
    services.record(make_record())
    with CaptureQueriesContext(connection) as queries:
        staff.get(reverse(LIST))
    counts = [query["sql"] for query in queries if "COUNT(*)" in query["sql"]]
    assert counts
    assert all("LIMIT" in sql for sql in counts)
