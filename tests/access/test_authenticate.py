from datetime import timedelta

import pytest
from django.db import OperationalError

from apps.access import keytext, selectors, services
from apps.access.contracts import ANY_SITE, Grant, Scope
from apps.access.keycache import CACHE, LOOKUPS_AT_ONCE, MAX_WRONG
from apps.access.models import ApiKey
from apps.common.errors import DatabaseUnavailable, NotAuthenticated, NotPermitted, ValidationFailed


@pytest.fixture
def outage(monkeypatch):
    """Return a switch: after it was called no look-up reaches the database."""

    def away(*args, **kwargs):
        raise OperationalError("connection refused")

    def start():
        monkeypatch.setattr(selectors, "usable_key", away)
        monkeypatch.setattr(selectors, "usable_keys", away)
        monkeypatch.setattr(selectors, "usable_digests", away)

    return start


def wrong_key():
    return keytext.generate()[0]


def test_a_key_gives_its_principal(issue, user):
    key, raw = issue(
        scopes=[Scope.EXPORT], grants=[Grant(site="shop", label="eu")], rate_limit_per_minute=7
    )
    principal = services.authenticate(raw)
    assert (principal.kind, principal.id, principal.name) == ("key", str(key.pk), "robot")
    assert (principal.user_id, principal.prefix) == (user.pk, key.prefix)
    assert principal.scopes == {"export"}
    assert principal.grants == (Grant(site="shop", label="eu"),)
    assert principal.rate_limit_per_minute == 7


def test_the_row_does_not_hold_the_key(issue):
    key, raw = issue()
    row = str(ApiKey.objects.filter(pk=key.pk).values().get())
    assert raw not in row
    assert raw.rpartition("_")[2] not in row
    assert raw.startswith(f"lk_{key.prefix}_")


def spoil_nothing(raw, key):
    return wrong_key()


def spoil_text(raw, key):
    return "nonsense"


def spoil_secret(raw, key):
    return raw[:-1] + ("0" if raw[-1] != "0" else "1")


def spoil_by_revoking(raw, key):
    services.revoke_key(key, by=None)
    return raw


def spoil_by_expiry(raw, key):
    ApiKey.objects.filter(pk=key.pk).update(expires_at=key.created_at)
    return raw


def spoil_by_user(raw, key):
    key.user.is_active = False
    key.user.save()
    return raw


@pytest.mark.parametrize(
    "spoil",
    [
        spoil_nothing,
        spoil_text,
        spoil_secret,
        spoil_by_revoking,
        spoil_by_expiry,
        spoil_by_user,
        lambda raw, key: "",
        lambda raw, key: raw + "\0",
        lambda raw, key: "lk_\ud800" + raw[4:],
    ],
)
def test_every_unusable_key_costs_and_answers_the_same(issue, spoil, django_assert_num_queries):
    key, raw = issue()
    bad = spoil(raw, key)
    with django_assert_num_queries(1), pytest.raises(NotAuthenticated) as caught:
        services.authenticate(bad)
    assert caught.value.message == services.REFUSAL
    assert caught.value.details == {}


def test_a_known_key_is_served_from_memory(issue, time, django_assert_num_queries):
    _, raw = issue()
    services.authenticate(raw)
    time.move(4.9)
    with django_assert_num_queries(0):
        services.authenticate(raw)


def test_keys_in_use_are_confirmed_together(issue, time, django_assert_num_queries):
    raw = [issue(name=f"robot {number}")[1] for number in range(20)]
    for one in raw:
        services.authenticate(one)
    time.move(2)
    for one in raw:
        services.authenticate(one)
    time.move(3)
    with django_assert_num_queries(2):
        names = {services.authenticate(one).name for one in raw}
    assert names == {f"robot {number}" for number in range(20)}


def test_a_key_that_is_confirmed_with_others_is_judged_by_itself(issue, time):
    (good, raw), (bad, spoilt) = issue(grants=[Grant(site="shop")]), issue()
    for one in (raw, spoilt):
        services.authenticate(one)
        services.authenticate(one)
    ApiKey.objects.filter(pk=bad.pk).update(revoked_at=time.at)
    ApiKey.objects.filter(pk=good.pk).update(name="renamed")
    time.move(5)
    principal = services.authenticate(raw)
    assert (principal.name, principal.grants) == ("renamed", (Grant(site="shop"),))
    with pytest.raises(NotAuthenticated):
        services.authenticate(spoilt)


