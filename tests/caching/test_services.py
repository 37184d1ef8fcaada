"""What callers may rely on, with and without Redis."""

import asyncio
import math
import threading
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from django.db import OperationalError, transaction

from apps.caching import codec, resolving, services
from apps.caching.contracts import Layer, Policy
from apps.caching.decorating import cached
from apps.caching.leases import HeldLeases
from apps.caching.runtime import current
from apps.caching.shared import Lease, Reading
from apps.common import clock
from apps.common.errors import DatabaseUnavailable, ValidationFailed
from tests.caching.conftest import until

LAYERS = pytest.mark.parametrize("redis", [False, True], ids=["alone", "redis"])


@pytest.fixture
def cache(request, redis):
    return request.getfixturevalue("with_redis") if redis else None


class Clock:
    def __init__(self) -> None:
        self.passed = 0.0
        self._start, self._began = clock.now().timestamp(), clock.monotonic()

    def wall(self) -> float:
        return self._start + self.passed

    def monotonic(self) -> float:
        return self._began + self.passed


@pytest.fixture
def time_machine(monkeypatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(resolving, "wall", made.wall)
    monkeypatch.setattr(clock, "monotonic", made.monotonic)
    return made


def use_policy(**settings) -> str:
    policy = Policy(namespace="under_test", **settings)
    current().policies._known["under_test"] = policy
    current().spaces.pop("under_test", None)
    return "under_test"


def boom():
    raise AssertionError("the loader must not run")


@LAYERS
@pytest.mark.parametrize(
    "value",
    [
        None, True, 0, -1, 2**70, 1.5, "text", b"bytes", [1, [2]], (1, (2, [3])), {"a": {1: "b"}},
        {1, 2}, frozenset([1]), datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC), datetime(2026, 1, 2),  # noqa: DTZ001
        date(2026, 1, 2), UUID(int=7), Decimal("1.10"),
    ],
    ids=repr,
)  # fmt: skip
def test_a_value_comes_back_as_it_was(value, cache):
    services.set("tokens", "key", value)

    assert services.get("tokens", "key", "nothing") == value
    current().forget_space("*")
    found = services.get("tokens", "key", "nothing")
    assert (found, type(found)) == ((value, type(value)) if cache else ("nothing", str))


@LAYERS
def test_what_is_no_plain_data_is_refused_and_changes_nothing(cache):
    services.set("blacklist", "key", 1)

    with pytest.raises(codec.NotCacheable):
        services.set("blacklist", "key", object())

    assert services.get("blacklist", "key") == 1


@LAYERS
def test_changing_a_value_does_not_change_the_cached_one(cache):
    services.set("blacklist", "key", [1])
    services.get("blacklist", "key").append(2)

    assert services.get("blacklist", "key") == [1]


@LAYERS
def test_a_loaded_value_is_loaded_once(cache):
    assert services.lookup("tokens", "key", lambda: 1).layer is Layer.LOADER
    assert services.lookup("tokens", "key", boom).layer is Layer.L1
    current().forget_space("*")
    if cache:
        assert services.lookup("tokens", "key", boom).layer is Layer.L2


@LAYERS
def test_none_is_a_value_for_its_own_time(cache, time_machine):
    namespace = use_policy(negative_ttl_s=10, jitter=0)
    services.get_or_load(namespace, "key", lambda: None)

    assert services.exists(namespace, "key")
    assert services.get_or_load(namespace, "key", boom) is None
    time_machine.passed = 10
    assert services.get_or_load(namespace, "key", lambda: 1) == 1


@LAYERS
def test_values_end_with_their_policy_or_their_own_end(cache, time_machine):
    namespace = use_policy(ttl_s=100, l1_ttl_s=100, jitter=0)
    ends = datetime.fromtimestamp(time_machine.wall() + 50, tz=UTC)
    services.set(namespace, "policy", 1)
    services.set(namespace, "end", 1, expires_at=ends)
    services.set(namespace, "own", 1, ttl_s=20)
    services.get_or_load(namespace, "loaded", lambda: 1, expires_at=lambda value: ends)

    def left():
        current().told_until = clock.monotonic() + 1  # as if nothing could have been missed
        return {
            key for key in ("policy", "end", "own", "loaded") if services.exists(namespace, key)
        }

    assert left() == {"policy", "end", "own", "loaded"}
    time_machine.passed = 20.1
    assert left() == {"policy", "end", "loaded"}
    time_machine.passed = 50.1
    assert left() == {"policy"}
    time_machine.passed = 100.1
    assert left() == set()


