"""Which trace a login belongs to, when several ask for it and when it is tried again."""

import pytest

from apps.common import tracing
from apps.tokens.models import TokenRequest
from apps.tokens.models.requests import Reason
from apps.tokens.services import requests
from tests.tokens.factories import make_account, make_site
from tests.tokens.rules.support import no_wait
from tests.tokens.work import work

pytest_plugins = ["tests.otlp"]

CALLER = "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"
UNSAMPLED = CALLER[:-1] + "0"
JOINER = "00-" + "ef" * 16 + "-" + "cd" * 8 + "-01"


@pytest.fixture
def account():
    return make_account(make_site())


def ask(account, *, caller=""):
    demand = requests.Demand(site=account.site, account=account, reason=Reason.MANUAL)
    with tracing.span("call", parent=caller) if caller else tracing.NOTHING:
        return TokenRequest.objects.get(pk=requests.ask(demand, asker=None))


def test_nothing_is_kept_of_a_trace_that_is_off(account):
    assert ask(account, caller=CALLER).traceparent == ""
    assert work() == 1


def test_the_login_goes_on_in_the_trace_of_who_asked(account, trace, collector):
    tracer = trace()
    row = ask(account, caller=CALLER)
    assert work() == 1
    tracer.close()

    spans = {span.name: span for span in collector.spans()}
    assert spans.keys() >= {"call", "ask", "queue", "admission", "login", "completion"}
    assert {span.trace for span in spans.values()} == {"ab" * 16}
    assert row.traceparent == f"00-{spans['ask'].trace}-{spans['ask'].id}-01"
    assert spans["queue"].end <= spans["admission"].end <= spans["login"].begin
    assert spans["login"].attributes["latchkey.request"] == str(row.pk)


def test_a_joiner_is_linked_to_the_trace_of_the_login(account, trace, collector):
    tracer = trace()
    first = ask(account, caller=CALLER)
    joined = ask(account, caller=JOINER)
    assert work() == 1
    tracer.close()

    assert joined.pk == first.pk
    assert joined.traceparent == first.traceparent
    asked = {span.trace: span.links for span in collector.spans() if span.name == "ask"}
    assert asked == {"ab" * 16: [], "ef" * 16: ["ab" * 16]}
    assert [span.trace for span in collector.spans() if span.name == "login"] == ["ab" * 16]


@pytest.mark.parametrize("before", ["", UNSAMPLED])
def test_a_joiner_takes_a_request_that_nobody_watches_into_its_trace(
    account, trace, collector, before
):
    row = ask(account)
    tracer = trace()
    TokenRequest.objects.filter(pk=row.pk).update(traceparent=before)
    ask(account, caller=JOINER)
    assert work() == 1
    tracer.close()

    [login] = [span for span in collector.spans() if span.name == "login"]
    assert login.trace == "ef" * 16
    assert not any(span.links for span in collector.spans())


def test_a_caller_that_wants_no_trace_changes_none(account, trace, collector):
    tracer = trace()
    row = ask(account, caller=UNSAMPLED)
    assert ask(account, caller=UNSAMPLED).traceparent == row.traceparent
    assert work() == 1
    tracer.close()

    assert row.traceparent.endswith("-00")
    assert collector.spans() == []


def test_a_login_nobody_called_for_is_one_trace_as_well(account, trace, collector):
    tracer = trace()
    ask(account)
    assert work() == 1
    tracer.close()

    spans = {span.name: span for span in collector.spans()}
    assert {span.trace for span in spans.values()} == {spans["ask"].trace}
    assert spans["ask"].parent == ""


def test_every_attempt_is_in_the_trace_with_its_failure(trace, collector):
    tracer = trace()
    ask(make_account(make_site(recipe={"fail": ["NetworkFailure"]})), caller=CALLER)
    assert work() == 1
    no_wait()
    assert work() == 1
    tracer.close()

    logins = [span for span in collector.spans() if span.name == "login"]
    assert [(span.failed, span.attributes.get("error.type")) for span in logins] == [
        (True, "network_error"),
        (False, None),
    ]
    assert {span.trace for span in logins} == {"ab" * 16}
    assert len([span for span in collector.spans() if span.name == "queue"]) == 2
