"""Many callers in many processes, and the lab counts one login."""

import json
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from apps.access.audit import import_journals
from apps.access.contracts import Grant
from apps.access.models import AuditEntry
from apps.history.models import TokenAcquisitionHistory
from apps.tokens.models import Account, Interest, LoginAttempt, Site, TokenRequest
from apps.tokens.services import accounts, requests
from apps.tokens.services.requests import Asker, Demand
from tests.integration.stack import API, ROOT, Stack, eventually, lab_site, new_key

pytest_plugins = ["tests.lab", "tests.integration.stack_fixtures"]
pytestmark = pytest.mark.processes

PROCESSES, CALLERS = 4, 50


def call_from_many_processes(url, calls_of_each):
    """Send every process's calls at the same moment; return all answers."""
    children = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.integration.callers"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in calls_of_each
    ]
    try:
        for child, calls in zip(children, calls_of_each, strict=True):
            child.stdin.write(json.dumps({"url": url, "calls": calls}) + "\n")
            child.stdin.flush()
        for child in children:
            assert child.stdout.readline() == "ready\n"
        for child in children:
            child.stdin.write("go\n")
            child.stdin.flush()
        return [answer for child in children for answer in json.loads(child.stdout.readline())]
    finally:
        for child in children:
            child.kill()
            child.communicate()


@pytest.fixture(scope="module")
def crowd(stack: Stack, lab_of_the_session):
    """200 callers in four processes want one missing token; returns their answers."""
    lab_site(lab_of_the_session, "crowd", latency_s=1.5)
    keys = [new_key(), new_key(), new_key(Grant(site="crowd", account="alice")), new_key()]
    bodies = [
        {"site": "crowd", "max_wait_s": 20},
        {"site": "crowd", "account": "alice", "max_wait_s": 20, "force": False},
        {"site": "crowd", "min_ttl_s": 60, "max_wait_s": 20, "purpose": "invoices"},
    ]
    calls = [[(key, bodies[n % 3]) for n in range(CALLERS)] for key in keys]
    return call_from_many_processes(f"{stack.url}{API}/tokens/acquire", calls)


def test_every_caller_gets_the_same_token(crowd):
    assert Counter(status for status, _ in crowd) == {200: PROCESSES * CALLERS}
    assert len({body["fingerprint"] for _, body in crowd}) == 1
    assert len({body["token"]["bearer"] for _, body in crowd}) == 1


def test_the_site_sees_one_login(crowd, lab_of_the_session):
    counts = lab_of_the_session.counts("crowd")
    assert (counts["logins_started"], counts["logins_succeeded"]) == (1, 1)
    assert LoginAttempt.objects.filter(site__slug="crowd").count() == 1


def test_every_request_has_one_history_row(crowd):
    requests = TokenRequest.objects.filter(site__slug="crowd")
    assert {row.status for row in requests} == {"done"}
    history = TokenAcquisitionHistory.objects.filter(site="crowd")
    assert Counter(row.request_id for row in history) == Counter(row.pk for row in requests)


def test_every_hand_out_is_in_the_audit(crowd, stack, settings):
    settings.LATCHKEY_AUDIT_DIR = stack.folder / "audit"
    import_journals()  # the workers may have been before us, or be at it
    lines = AuditEntry.objects.filter(site="crowd", kind="hand_out")
    eventually(lambda: lines.count() >= PROCESSES * CALLERS)
    assert lines.count() == PROCESSES * CALLERS
    assert {line.token_fingerprint for line in lines} == {crowd[0][1]["fingerprint"]}
    assert lines.filter(purpose="invoices").count() == PROCESSES * len(range(2, CALLERS, 3))


def test_forced_callers_share_one_newer_login(crowd, stack, lab_of_the_session):
    known = crowd[0][1]["version"]
    key = new_key()
    body = {"site": "crowd", "force": True, "known_version": known, "max_wait_s": 20}
    calls = [[(key, body)] * 10 for _ in range(PROCESSES)]
    answers = call_from_many_processes(f"{stack.url}{API}/tokens/acquire", calls)
    assert {(status, body["version"]) for status, body in answers} == {(200, known + 1)}
    assert lab_of_the_session.counts("crowd")["logins_started"] == 2


def test_wishes_of_every_kind_at_once_cause_one_login_an_account(stack, lab_of_the_session):
    """Any and named, forced, patient and not, in a batch and cancelled: the site counts."""
    people = dict.fromkeys(("alice", "bob", "carol"), "correct-horse")
    site = lab_site(lab_of_the_session, "mixed", accounts=people).site
    for name in ("bob", "carol"):
        account = Account(site=site, username=name, preferred=name == "bob")
        accounts.create(account, {"password": people[name]})
    Site.objects.filter(pk=site.pk).update(paused=True)  # until everybody has asked
    for name in ("bob", "carol"):
        demand = Demand(
            site=site, account=site.accounts.get(username=name), reason="warm_up", queue="batch"
        )
        requests.ask(demand, asker=Asker(kind="batch", id="b1", name="b1"))
    keys = [new_key() for _ in range(3)]
    wishes = [
        {"max_wait_s": 60},
        {"account": "bob", "max_wait_s": 60},
        {"account": "bob", "min_ttl_s": 60, "max_wait_s": 60},
        # Newer than none: one that is late, on a busy machine, is served by what there is.
        {"account": "alice", "force": True, "known_version": 0, "max_wait_s": 60},
        {"account": "alice", "max_wait_s": 0},
        {"force": True, "known_version": 0, "max_wait_s": 60},
    ]
    calls = [
        [(key, {"site": "mixed", **wish}) for wish in wishes for _ in range(3)] for key in keys
    ]
    live = TokenRequest.objects.live().filter(site=site)
    with ThreadPoolExecutor(1) as pool:
        answers = pool.submit(call_from_many_processes, f"{stack.url}{API}/tokens/acquire", calls)
        eventually(lambda: Interest.objects.filter(request__in=live).count() == 11)
        for request in live.filter(interests__principal_kind="batch"):
            gone = requests.detach(request, kind="batch", principal_id="b1")
            assert gone == (request.account.username == "carol"), "Others want bob's."
        Site.objects.filter(pk=site.pk).update(paused=False)
    asked = [body for calls_of_one in calls for _key, body in calls_of_one]
    waited = Counter(
        (body["max_wait_s"] > 0, status)
        for body, (status, _) in zip(asked, answers.result(), strict=True)
    )
    assert waited.keys() <= {(True, 200), (False, 202), (False, 200)}, waited
    assert waited[True, 200] == 45
    assert waited[False, 202] > 0
    assert not live.exists()
    seen = lab_of_the_session.counts("mixed")["accounts"]
    assert {name: own["logins_started"] for name, own in seen.items()} == {"alice": 1, "bob": 1}
