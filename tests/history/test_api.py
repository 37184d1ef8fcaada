import csv
import io
import json
from datetime import timedelta

import pytest
from django.contrib.auth import get_user_model
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from apps.common.clock import now
from apps.history import services
from apps.history.contracts import HistoryStatus
from apps.history.models import TokenAcquisitionHistory
from apps.history.services.recording import to_row
from apps.history.viewsets import HistoryViewSet
from tests.history.factories import make_record

URL = "/api/v1/automation/history"
pytestmark = pytest.mark.django_db


@pytest.fixture
def api(db, monkeypatch) -> APIClient:
    # Keys and scopes are tested where they live; here a session is enough.
    monkeypatch.setattr(HistoryViewSet, "permission_classes", [])
    client = APIClient()
    client.force_authenticate(get_user_model().objects.create_superuser("operator"))
    return client


@pytest.fixture
def three(db):
    at = now()
    for number, site in enumerate(["court_zxfw", "portal", "portal"]):
        services.record(
            make_record(
                site=site,
                account=f"clerk{number}",
                status=HistoryStatus.TIMEOUT if number == 2 else HistoryStatus.SUCCESS,
                error_code="login_timeout" if number == 2 else "",
                error_message="waited for the page" if number == 2 else "",
                trigger_reason="manual" if number == 0 else "no_token",
                finished_at=at - timedelta(hours=number),
            )
        )
    return at


def accounts(answer) -> list[str]:
    assert answer.status_code == 200, answer.content
    return [row["account"] for row in answer.json()["results"]]


def body_of(answer) -> str:
    assert answer.status_code == 200
    return b"".join(answer.streaming_content).decode("utf-8-sig")


def test_the_list_is_newest_first_with_a_count(api, three):
    answer = api.get(URL)
    assert accounts(answer) == ["clerk0", "clerk1", "clerk2"]
    assert (answer.json()["count"], answer.json()["count_is_exact"]) == (3, True)
    assert answer.json()["results"][0]["total_s"] == 12.5


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"site": "portal"}, ["clerk1", "clerk2"]),
        ({"account": "clerk1"}, ["clerk1"]),
        ({"status": "timeout"}, ["clerk2"]),
        ({"status": ["timeout", "success"]}, ["clerk0", "clerk1", "clerk2"]),
        ({"trigger_reason": "manual"}, ["clerk0"]),
        ({"error_code": "login_timeout"}, ["clerk2"]),
        ({"search": "FOR THE"}, ["clerk2"]),
        ({"search": "nothing like it"}, []),
        ({"ordering": "finished_at"}, ["clerk2", "clerk1", "clerk0"]),
        ({"page_size": 1, "page": 2}, ["clerk1"]),
    ],
)
def test_filters_search_ordering_and_pages(api, three, query, expected):
    assert accounts(api.get(URL, query)) == expected


def test_a_nul_in_a_search_is_refused_and_breaks_nothing(api):
    assert api.get(URL, {"search": "a\x00b"}).status_code == 400


def test_the_window_includes_its_start_and_excludes_its_end(api, three):
    at = three - timedelta(hours=1)
    assert accounts(api.get(URL, {"finished_after": at.isoformat()})) == ["clerk0", "clerk1"]
    assert accounts(api.get(URL, {"finished_before": at.isoformat()})) == ["clerk2"]


def test_a_request_id_is_found_however_old_it_is(api):
    record = make_record(finished_at=now() - timedelta(days=300))
    services.record(record)
    assert accounts(api.get(URL, {"search": str(record.request_id)})) == ["clerk"]
    assert accounts(api.get(URL, {"search": "clerk"})) == []
    since = (now() - timedelta(days=310)).isoformat()
    assert accounts(api.get(URL, {"search": "clerk", "finished_after": since})) == ["clerk"]


def test_counting_stops_at_the_limit(api, three, monkeypatch):
    monkeypatch.setattr("apps.common.pagination.COUNT_LIMIT", 2)
    answer = api.get(URL).json()
    assert (answer["count"], answer["count_is_exact"]) == (2, False)