@LAYERS
def test_jitter_shortens_and_never_lengthens(cache, time_machine):
    namespace = use_policy(ttl_s=100, l1_ttl_s=100, jitter=0.5)
    for number in range(40):
        services.set(namespace, str(number), 1)
    lives = {entry.fresh_until - clock.monotonic() for entry in _entries(namespace)}

    assert len(lives) == 40
    assert 50 <= min(lives) < max(lives) <= 100


@LAYERS
def test_an_end_in_the_past_keeps_nothing(cache):
    services.set("tokens", "key", "older")
    services.set("tokens", "key", "over", expires_at=clock.now() - timedelta(seconds=1))

    assert services.get("tokens", "key") is None


@LAYERS
def test_a_deleted_value_is_gone_from_every_layer(cache, db):
    services.set("tokens", "key", 1)
    services.set("tokens", "other", 2)
    services.delete("tokens", "key")

    assert services.get_many("tokens", ["key", "other"]) == {"other": 2}
    current().forget_space("*")
    assert services.get("tokens", "key") is None


def test_many_values_cost_one_round_trip(with_redis):
    for number in range(20):
        services.set("tokens", str(number), number)
    current().forget_space("*")
    before = with_redis.admin.info("commandstats").get("cmdstat_mget", {"calls": 0})["calls"]

    found = services.get_many("tokens", [str(number) for number in range(21)])

    assert found == {str(number): number for number in range(20)}
    after = with_redis.admin.info("commandstats")["cmdstat_mget"]["calls"]
    assert after - before == 1


@LAYERS
def test_clearing_a_namespace_leaves_the_others(cache, db):
    services.set("tokens", "key", 1)
    services.set("blacklist", "key", 2)
    services.clear("tokens")

    assert (services.get("tokens", "key"), services.get("blacklist", "key")) == (None, 2)
    services.set("tokens", "key", 3)
    assert services.get("tokens", "key") == 3


def test_clearing_all_leaves_what_is_not_ours(with_redis):
    with_redis.admin.set("django_q:queue", "work")
    services.set("tokens", "key", 1)
    services.clear_all()
    current().forget_space("*")

    assert services.get("tokens", "key") is None
    assert with_redis.admin.get("django_q:queue") == b"work"


@LAYERS
@pytest.mark.parametrize("namespace", ["tokens", "blacklist"])
def test_clearing_by_pattern_finds_keys_though_names_are_hashed(cache, namespace, db):
    for key in ("court:anna", "court:ben", "portal:anna"):
        services.set(namespace, key, key)
    if cache:
        current().forget_space("*")

    assert services.clear_pattern(namespace, "court:*") == 2

    assert services.get_many(namespace, ["court:anna", "court:ben", "portal:anna"]) == {
        "portal:anna": "portal:anna"
    }


@LAYERS
def test_a_process_keeps_no_more_than_its_share(cache):
    namespace = use_policy(l1_entries=10)
    for number in range(25):
        services.set(namespace, str(number), number)

    assert current().space(namespace).size()[0] == 10
    assert services.get(namespace, "24") == 24
    row = {row.layer: row for row in _local_rows(namespace)}[Layer.L1]
    assert row.values[7] == 15


def test_names_and_secrets_do_not_reach_redis(with_redis):
    services.set("tokens", "anna@example.org", {"bearer": "s3cret-value"})
    services.set("blacklist", "anna@example.org", 1)
    stored = b"".join(
        key + (with_redis.admin.get(key) or b"") for key in with_redis.admin.keys("lk:*")
    )

    assert b"anna" not in stored
    assert b"s3cret" not in stored
    assert b"s3cret" not in next(iter(_entries("tokens"))).data


def test_values_stay_readable_while_keys_rotate(with_redis, settings):
    services.set("tokens", "key", "value")
    settings.LATCHKEY_KEYS = "t2:" + "QkJC" * 10 + "QkI=," + settings.LATCHKEY_KEYS
    current().forget_space("*")

    assert services.get("tokens", "key") == "value"


