"""A behaviour says what it does not understand; the same seed misbehaves the same way."""

import pytest

from apps.tokens.faultlab.behaviour import ANYBODY, Behaviour
from apps.tokens.faultlab.captcha import GLYPHS, png
from apps.tokens.faultlab.faults import Fault, FaultKind, FaultPlan
from apps.tokens.faultlab.parsing import BehaviourError, parse

BAD = [
    ({"latncy_s": 1}, "latncy_s: unknown key; did you mean latency_s?"),
    ({"zzz": 1}, "zzz: unknown key."),
    ({"latency_s": "1"}, "latency_s: must be a number."),
    ({"latency_s": True}, "latency_s: must be a number."),
    ({"latency_s": -1}, "latency_s: must be 0 to 1e+09."),
    ({"lockout_after": 0}, "lockout_after: must be at least 1."),
    ({"lockout_after": 1.5}, "lockout_after: must be a whole number."),
    ({"down": "yes"}, "down: must be true or false."),
    ({"token_shape": "xml"}, "token_shape: must be opaque or jwt."),
    ({"expires_in": "soon"}, "expires_in: must be a number of seconds or absent."),
    ({"encoding": "klingon"}, "encoding: must be the name of a character encoding, such as gbk."),
    ({"faults": "503"}, "faults: must be a list."),
    ({"faults": [{"fault": "503", "after": 1}]}, "faults: an item is a word or"),
    ({"faults": ["418"]}, "faults: '418' is not one of: ok, 401, 429"),
    ({"fault_mix": {"500": 0.6, "503": 0.6}}, "fault_mix: the probabilities must not add up"),
    ({"fault_mix": {"500": 2}}, "fault_mix: must be 0 to 1."),
    ({"accounts": {"anna": {"pasword": "x"}}}, "accounts: anna must be {password, totp_secret?}."),
    ({"accounts": {"anna": {"password": ""}}}, "accounts: anna: password and totp_secret"),
    ({"accounts": ["anna"]}, "accounts: must be an object of"),
]


@pytest.mark.parametrize(("raw", "message"), BAD, ids=lambda each: str(each)[:40])
def test_a_bad_key_or_value_is_named(raw, message) -> None:
    with pytest.raises(BehaviourError) as caught:
        parse(raw)
    assert caught.value.errors[0].startswith(message)


def test_all_errors_are_named_at_once() -> None:
    with pytest.raises(BehaviourError) as caught:
        parse({"a": 1, "down": 1, "seed": -1})
    assert len(caught.value.errors) == 3


def test_only_an_object_is_a_behaviour() -> None:
    with pytest.raises(BehaviourError):
        parse([])


def test_null_means_the_default() -> None:
    assert parse({"latency_s": None, "accounts": None}) == Behaviour()


def test_anybody_may_log_in_unless_accounts_are_named() -> None:
    assert parse({}).account("whoever") is ANYBODY
    named = parse({"accounts": {"anna": {"password": "x"}, "bert": "y"}})
    assert named.account("whoever") is None
    assert [named.account(name).password for name in ("anna", "bert")] == ["x", "y"]


def test_secrets_are_not_in_the_repr() -> None:
    assert "hunter2" not in repr(parse({"accounts": {"anna": "hunter2"}}))


def test_listed_faults_come_in_order_and_then_none() -> None:
    listed = parse({"faults": [503, {"fault": "429", "retry_after_s": 7, "times": 2}, "ok"]}).faults
    plan = FaultPlan(listed, {}, seed=1)
    limited = Fault(FaultKind.RATE_LIMITED, 7)
    ok = Fault(FaultKind.OK)
    expected = [Fault(FaultKind.UNAVAILABLE), limited, limited, ok, ok, ok]
    assert [plan.next() for _ in range(6)] == expected


def test_a_mix_follows_its_shares_and_its_seed() -> None:
    mix = {FaultKind.SERVER_ERROR: 0.25, FaultKind.HANG: 0.05}

    def drawn(seed: int) -> list[FaultKind]:
        plan = FaultPlan((), mix, seed=seed)
        return [plan.next().kind for _ in range(4000)]

    first = drawn(7)
    assert first == drawn(7) != drawn(8)
    assert 900 < first.count(FaultKind.SERVER_ERROR) < 1100
    assert 140 < first.count(FaultKind.HANG) < 260
    assert set(first) == {FaultKind.SERVER_ERROR, FaultKind.HANG, FaultKind.OK}


def test_every_digit_has_a_picture_of_its_own() -> None:
    pictures = {png(digit) for digit in GLYPHS}
    assert len(pictures) == 10
    assert all(picture.startswith(b"\x89PNG\r\n\x1a\n") for picture in pictures)
