"""The load test's own parts: what users do, the judge, and a small load of the real thing."""

import json
import random
import re

import pytest
from django.test import Client
from drf_spectacular.generators import SchemaGenerator

from tests.load import judge, world
from tests.load.__main__ import parser
from tests.load.judge import Sample
from tests.load.operations import API, OPERATIONS, Kind
from tests.load.users import Users

pytest_plugins = ["tests.lab", "tests.integration.stack_fixtures"]
# What streams a whole table is no read of C9.
DOWNLOADS = {f"{API}/history/export", f"{API}/performance/metrics/export"}


# The judge -----------------------------------------------------------------------------------
def run(**slower: float) -> list[Sample]:
    """A hundred operations of each kind, of 1 ms each; `slower` sets those of a kind."""
    times = {kind: slower.get(kind, 1.0) for kind in Kind}
    return [Sample(kind, "one", 10.0, times[kind], "") for kind in Kind for _ in range(100)]


def missed(samples: list[Sample]) -> list[str]:
    return judge.judge_mix(samples, title="run", users=100, seconds=10).missed


def test_a_run_within_all_bounds_passes():
    assert missed(run()) == []


@pytest.mark.parametrize(
    ("kind", "bound_ms"),
    [("retrieve", 50), ("store", 100), ("list", 200), ("read", 200), ("acquire", 60_000)],
)
def test_a_missed_bound_of_any_kind_is_found_out(kind, bound_ms):
    assert missed(run(**{kind: bound_ms - 0.1})) == []
    found = missed(run(**{kind: bound_ms}))

    assert len(found) == 2  # the kind, and its only operation
    assert all(f"the bound is {bound_ms} ms" in text for text in found)


def test_six_slow_ones_in_a_hundred_are_too_many_and_five_are_not():
    fast, slow = Sample("read", "slow", 0, 1, ""), Sample("read", "slow", 0, 900, "")
    assert missed([*run(), *[fast] * 95, *[slow] * 5]) == []
    assert missed([*run(), *[fast] * 94, *[slow] * 6]) == [
        "run: read slow had a p95 of 900 ms; the bound is 200 ms"
    ]


def test_what_hardly_happened_is_not_judged_good():
    assert missed([one for one in run() if one.kind != "store"]) == [
        "run: store was done 0 times; too few to judge"
    ]
    assert len(missed([])) == len(Kind)


def test_a_failed_request_fails_the_run_however_fast_it_was():
    assert missed([*run(), Sample("read", "one", 0, 1, "500")]) == ["run: 1 requests failed"]


def writes(took_ms: float, count: int = 100) -> list[str]:
    samples = [
        Sample("store", "at once", 6.0 * beat + n / 1000, took_ms, "")
        for beat in (3, 4)
        for n in range(count)
    ]
    about = {"title": "writes", "users": count, "seconds": 12, "beat_s": 6}
    return judge.judge_writes(samples, **about).missed


def test_a_hundred_writes_must_all_be_answered_within_five_seconds():
    assert writes(4_800) == []
    assert writes(4_950) == ["writes: 100 writes took 5.05 s; the bound is 5 s"]
    assert writes(10, count=99) == ["writes: there was no round of 100 writes"]


def test_the_table_and_the_json_tell_a_missed_bound():
    level = judge.judge_mix(run(list=500.0), title="10 users", users=10, seconds=10)

    (line,) = [line for line in judge.table(level).splitlines() if line.startswith("  list ")]
    assert line.split() == ["list", "100", *["500.0"] * 4, "200", "ms", "MISSED"]
    told = json.loads(judge.as_json([level], database="sqlite"))
    assert (told["met"], told["database"]) == (False, "sqlite")
    assert told["levels"][0]["per_second"] == 50.0


def test_what_came_while_users_arrived_is_left_out(tmp_path):
    file = tmp_path / "samples.jsonl"
    rows = [("read|a", 100.0, 1.0, ""), ("read|a", 104.9, 1.0, ""), ("list|b c", 105.0, 2.0, "x")]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))

    assert judge.read(file, skip_s=5) == [Sample("list", "b c", 105.0, 2.0, "x")]


def test_users_are_numbers():
    assert parser().parse_args(["--users", "10,50"]).users == [10, 50]
    with pytest.raises(SystemExit):
        parser().parse_args(["--users", "10,0"])


# What users do -------------------------------------------------------------------------------
def test_everything_that_users_do_is_answered_as_they_expect(facts):
    client = Client(headers={"X-API-Key": facts.keys[0]})
    dice = random.Random(1)
    for one in OPERATIONS:
        if one.kind is Kind.ACQUIRE:
            continue  # needs workers: see below
        call = one.make(facts, dice)
        body = json.dumps(call.body) if call.body else ""
        found = client.generic(call.method, call.path, body, content_type="application/json")
        assert found.status_code in call.expected, (one, found.content)


def test_every_list_and_read_of_the_api_is_among_them():
    """By schema; a single row of a list is left out where the list is in."""
    facts = world.Facts([""], {"s": ["a"]}, {"l": ["a"]}, ["a"], ["t"], ["r"])
    called = {one.make(facts, random.Random(1)).path.partition("?")[0] for one in OPERATIONS}
    paths = SchemaGenerator().get_schema(request=None, public=True)["paths"]
    reads = {path for path, verbs in paths.items() if "get" in verbs} - DOWNLOADS
    reads = {path for path in reads if not path.endswith("}")}

    left_out = {
        path
        for path in reads
        if not any(re.fullmatch(re.sub(r"{\w+}", "[^/]+", path), one) for one in called)
    }
    assert left_out == set()


# A small load --------------------------------------------------------------------------------
@pytest.mark.processes
def test_a_small_load_is_measured(stack, lab_of_the_session, tmp_path):
    """A few users for seconds: too few to judge, but all they ask for is answered and timed."""
    lab_of_the_session.reset()
    world.build(lab_of_the_session, users=8, rows=300, accounts=5).write(tmp_path / "facts.json")
    users = Users(stack.url, tmp_path)

    mixed = users.act("Mixed", 8, seconds=60, enough=20)
    writes = users.act("Writers", 8, seconds=60, beat_s=1, enough=8)

    assert {one.failure for one in [*mixed, *writes]} == {""}
    assert "retrieve" in {one.kind for one in mixed}
    assert {one.kind for one in writes} == {"store"}
    assert users.used["ours_cores"] > 0
