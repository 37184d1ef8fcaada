"""Processes are killed, and what was asked for still happens, once."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise

import pytest

from apps.history.models import TokenAcquisitionHistory
from apps.tokens.models import AdmissionLimits, LoginAttempt, RecoveryAction, TokenRequest
from tests.integration.stack import Stack, eventually, lab_site, new_key, open_attempt

pytest_plugins = ["tests.lab", "tests.integration.stack_fixtures"]
pytestmark = pytest.mark.processes


@contextmanager
def calling(stack: Stack, **body):
    """Call `acquire` in another thread; yields what will hold its answer."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(stack.acquire, key=new_key(), **body)


@contextmanager
def limits(**changes):
    AdmissionLimits.objects.update_or_create(pk=1, defaults=changes)
    yield
    AdmissionLimits.objects.all().delete()


def kill_worker_of(slug: str) -> LoginAttempt:
    """Kill -9 the process that is making a site's login."""
    attempt = open_attempt(slug)
    os.kill(attempt.owner.pid, signal.SIGKILL)
    return attempt


def kill_while_the_site_works(lab, slug: str) -> None:
    """Kill the worker when its login has arrived at the site."""
    eventually(lambda: lab.counts(slug)["concurrent_now"] == 1)
    kill_worker_of(slug)


def outcomes_of(slug: str) -> list[str]:
    rows = LoginAttempt.objects.filter(site__slug=slug).order_by("started_at")
    return [row.outcome for row in rows]


def history_of(slug: str) -> list[tuple[str, int]]:
    return [(row.status, row.attempts) for row in TokenAcquisitionHistory.objects.filter(site=slug)]


def assert_one_at_a_time(lab, slug: str) -> None:
    """The site never had two logins at once, and the next began when the first client was gone."""
    assert lab.counts(slug)["concurrent_max"] == 1
    logins = lab.log(slug)
    for earlier, later in pairwise(logins):
        assert earlier["end_s"] <= later["start_s"]


def test_a_login_of_a_killed_worker_is_made_again_with_a_proven_secret(stack, lab):
    lab_site(lab, "proven")
    assert stack.acquire(key=new_key(), site="proven").status_code == 200
    lab.patch("proven", latency_s=1)
    with calling(stack, site="proven", force=True) as answer:
        kill_while_the_site_works(lab, "proven")
    assert answer.result().status_code == 200
    assert outcomes_of("proven") == ["succeeded", "lost", "succeeded"]
    assert history_of("proven") == [("success", 2), ("success", 1)]
    assert [login["disconnected"] for login in lab.log("proven")] == [False, True, False]
    assert_one_at_a_time(lab, "proven")
    assert RecoveryAction.objects.filter(kind="lost_login").exists()


def test_a_secret_that_never_worked_is_sent_once_more(stack, lab):
    lab_site(lab, "unproven", latency_s=1)
    with limits(in_doubt_resends=1), calling(stack, site="unproven") as answer:
        kill_while_the_site_works(lab, "unproven")
    assert answer.result().status_code == 200
    rows = LoginAttempt.objects.filter(site__slug="unproven").order_by("started_at")
    assert [(row.outcome, row.resend_in_doubt) for row in rows] == [
        ("lost", False),
        ("succeeded", True),
    ]
    assert_one_at_a_time(lab, "unproven")


def test_a_secret_that_never_worked_is_not_sent_again_where_that_is_forbidden(stack, lab):
    lab_site(lab, "forbidden", latency_s=1)
    with limits(in_doubt_resends=0), calling(stack, site="forbidden") as answer:
        kill_while_the_site_works(lab, "forbidden")
        assert answer.result().status_code == 502
    assert answer.result().json()["details"]["code"] == "secret_in_doubt"
    assert lab.counts("forbidden")["logins_started"] == 1
    assert history_of("forbidden") == [("failed", 1)]


def test_a_worker_killed_before_it_sent_anything_leaves_no_doubt(stack, lab):
    pauses = {"before_s": "1", "after_s": "0"}
    lab_site(lab, "early", connector="pausing", variables=pauses)
    with limits(in_doubt_resends=0), calling(stack, site="early") as answer:
        kill_worker_of("early")
        assert answer.result().status_code == 200
    assert outcomes_of("early") == ["lost", "succeeded"]
    assert lab.counts("early")["logins_started"] == 1


def test_a_worker_killed_between_the_answer_and_its_record_costs_one_more_login(stack, lab):
    pauses = {"before_s": "0", "after_s": "1"}
    lab_site(lab, "late", connector="pausing", variables=pauses)
    with calling(stack, site="late") as answer:
        eventually(lambda: lab.counts("late")["token_checks"] == 1)
        kill_worker_of("late")
    assert answer.result().status_code == 200
    assert lab.counts("late")["logins_succeeded"] == 2
    assert outcomes_of("late") == ["lost", "succeeded"]
    assert history_of("late") == [("success", 2)]
    assert_one_at_a_time(lab, "late")


@pytest.mark.parametrize("victim", ["main", "sentinel"])
def test_a_killed_part_of_the_queue_is_started_again(stack, lab, victim):
    lab_site(lab, victim, latency_s=1)
    _supervisor, _keeper, main, sentinel, *_ = stack.tree()
    assert sentinel.ppid() == main.pid
    with calling(stack, site=victim) as answer:
        eventually(lambda: lab.counts(victim)["concurrent_now"] == 1)
        {"main": main, "sentinel": sentinel}[victim].kill()
    assert answer.result().status_code == 200
    assert_one_at_a_time(lab, victim)
    eventually(lambda: not any(process.is_running() for process in (main, sentinel)))
    # By what was started in their place.
    assert stack.acquire(key=new_key(), site=victim, force=True).status_code == 200
    assert RecoveryAction.objects.filter(kind="cluster_ended").exists()


def test_after_a_killed_supervisor_everything_below_it_ends_when_its_logins_are_done(stack, lab):
    lab_site(lab, "orphan", latency_s=1)
    processes = stack.tree()
    with calling(stack, site="orphan") as answer:
        eventually(lambda: lab.counts("orphan")["concurrent_now"] == 1)
        processes[0].kill()
    assert answer.result().status_code == 200
    assert outcomes_of("orphan") == ["succeeded"]
    eventually(lambda: not any(process.is_running() for process in processes))
    stack.start_workers()


def test_stopped_workers_finish_their_logins_and_take_no_more(stack, lab):
    lab_site(lab, "stopping", latency_s=1.5)
    lab_site(lab, "next")
    with calling(stack, site="stopping") as first:
        eventually(lambda: lab.counts("stopping")["concurrent_now"] == 1)
        stack.tree()[0].send_signal(signal.SIGTERM)
        time.sleep(0.5)
        second = stack.acquire(key=new_key(), site="next", max_wait_s=0)
        assert first.result().status_code == 200
    assert stack.workers.process.wait(60) == 0
    assert outcomes_of("stopping") == ["succeeded"]
    assert lab.counts("next")["logins_started"] == 0
    assert TokenRequest.objects.get(pk=second.json()["request_id"]).status == "queued"
    stack.start_workers()
    assert stack.acquire(key=new_key(), site="next").status_code == 200
