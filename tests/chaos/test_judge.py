"""Each check of the judge is shown a run that breaks it, and one that does not."""

from dataclasses import replace

import pytest

from tests.chaos.facts import Arrival, AttemptRow, Change, Facts, Killed, Stopped
from tests.chaos.judge import violations

ROW = AttemptRow(
    id="a1", site="s", account="anna", owner="w1", credential_version=1, fence=1,
    outcome="succeeded", started_s=10, finished_s=12, deadline_s=17, sent_s=10.1,
    fingerprint="f", resend_in_doubt=False, error_code="",
)  # fmt: skip
SEEN = Arrival(
    attempt="a1", site="s", account="anna", secret="x", start_s=10.2, end_s=11.5, outcome="ok",
    heard=True,
)  # fmt: skip
LATER = replace(ROW, id="a2", started_s=20, finished_s=22, sent_s=20.1, deadline_s=27)
SEEN_LATER = replace(SEEN, attempt="a2", start_s=20.2, end_s=21.5)
LOST = {"outcome": "lost", "error_code": "worker_failed"}


def counts(**more) -> dict:
    own = {"concurrent_max": 1, "refresh_replays": 0}
    site = {**own, "accounts": {"anna": own}, **more}
    return {"all": own, "sites": {"s": site}}


def facts(**more) -> Facts:
    """Return a run in which one login went well."""
    values = {
        "limits": {"": 2, "s": 1}, "attempts": [ROW], "arrivals": [SEEN], "counts": counts(),
        "history": {"r1": 1}, "answers": {"200": 1, "503 database_unavailable": 1},
        "logins_wanted": 1,
    }  # fmt: skip
    return Facts(**{**values, **more})


def lost(first: dict, second: dict, *arrivals: Arrival) -> Facts:
    """Return a run in which a worker died with a1, and a2 followed."""
    return facts(
        attempts=[replace(ROW, **{**LOST, **first}), replace(LATER, **second)],
        arrivals=arrivals or (replace(SEEN, heard=False, outcome=""), SEEN_LATER),
        repairs={"lost_login": {"a1": 1}},
    )


BROKEN = {
    "limits_held_at_the_sites": facts(counts=counts(concurrent_max=2)),
    "limits_held_in_the_rows": facts(attempts=[ROW, replace(ROW, id="a2", account="ben")]),
    "permits_outlast_their_logins": facts(arrivals=[replace(SEEN, end_s=13.0)]),
    "secrets_are_recorded_before_they_leave": facts(attempts=[replace(ROW, sent_s=None)]),
    "nothing_is_sent_after_a_lost_lease": facts(
        stopped=[Stopped(owner="w1", stopped_s=10.05, continued_s=10.15)]
    ),
    "no_rejected_secret_is_repeated": facts(
        attempts=[replace(ROW, outcome="failed", error_code="invalid_credentials"), LATER],
        arrivals=[replace(SEEN, outcome="wrong_password"), SEEN_LATER],
    ),
    "blind_resends_are_recorded": lost({}, {"resend_in_doubt": False}),
    "old_worlds_are_refused": facts(
        changes=[
            Change(account="anna", kind="edit", begun_s=11, done_s=11.1, credential_version=2,
                   fence=2)
        ]
    ),
    "everything_ends": facts(live_requests={"r2": "running"}),
    "history_is_exact": facts(history={"r1": 2}),
    "repairs_are_recorded": facts(killed=[Killed(owner="w1", at_s=11, attempts=("a1",))]),
    "callers_get_answers": facts(answers={"500 internal_error": 1}),
    "enough_happened": facts(logins_wanted=2),
}  # fmt: skip


@pytest.mark.parametrize("check", BROKEN)
def test_a_run_that_breaks_a_rule_is_found_out(check):
    assert {text.split(":")[0] for text in violations(BROKEN[check])} == {check}


def test_a_run_without_fault_passes():
    assert violations(facts()) == []


def test_a_recorded_resend_of_a_secret_in_doubt_passes():
    assert violations(lost({}, {"resend_in_doubt": True})) == []


def test_a_third_sending_without_an_answer_is_too_many():
    third = replace(LATER, id="a3", started_s=30, finished_s=32, sent_s=30.1, deadline_s=37)
    run = lost({}, {"resend_in_doubt": True, **LOST})
    run.attempts.append(replace(third, resend_in_doubt=True))
    run.arrivals = [
        replace(SEEN, heard=False),
        replace(SEEN_LATER, heard=False),
        replace(SEEN, attempt="a3", start_s=30.2, end_s=31, heard=False),
    ]
    run.repairs = {"lost_login": {"a1": 1, "a2": 1}}
    assert [text.split(":")[0] for text in violations(run)] == ["blind_resends_are_recorded"]


def test_a_token_from_before_its_revocation_is_found_out():
    revoked = Change(
        account="anna", kind="revoke", begun_s=15, done_s=15.1, credential_version=1, fence=2
    )
    assert violations(facts(changes=[revoked], tokens={"anna": 16.0})) == []
    (found,) = violations(facts(changes=[revoked], tokens={"anna": 12.0}))
    assert "in circulation" in found