def test_a_key_that_nobody_uses_is_not_confirmed_with_others(issue, time, outage):
    (_, raw), (_, idle) = issue(), issue()
    services.authenticate(raw)
    services.authenticate(idle)
    time.move(5)
    services.authenticate(raw)
    assert CACHE.due(age_s=0) == []
    services.authenticate(raw)
    assert CACHE.due(age_s=0) == [keytext.parse(raw).digest]


def test_last_use_is_written_of_all_that_are_confirmed_together(issue, time):
    issued = [issue() for _ in range(3)]
    for _, raw in issued:
        services.authenticate(raw)
        services.authenticate(raw)
    time.move(61)
    services.authenticate(issued[0][1])
    last = time.at
    assert {key.__class__.objects.get(pk=key.pk).last_used_at for key, _ in issued} == {last}


def test_a_revocation_elsewhere_is_followed_within_five_seconds(issue, time):
    key, raw = issue()
    services.authenticate(raw)
    ApiKey.objects.filter(pk=key.pk).update(revoked_at=time.at)
    time.move(5)
    with pytest.raises(NotAuthenticated):
        services.authenticate(raw)


def test_a_revocation_here_is_followed_at_once(issue):
    key, raw = issue()
    services.authenticate(raw)
    services.revoke_key(key, by=None)
    with pytest.raises(NotAuthenticated):
        services.authenticate(raw)


def test_the_first_revocation_stands(issue, time):
    key, _ = issue()
    assert services.revoke_key(key, by=None)
    time.move(10)
    assert not services.revoke_key(key, by=None)
    key.refresh_from_db()
    assert key.revoked_at == time.at - timedelta(seconds=10)


def test_a_cached_key_ends_at_its_expiry(issue, time):
    _, raw = issue(expires_at=time.at + timedelta(seconds=2))
    services.authenticate(raw)
    time.move(2)
    with pytest.raises(NotAuthenticated):
        services.authenticate(raw)


def test_a_known_key_serves_while_the_database_is_down(issue, time, outage, settings):
    _, raw = issue()
    services.authenticate(raw)
    outage()
    time.move(settings.LATCHKEY_OUTAGE_GRACE_S - 1)
    assert services.authenticate(raw).name == "robot"


def test_the_grace_of_an_outage_ends(issue, time, outage, settings):
    _, raw = issue()
    services.authenticate(raw)
    outage()
    time.move(settings.LATCHKEY_OUTAGE_GRACE_S)
    with pytest.raises(DatabaseUnavailable) as caught:
        services.authenticate(raw)
    assert caught.value.retry_after_s


def test_serving_in_an_outage_does_not_prolong_the_grace(issue, time, outage, settings):
    _, raw = issue()
    services.authenticate(raw)
    outage()
    time.move(settings.LATCHKEY_OUTAGE_GRACE_S - 1)
    services.authenticate(raw)
    time.move(1)
    with pytest.raises(DatabaseUnavailable):
        services.authenticate(raw)


def test_no_key_outlives_its_expiry_in_an_outage(issue, time, outage):
    _, raw = issue(expires_at=time.at + timedelta(seconds=30))
    services.authenticate(raw)
    outage()
    time.move(30)
    with pytest.raises(DatabaseUnavailable):
        services.authenticate(raw)


def test_an_unknown_key_in_an_outage_is_no_refusal(outage, db):
    outage()
    with pytest.raises(DatabaseUnavailable):
        services.authenticate(wrong_key())


def test_a_revoked_key_known_as_such_stays_refused_in_an_outage(issue, time, outage):
    key, raw = issue()
    services.authenticate(raw)
    ApiKey.objects.filter(pk=key.pk).update(revoked_at=time.at)
    time.move(5)
    with pytest.raises(NotAuthenticated):
        services.authenticate(raw)
    outage()
    time.move(60)
    with pytest.raises(DatabaseUnavailable):
        services.authenticate(raw)


def test_a_dead_database_is_asked_once_a_second(issue, time, monkeypatch):
    _, raw = issue()
    services.authenticate(raw)
    time.move(5)
    asked = []

    def away(*args, **kwargs):
        asked.append(time.ticks)
        raise OperationalError("timeout expired")

    monkeypatch.setattr(selectors, "usable_keys", away)
    for _ in range(10):
        services.authenticate(raw)
        time.move(0.2)
    assert len(asked) == 2