@LAYERS
@pytest.mark.parametrize(
    "error", [DatabaseUnavailable(), OperationalError("server closed the connection")]
)
def test_a_stale_value_stands_in_while_the_database_is_down(cache, error, time_machine):
    namespace = use_policy(ttl_s=100, l1_ttl_s=100, stale_if_error_s=900, jitter=0)
    services.get_or_load(namespace, "key", lambda: "old")
    time_machine.passed = 200
    asked = []

    def fails():
        asked.append(1)
        raise error

    found = services.lookup(namespace, "key", fails)

    assert (found.value, found.stale, round(found.age_s)) == ("old", True, 200)
    services.lookup(namespace, "key", fails)
    assert len(asked) == 1, "one caller a second finds out, the others are served"
    assert services.get(namespace, "key") is None, "nobody gets it who did not ask for a loader"
    time_machine.passed = 1_001
    with pytest.raises(type(error)):
        services.lookup(namespace, "key", fails)


@LAYERS
def test_a_token_past_its_own_end_never_stands_in(cache, time_machine):
    ends = datetime.fromtimestamp(time_machine.wall() + 10, tz=UTC)
    services.set("tokens", "key", "old", expires_at=ends)
    time_machine.passed = 11

    def fails():
        raise DatabaseUnavailable

    with pytest.raises(DatabaseUnavailable):
        services.lookup("tokens", "key", fails)


@LAYERS
def test_other_errors_of_a_loader_are_raised_and_not_kept(cache, time_machine):
    namespace = use_policy(ttl_s=10, jitter=0)
    services.get_or_load(namespace, "key", lambda: "old")
    time_machine.passed = 20

    with pytest.raises(ZeroDivisionError):
        services.get_or_load(namespace, "key", lambda: 1 / 0)

    assert services.get_or_load(namespace, "key", lambda: "new") == "new"


@LAYERS
def test_concurrent_misses_share_one_load(cache):
    loads, values, started = [], [], threading.Event()

    def loader():
        loads.append(1)
        started.wait(2)
        return [1]

    def call():
        values.append(services.get_or_load("blacklist", "key", loader))

    callers = [threading.Thread(target=call) for _ in range(20)]
    for caller in callers:
        caller.start()
    started.set()
    for caller in callers:
        caller.join()

    assert (len(loads), values) == (1, [[1]] * 20)
    assert len({id(value) for value in values}) == 20, "each caller has a value of its own"


@LAYERS
def test_a_fill_that_was_overtaken_is_not_kept(cache, db):
    def loader():
        services.delete("blacklist", "key")  # what another caller does meanwhile
        return "old"

    assert services.get_or_load("blacklist", "key", loader) == "old"

    assert services.get("blacklist", "key") is None


@LAYERS
def test_nobody_joins_a_load_from_before_an_invalidation(cache, db):
    begun, go_on = threading.Event(), threading.Event()

    def slow():
        begun.set()
        go_on.wait(60)
        return "old"

    first = threading.Thread(target=services.get_or_load, args=("blacklist", "key", slow))
    first.start()
    begun.wait(60)
    services.delete("blacklist", "key")
    found = services.get_or_load("blacklist", "key", lambda: "new")
    go_on.set()
    first.join()

    assert found == "new"
    assert services.get("blacklist", "key") == "new"


def test_a_loader_that_asks_for_its_own_key_does_not_wait_for_itself():
    def loader():
        return services.get_or_load("blacklist", "key", lambda: "inner")

    assert services.get_or_load("blacklist", "key", loader) == "inner"


def test_waiters_go_on_when_a_loader_takes_too_long():
    begun, go_on = threading.Event(), threading.Event()

    def hangs():
        begun.set()
        go_on.wait(60)
        return "late"

    first = threading.Thread(target=services.get_or_load, args=("blacklist", "key", hangs))
    first.start()
    begun.wait(60)
    found = services.get_or_load("blacklist", "key", lambda: "soon", deadline_s=0.1)
    go_on.set()
    first.join()

    assert found == "soon"


@pytest.mark.django_db(transaction=True)
def test_an_invalidation_waits_for_the_commit():
    services.set("blacklist", "key", 1)
    with transaction.atomic():
        services.invalidate_on_commit("blacklist", "key")
        assert services.get("blacklist", "key") == 1

    assert services.get("blacklist", "key") is None


