"""What is asked all the time goes by an index of what is live, however much has ended.

Ended requests stay for as long as nobody deletes them; a plan that reads them gets slower for ever.
"""

import pytest
from django.db import connection

from apps.common.clock import database_now
from apps.tokens.models import LoginAttempt, TokenRequest
from apps.tokens.services import standing
from tests.tokens.factories import make_account, make_site

pytestmark = pytest.mark.django_db


@pytest.fixture
def rows():
    """A thousand requests that have ended, and one that waits, with the planner's statistics."""
    site = make_site()
    account = make_account(site)
    at = database_now()
    values = {
        "site": site, "reason": "no_token", "order_at": at, "not_before": at, "expires_at": at,
        "created_at": at,
    }  # fmt: skip
    TokenRequest.objects.bulk_create(
        TokenRequest(**values, status="done", requested_key=str(n)) for n in range(1_000)
    )
    TokenRequest.objects.create(**values, account=account, requested_key=str(account.pk))
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
        if connection.vendor == "postgresql":
            cursor.execute("SET LOCAL enable_seqscan = off")
    return account


def plan_of(queryset):
    sql, params = queryset.query.sql_with_params()
    with connection.cursor() as cursor:
        how = "EXPLAIN" if connection.vendor == "postgresql" else "EXPLAIN QUERY PLAN"
        cursor.execute(f"{how} {sql}", params)
        return " ".join(str(part) for line in cursor.fetchall() for part in line)


LIVE = TokenRequest.objects.live
ASKED_ALL_THE_TIME = {
    "who joins a request": (
        lambda account: LIVE().filter(site=account.site, requested_key="x"),
        {"one_live_request_per_key"},
    ),
    "whom a new token serves as well": (
        lambda account: LIVE().filter(
            site=account.site, requested_key__in=["", "x"], status="queued", newer_than__lt=1
        ),
        {"one_live_request_per_key"},
    ),
    "whose queues have work": (
        lambda _: TokenRequest.objects.runnable(at=database_now()).values_list("queue").distinct(),
        {"live_by_end", "one_live_request_per_key", "queues_of_sites"},
    ),
    "whose time is over": (
        lambda _: LIVE().filter(status="queued", expires_at__lte=database_now()),
        {"live_by_end"},
    ),
    "the head of a queue": (
        lambda account: standing._standing().filter(queue="batch", site=account.site),
        {"queues_of_sites"},
    ),
    "whose wait is over": (
        lambda _: TokenRequest.objects.filter(
            status="queued", set_aside=True, not_before__lte=database_now()
        ),
        {"set_aside_by_end"},
    ),
    "who holds permits": (
        lambda _: LoginAttempt.objects.filter(outcome=""),
        {"open_logins", "one_open_login_per_request", "one_open_login_per_account"},
    ),
}


@pytest.mark.parametrize("question", ASKED_ALL_THE_TIME)
def test_an_index_of_what_is_live_answers(rows, question):
    ask, indexes = ASKED_ALL_THE_TIME[question]
    plan = plan_of(ask(rows).order_by())
    assert any(index in plan for index in indexes), plan
