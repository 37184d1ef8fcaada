from urllib.parse import urlencode
from uuid import uuid4

import pytest
from django.http import QueryDict

from apps.history import services
from apps.history.contracts import HistoryStatus
from apps.history.filters import HistoryFilter
from apps.history.models import TokenAcquisitionHistory
from tests.history.factories import NOON, make_record
from tests.history.plans import searches

pytestmark = pytest.mark.django_db
# Filter → the value asked for, and the column whose index answers.
FILTERS = {
    "site": ("portal", "site"),
    "account": ("clerk", "account"),
    "status": ("timeout", "status"),
    "trigger_reason": ("manual", "trigger_reason"),
    "error_code": ("login_timeout", "error_code"),
    "request_id": (str(uuid4()), "request_id"),
    "finished_after": (NOON.isoformat(), "finished_at"),
    "finished_before": (NOON.isoformat(), "finished_at"),
}


def filtered(**query):
    found = HistoryFilter(QueryDict(urlencode(query)), TokenAcquisitionHistory.objects.order_by())
    assert found.is_valid()
    return found.qs


def test_every_filter_but_search_is_looked_at_here():
    assert HistoryFilter.base_filters.keys() - {"search"} == FILTERS.keys()


@pytest.mark.parametrize("name", FILTERS)
def test_a_filter_is_answered_from_an_index(name):
    value, column = FILTERS[name]
    assert searches(filtered(**{name: value}), column)


@pytest.mark.parametrize("name", sorted(FILTERS.keys() - {"request_id"}))
def test_the_newest_of_a_filter_are_read_from_its_index(name):
    value, column = FILTERS[name]
    assert searches(filtered(**{name: value}).order_by("-finished_at", "-id")[:50], column)


def test_records_without_an_error_are_of_no_code():
    services.record(make_record())
    services.record(make_record(status=HistoryStatus.TIMEOUT, error_code="login_timeout"))
    assert [row.error_code for row in filtered(error_code="login_timeout")] == ["login_timeout"]
    assert filtered(error_code="").count() == 2