@pytest.mark.parametrize("name", ["", "Upper", "a:b", "a|b", "*", "x" * 41])
def test_a_namespace_is_a_short_word(name):
    with pytest.raises(ValidationFailed):
        services.get(name, "key")


@LAYERS
def test_the_decorator_covers_all_arguments(cache, db):
    calls = []

    @cached("account_statistics")
    def f(a, b=2, *rest, c=None, **more):
        calls.append((a, b, rest, c, more))

    f(1)
    f(a=1)
    f(1, 2)
    f(1, b=2, c=None)
    assert len(calls) == 1, "the same arguments, and None is a value"
    f(2)
    f("1")
    f(1, 3)
    f(1, 2, 3)
    f(1, c=4)
    f(1, d={"x": 1, "y": 2})
    f(1, d={"y": 2, "x": 1})
    f(1, d=[1])
    f(1, d=(1,))
    assert len(calls) == 9
    f.invalidate(1)
    f(1)
    assert len(calls) == 10


@LAYERS
def test_the_decorator_keeps_coroutine_functions(cache):
    calls = []

    @cached("account_statistics")
    async def slow(a):
        calls.append(a)
        await asyncio.sleep(0.02)
        return {"a": a}

    async def many():
        return await asyncio.gather(*(slow(1) for _ in range(50)), slow(2))

    assert asyncio.run(many()) == [{"a": 1}] * 50 + [{"a": 2}]
    assert sorted(calls) == [1, 2]


def test_a_cancelled_leader_leaves_the_load_to_another():
    async def scene():
        begun = asyncio.Event()

        async def hangs():
            begun.set()
            await asyncio.sleep(30)

        async def loads():
            return "loaded"

        leader = asyncio.ensure_future(services.alookup("blacklist", "key", hangs))
        await begun.wait()
        waiter = asyncio.ensure_future(services.alookup("blacklist", "key", loads))
        await asyncio.sleep(0.02)
        leader.cancel()
        return await asyncio.wait_for(waiter, 2)

    assert asyncio.run(scene()).value == "loaded"


def _entries(namespace):
    return list(current().space(namespace)._entries.values())


def _local_rows(namespace):
    return current().space(namespace).drain()


@LAYERS
def test_a_value_near_its_end_is_renewed_behind_the_caller(cache, time_machine):
    namespace = use_policy(ttl_s=1_000, jitter=0, early_refresh=0.4)
    current().told_until = math.inf
    loads = iter(["old", "new"])
    renewing = threading.Event()

    def load():
        renewing.wait(60)
        return next(loads)

    renewing.set()
    assert services.get_or_load(namespace, "key", load) == "old"
    renewing.clear()
    time_machine.passed = 590
    assert services.get_or_load(namespace, "key", boom) == "old"
    assert not current().refreshing._under_way

    time_machine.passed = 610
    assert services.get_or_load(namespace, "key", load) == "old", "nobody waits for the new one"
    assert services.get_or_load(namespace, "key", boom) == "old", "one renewal is enough"
    renewing.set()
    until(lambda: services.get(namespace, "key") == "new")
    until(lambda: not current().refreshing._under_way)


def test_a_coroutines_value_is_renewed_behind_it_as_well(time_machine):
    namespace = use_policy(ttl_s=1_000, jitter=0, early_refresh=0.4)
    current().told_until = math.inf
    loads = iter(["old", "new"])

    async def load():
        return next(loads)

    async def read():
        first = await services.alookup(namespace, "key", load)
        time_machine.passed = 610
        second = await services.alookup(namespace, "key", load)
        await asyncio.gather(*current().refreshing._tasks)
        return first.value, second.value, services.get(namespace, "key")

    assert asyncio.run(read()) == ("old", "old", "new")


def test_a_lease_is_not_renewed_past_the_time_of_its_loader(time_machine):
    asked = []

    class Server:
        def renew(self, lease, *, lease_s):
            asked.append(lease_s)
            return True

    leases, began = HeldLeases(), clock.monotonic()
    leases.hold(Lease("under_test", "name", b"token", True, Reading(None, b"")), deadline=began + 3)
    for passed in (0.0, 1.5, 2.5, 3.5, 10.0):
        time_machine.passed = passed
        leases.renew(Server())

    assert asked == pytest.approx([2.0, 1.5, 0.5])
    assert not leases._held