def test_a_returned_database_is_used_again(issue, time, outage, monkeypatch):
    _, raw = issue()
    with monkeypatch.context():
        outage()
        with pytest.raises(DatabaseUnavailable):
            services.authenticate(raw)
    monkeypatch.undo()
    services.outage.forget()
    assert services.authenticate(raw).name == "robot"


def test_a_mistake_in_our_own_query_is_no_outage(issue, monkeypatch):
    _, raw = issue()

    def mistaken(*args, **kwargs):
        raise OperationalError("no such column: nonsense")

    monkeypatch.setattr(selectors, "usable_key", mistaken)
    with pytest.raises(OperationalError):
        services.authenticate(raw)


def test_a_flood_of_wrong_keys_costs_a_bounded_number_of_queries(
    db, time, django_assert_max_num_queries
):
    with django_assert_max_num_queries(int(LOOKUPS_AT_ONCE) + 1):
        for _ in range(2_000):
            with pytest.raises(NotAuthenticated):
                services.authenticate(wrong_key())


def test_a_flood_of_wrong_keys_does_not_grow_memory(db, time, monkeypatch):
    monkeypatch.setattr(selectors, "usable_key", lambda text, *, at: None)
    monkeypatch.setattr(CACHE, "take_lookup", lambda: True)
    for _ in range(MAX_WRONG + 500):
        with pytest.raises(NotAuthenticated):
            services.authenticate(wrong_key())
    assert len(CACHE) == MAX_WRONG


def test_a_flood_locks_nobody_out(issue, time):
    _, known = issue()
    services.authenticate(known)
    _, fresh = issue(name="fresh")
    for _ in range(200):
        with pytest.raises(NotAuthenticated):
            services.authenticate(wrong_key())
    time.move(0.01)
    assert services.authenticate(fresh).name == "fresh"
    assert services.authenticate(known).name == "robot"


def test_one_wrong_key_sent_again_asks_no_database(db, time, django_assert_num_queries):
    raw = wrong_key()
    with pytest.raises(NotAuthenticated):
        services.authenticate(raw)
    with django_assert_num_queries(0), pytest.raises(NotAuthenticated):
        services.authenticate(raw)


def test_last_use_is_written_once_a_minute(issue, time):
    key, raw = issue()
    written = set()
    for _ in range(13):
        services.authenticate(raw)
        key.refresh_from_db()
        written.add(key.last_used_at)
        time.move(10)
    assert len(written) == 2


def test_the_raw_key_is_in_no_cache(issue):
    _, raw = issue()
    services.authenticate(raw)
    held = repr(vars(CACHE)) + repr(services.authenticate(raw)) + repr(keytext.parse(raw))
    assert raw not in held
    assert raw.rpartition("_")[2] not in held
    assert keytext.parse(raw).digest not in repr(keytext.parse(raw))


def test_a_key_cannot_give_more_scopes_than_it_holds(issue, user):
    _, raw = issue(scopes=[Scope.KEYS_WRITE])
    with pytest.raises(NotPermitted):
        services.issue_key(
            user_id=user.pk, name="x", scopes=[Scope.EXPORT], issuer=services.authenticate(raw)
        )


def test_a_key_cannot_give_more_grants_than_it_holds(issue, user):
    _, raw = issue(grants=[Grant(site="shop")])
    with pytest.raises(NotPermitted):
        services.issue_key(
            user_id=user.pk,
            name="x",
            grants=[Grant(site=ANY_SITE)],
            issuer=services.authenticate(raw),
        )


def test_a_key_cannot_make_one_that_outlives_it(issue, user, time):
    _, raw = issue(expires_at=time.at + timedelta(days=1))
    with pytest.raises(NotPermitted):
        services.issue_key(user_id=user.pk, name="x", issuer=services.authenticate(raw))


def test_a_key_cannot_make_a_faster_one(issue, user):
    _, raw = issue(rate_limit_per_minute=10)
    with pytest.raises(NotPermitted):
        services.issue_key(user_id=user.pk, name="x", issuer=services.authenticate(raw))


def test_an_unknown_scope_is_refused(issue):
    with pytest.raises(ValidationFailed):
        issue(scopes=["everything"])
