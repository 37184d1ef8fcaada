"""What the edge hands out on its event loop: without thread and database, and still audited."""

import fcntl
import json
import os
from datetime import timedelta

import pytest
from django.utils import timezone

from apps.access import leases
from apps.access.contracts import Grant
from apps.access.keycache import CACHE
from apps.caching import services as cache
from apps.common import clock
from apps.tokens.models import StoredToken
from apps.tokens.services import threads
from tests.tokens.api.conftest import API, over_the_edge
from tests.tokens.factories import make_account, make_site
from tests.tokens.work import work

NAMED = {"site": "court_zxfw", "account": "alice", "purpose": "filing"}


@pytest.fixture(params=[NAMED, {"site": "court_zxfw"}], ids=["named", "any"])
def body(request):
    return request.param


@pytest.fixture(autouse=True)
def _standing_clocks(monkeypatch):
    """Nothing held ends by itself: no allowance with its minute, no copy with its seconds."""
    monkeypatch.setattr(leases, "WINDOW_S", 10**9)
    now = clock.monotonic()
    monkeypatch.setattr(clock, "monotonic", lambda: now)


@pytest.fixture
def ask(key, monkeypatch):
    """Ask the edge with one key; `threads` counts the hops into a thread that it took."""
    text, hops = key(rate_limit_per_minute=1_000), []
    run = threads.shared().run

    async def counted(function, *args, **kwargs):
        hops.append(function)
        return await run(function, *args, **kwargs)

    monkeypatch.setattr(threads.shared(), "run", counted)

    def ask(body):
        hops.clear()
        headers = {"x-api-key": text, "content-type": "application/json"}
        raw = json.dumps(body).encode()
        answer = over_the_edge("POST", API + "tokens/acquire", headers=headers, body=raw)
        return answer, len(hops)

    return ask


@pytest.fixture
def held(ask, body):
    """A token that this process holds, with the key and some of its allowance."""
    make_account(make_site())
    ask(NAMED | {"max_wait_s": 0})
    work()
    for _ in range(4):
        ask(body)


def audited(settings):
    files = settings.LATCHKEY_AUDIT_DIR.glob("*.open")
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def test_what_the_process_holds_takes_no_thread(held, ask, body, settings):
    before = len(audited(settings))
    answer, hops = ask(body)

    assert (answer.status, hops) == (200, 0)
    assert answer.json["token"]["bearer"] == "token-1-alice"
    assert (answer.json["cached"], answer.json["refreshing"]) == (True, False)
    (line,) = audited(settings)[before:]
    assert (line["kind"], line["account"]) == ("hand_out", "alice")
    assert line["purpose"] == body.get("purpose", "")
    assert line["request_id"] == answer.headers["x-request-id"]


def forget_the_token(_settings):
    cache.clear_all()


def forget_the_key(_settings):
    CACHE.reset()


def spend_the_allowance(_settings):
    leases.LEASES.reset()


def take_the_journal_over(settings):
    for file in settings.LATCHKEY_AUDIT_DIR.glob("*.open"):
        file.rename(file.with_suffix(".taken"))


@pytest.mark.parametrize(
    "lose",
    [forget_the_token, forget_the_key, spend_the_allowance, take_the_journal_over],
)
def test_whatever_is_missing_is_fetched_in_a_thread(held, ask, body, settings, lose):
    lose(settings)
    before = len(audited(settings))
    answer, hops = ask(body)

    assert (answer.status, hops) == (200, 1)
    assert len(audited(settings)) == before + 1 - (lose is take_the_journal_over) * before


def test_a_token_due_for_renewal_takes_a_thread_every_time(held, ask, body):
    StoredToken.objects.update(refresh_after=timezone.now() - timedelta(seconds=1))
    cache.clear_all()
    for _ in range(3):
        answer, hops = ask(body)
        assert (hops, answer.json["refreshing"]) == (1, True)


def test_the_loop_does_not_wait_for_the_journals_lock(held, ask, body, settings):
    (file,) = settings.LATCHKEY_AUDIT_DIR.glob("*.open")
    fd = os.open(file, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    try:
        from apps.access.journal import JOURNAL

        assert JOURNAL.append_held(b"{}\n") is False
    finally:
        os.close(fd)
    assert ask(body)[1] == 0


@pytest.mark.parametrize(("more", "status"), [({"force": True}, 202), ({"min_ttl_s": 86_400}, 200)])
def test_who_wants_more_than_the_process_holds_takes_a_thread(held, ask, body, more, status):
    answer, hops = ask(body | more | {"max_wait_s": 0})

    assert answer.status == status
    assert hops > 0


def test_every_request_is_counted(held, ask, body, monkeypatch):
    counted = []
    take = leases.take_held
    monkeypatch.setattr(leases, "take_held", lambda caller: counted.append(take(caller)) or True)
    ask(body)

    assert len(counted) == 1


def test_a_grant_for_another_account_is_still_refused(held, ask, key, body):
    stranger = {"x-api-key": key(Grant(site="court_zxfw", account="bob"))}
    stranger["content-type"] = "application/json"
    for _ in range(3):
        raw = json.dumps(NAMED).encode()
        answer = over_the_edge("POST", API + "tokens/acquire", headers=stranger, body=raw)
        assert (answer.status, answer.json["code"]) == (404, "unknown_account")