def test_the_list_costs_two_queries(api, three):
    with CaptureQueriesContext(
        connection,
    ) as queries:
        api.get(URL)
    table = TokenAcquisitionHistory._meta.db_table
    assert sum(table in query["sql"] for query in queries) == 2


def test_one_record_by_id(api, three):
    row = TokenAcquisitionHistory.objects.first()
    answer = api.get(f"{URL}/{row.pk}").json()
    assert answer["request_id"] == str(row.request_id)
    assert api.get(f"{URL}/0").status_code == 404


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
def test_the_history_cannot_be_written(api, three, method):
    row = TokenAcquisitionHistory.objects.first()
    for url in (URL, f"{URL}/{row.pk}"):
        assert getattr(api, method)(url, {}, format="json").status_code == 405


def test_without_authentication_nothing_is_shown(three):
    for path in ("", "/statistics", "/export", "/1"):
        assert APIClient().get(URL + path).status_code in (401, 403), path


def test_statistics_for_days_by_default(api, three):
    answer = api.get(f"{URL}/statistics", {"days": 7}).json()
    assert answer["summary"]["total"] == 3
    assert answer["summary"]["success_rate"] == pytest.approx(2 / 3)
    assert set(answer["groups"]) == {"status", "site", "account", "day"}
    assert [line["key"] for line in answer["groups"]["site"]] == ["portal", "court_zxfw"]
    assert answer["total_percentiles"]["p95_s"] == 12.5


def test_statistics_for_a_window_a_site_and_a_zone(api, three):
    query = {
        "from": (three - timedelta(hours=1)).isoformat(),
        "to": (three + timedelta(seconds=1)).isoformat(),
        "site": "portal",
        "group_by": ["hour"],
        "tz": "Asia/Shanghai",
    }
    answer = api.get(f"{URL}/statistics", query).json()
    (hour,) = answer["groups"]["hour"]
    assert (hour["total"], hour["key"][-6:]) == (1, "+08:00")
    assert answer["period"]["tz"] == "Asia/Shanghai"


@pytest.mark.parametrize(
    "query",
    [
        {"days": 0},
        {"days": 366},
        {"days": 3, "from": "2026-01-01T00:00:00Z"},
        {"from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z"},
        {"from": "2099-01-01T00:00:00Z"},
        {"tz": "Mars/Olympus"},
        {"tz": "../../etc/passwd"},
        {"group_by": "colour"},
    ],
)
def test_a_question_that_makes_no_sense_is_refused(api, query):
    assert api.get(f"{URL}/statistics", query).status_code == 400


def test_export_as_csv_has_every_column_and_the_filters_of_the_list(api, three):
    answer = api.get(f"{URL}/export", {"format": "csv", "site": "portal"})
    assert answer["Content-Type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(body_of(answer))))
    assert [row["account"] for row in rows] == ["clerk1", "clerk2"]
    assert rows[0]["total_s"] == "12.5"


def test_export_as_json_lines(api, three):
    answer = api.get(f"{URL}/export", {"format": "jsonl"})
    rows = [json.loads(line) for line in body_of(answer).splitlines()]
    assert [row["account"] for row in rows] == ["clerk0", "clerk1", "clerk2"]


def test_an_unknown_format_is_refused(api):
    assert api.get(f"{URL}/export", {"format": "xml"}).status_code == 400


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@A1", "\tx", " =1", "＝1"])
def test_no_cell_is_a_formula(api, text):
    services.record(make_record(error_message=text))
    (row,) = csv.DictReader(io.StringIO(body_of(api.get(f"{URL}/export"))))
    assert row["error_message"] == f"'{text}"


def test_an_export_pages_along_the_index_without_losing_or_doubling_a_row(api, monkeypatch):
    monkeypatch.setattr("apps.history.export.CHUNK", 7)
    at = now()
    TokenAcquisitionHistory.objects.bulk_create(
        # Many share a time, so that pages end between equal times.
        to_row(make_record(finished_at=at - timedelta(seconds=number // 5)))
        for number in range(64)
    )
    rows = list(csv.DictReader(io.StringIO(body_of(api.get(f"{URL}/export")))))
    ids = [int(row["id"]) for row in rows]
    expected = TokenAcquisitionHistory.objects.values_list("pk", flat=True)
    assert ids == list(expected)
