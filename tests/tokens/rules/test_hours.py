"""Closed hours and pauses: when a site opens, and that nothing logs in before."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from apps.common.errors import ValidationFailed
from apps.tokens.models import AdmissionLimits, Site
from apps.tokens.services import admission, answers, hours, sites
from tests.tokens.factories import make_account, make_site
from tests.tokens.rules.support import ahead, ask, claim_names, codes, obtain, refreshed, set_site
from tests.tokens.work import claim

NIGHT = {"from": "22:00", "to": "06:00"}
LUNCH = {"from": "12:00", "to": "13:30"}
WEEKEND = {"days": ["sat", "sun"], "from": "00:00", "to": "24:00"}
NEVER_OPEN = {"from": "00:00", "to": "24:00"}
BERLIN = "Europe/Berlin"


def opens(entries, at, zone="UTC", **fields):
    """Return when the site opens, as the site's wall clock shows it; '' for open, None never."""
    site = Site(closed_hours=entries, time_zone=zone, **fields)
    moment = datetime.fromisoformat(at).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
    found = hours.opens_at(site, at=moment)
    assert hours.is_open(site, at=moment) == (found == moment)
    if found is None or found == moment:
        return None if found is None else ""
    return found.astimezone(ZoneInfo(zone)).strftime("%Y-%m-%d %H:%M")


@pytest.mark.parametrize(
    ("entries", "at", "expected"),
    [
        ([], "2026-11-23 12:00", ""),
        ([LUNCH], "2026-11-23 11:59", ""),
        ([LUNCH], "2026-11-23 12:00", "2026-11-23 13:30"),
        ([LUNCH], "2026-11-23 13:30", ""),
        ([NIGHT], "2026-11-23 21:59", ""),
        ([NIGHT], "2026-11-23 23:00", "2026-11-24 06:00"),
        ([NIGHT], "2026-11-24 05:59", "2026-11-24 06:00"),
        ([WEEKEND], "2026-11-28 09:00", "2026-11-30 00:00"),
        ([WEEKEND], "2026-11-27 23:59", ""),
        ([WEEKEND, NIGHT], "2026-11-27 23:00", "2026-11-30 06:00"),
        ([{"days": ["fri"], **NIGHT}], "2026-11-28 03:00", "2026-11-28 06:00"),
        ([{"days": ["fri"], **NIGHT}], "2026-11-27 03:00", ""),
        ([{"from": "09:00", "to": "10:00"}, {"from": "10:00", "to": "11:00"}], "2026-11-23 09:30",
         "2026-11-23 11:00"),
        ([NEVER_OPEN], "2026-11-23 12:00", None),
        ([{"from": "08:00", "to": "08:00"}], "2026-11-23 12:00", None),
    ],
)  # fmt: skip
def test_a_site_opens_when_its_closed_hours_end(entries, at, expected):
    assert opens(entries, at) == expected


def test_closed_hours_are_those_of_the_sites_time_zone():
    site = Site(closed_hours=[NIGHT], time_zone="Asia/Shanghai")
    assert not hours.is_open(site, at=datetime(2026, 11, 23, 15, 0, tzinfo=UTC))
    assert hours.is_open(site, at=datetime(2026, 11, 23, 22, 30, tzinfo=UTC))


@pytest.mark.parametrize(
    ("at", "expected", "closed_h"),
    [
        ("2026-03-28 22:00", "2026-03-29 06:00", 7),  # the clocks go forward
        ("2026-10-24 22:00", "2026-10-25 06:00", 9),  # the clocks go back
        ("2026-11-23 22:00", "2026-11-24 06:00", 8),
    ],
)
def test_a_night_ends_by_the_clock_on_the_wall_when_the_clocks_change(at, expected, closed_h):
    assert opens([NIGHT], at, BERLIN) == expected
    begun = datetime.fromisoformat(at).replace(tzinfo=ZoneInfo(BERLIN)).astimezone(UTC)
    site = Site(closed_hours=[NIGHT], time_zone=BERLIN)
    assert hours.opens_at(site, at=begun) - begun == timedelta(hours=closed_h)


def test_a_closing_that_ends_in_a_repeated_hour_ends_the_second_time():
    site = Site(closed_hours=[{"from": "00:00", "to": "02:30"}], time_zone=BERLIN)
    first_0215 = datetime(2026, 10, 25, 0, 15, tzinfo=UTC)
    second_0215 = datetime(2026, 10, 25, 1, 15, tzinfo=UTC)
    assert not hours.is_open(site, at=first_0215)
    assert not hours.is_open(site, at=second_0215)
    assert hours.is_open(site, at=datetime(2026, 10, 25, 1, 30, tzinfo=UTC))


def test_a_closing_inside_a_skipped_hour_does_not_crash_and_ends():
    site = Site(closed_hours=[{"from": "02:15", "to": "02:45"}], time_zone=BERLIN)
    assert hours.is_open(site, at=datetime(2026, 3, 29, 2, 0, tzinfo=UTC))


def test_a_pause_ends_by_itself_and_closed_hours_hold_after_it():
    until = datetime(2026, 11, 23, 12, 30, tzinfo=UTC)
    site = {"paused": True, "paused_until": until}
    assert opens([], "2026-11-23 12:00", **site) == "2026-11-23 12:30"
    assert opens([LUNCH], "2026-11-23 11:00", **site) == "2026-11-23 13:30"
    assert opens([], "2026-11-23 12:31", **site) == ""
    assert opens([], "2026-11-23 12:31", paused=True) is None


def test_a_long_pause_of_a_site_that_never_opens_never_ends():
    until = datetime(2026, 12, 31, 12, 30, tzinfo=UTC)
    assert opens([NEVER_OPEN], "2026-11-23 12:00", paused=True, paused_until=until) is None


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ("night", "Must be a list."),
        (["22-06"], "Entry 1: needs from and to"),
        ([{"from": "22:00"}], "Entry 1: needs from and to"),
        ([NIGHT, {**NIGHT, "until": "x"}], "Entry 2: needs from and to"),
        ([{"from": "25:00", "to": "06:00"}], "Entry 1: from must be HH:MM."),
        ([{"from": "22:00", "to": "6"}], "Entry 1: to must be HH:MM."),
        ([{"from": 22, "to": "06:00"}], "Entry 1: from must be HH:MM."),
        ([{"days": ["monday"], **NIGHT}], "Entry 1: days must be among mon"),
        ([{"days": "mon", **NIGHT}], "Entry 1: days must be among mon"),
    ],
)
def test_hours_that_mean_nothing_are_refused_by_entry(entries, reason):
    with pytest.raises(ValidationFailed) as raised:
        hours.check(entries, "UTC")
    assert reason in raised.value.details["errors"]["closed_hours"][0]


@pytest.mark.parametrize("zone", ["Mars/Olympus", "", "../etc/passwd"])
def test_an_unknown_time_zone_is_refused(zone):
    with pytest.raises(ValidationFailed) as raised:
        hours.check([], zone)
    assert "time_zone" in raised.value.details["errors"]


def test_a_site_with_wrong_hours_is_not_saved(db):
    site = make_site()
    site.closed_hours = [{"from": "9", "to": "10"}]
    with pytest.raises(ValidationFailed):
        sites.save(site)
    assert refreshed(site).closed_hours == []


def test_the_api_names_the_hours_that_are_wrong(api):
    make_site()
    found = api().patch("sites/court_zxfw", {"closed_hours": [{"from": "9", "to": "10"}]})
    assert found.status == 400
    assert "closed_hours" in found.json["details"]["errors"]


# What they do to admission -----------------------------------------------------------------


@pytest.fixture
def site():
    found = make_site()
    make_account(found)
    return found


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"closed_hours": [NEVER_OPEN]}, "site_closed"),
        ({"paused": True}, "site_paused"),
        ({"paused": True, "paused_until": ahead(hours=1)}, "site_paused"),
    ],
)
def test_at_a_closed_site_nothing_starts_and_other_sites_go_on(site, fields, code):
    pk = ask()
    make_account(make_site("other"))
    ask("other")
    set_site(site, **fields)
    assert claim_names() == [("other", "alice")]
    assert code in codes(pk)


def test_a_pause_that_has_ended_lets_logins_start_and_is_not_what_closes_it(site):
    pk = ask()
    set_site(site, paused=True, paused_until=ahead(seconds=-1))
    assert codes(pk) == ["worker"]
    set_site(site, closed_hours=[NEVER_OPEN])
    assert codes(pk) == ["site_closed"]
    set_site(site, closed_hours=[])
    assert claim()


def test_while_everything_is_paused_nothing_starts_anywhere(site):
    pk = ask()
    AdmissionLimits.objects.create(pk=1, paused=True)
    assert claim() is None
    assert "everything_paused" in codes(pk)
    AdmissionLimits.objects.update(paused=False)
    assert claim()


def test_not_even_a_person_who_watches_starts_a_login_at_a_closed_site(site):
    from apps.tokens.services.owner import Owner

    pk = ask()
    owner = Owner.take(cluster="default")
    set_site(site, paused=True)
    assert admission.claim_this(pk, owner_id=owner.id) is None
    set_site(site, paused=False)
    assert admission.claim_this(pk, owner_id=owner.id)


def test_a_login_that_runs_when_a_site_closes_is_finished(site):
    from tests.tokens.rules.support import row, succeed

    pk = ask()
    claimed = claim()
    set_site(site, paused=True)
    succeed(claimed)
    assert row(pk).status == "done"


@pytest.mark.parametrize(
    ("fields", "code", "ends"),
    [
        ({"paused": True, "paused_until": datetime(2999, 1, 1, tzinfo=UTC)}, "site_paused", True),
        ({"paused": True}, "site_paused", False),
        ({"closed_hours": [NEVER_OPEN]}, "site_closed", False),
    ],
)
def test_waiting_callers_are_told_when_it_opens(site, fields, code, ends):
    set_site(site, **fields)
    _, body = answers.pending(obtain())
    assert body["waiting_for"]["code"] == code
    assert bool(body["waiting_for"]["until"]) == ends


def test_waiting_callers_of_an_open_site_are_told_nothing(site):
    assert answers.pending(obtain())[1]["waiting_for"] is None


def test_waiting_callers_are_told_that_everything_is_paused(site):
    AdmissionLimits.objects.create(pk=1, paused=True)
    assert answers.pending(obtain())[1]["waiting_for"]["code"] == "everything_paused"


def test_the_202_of_the_api_says_when_it_opens(site, api):
    set_site(site, paused=True, paused_until=datetime(2999, 1, 1, tzinfo=UTC))
    found = api().post("tokens/acquire", {"site": "court_zxfw"})
    assert found.status == 202
    assert found.json["waiting_for"] == {"code": "site_paused", "until": "2999-01-01T00:00:00Z"}


def test_pause_and_resume_over_the_api(site, api):
    client = api()
    client.post("sites/court_zxfw/pause")
    ask()
    assert claim() is None
    client.post("sites/court_zxfw/resume")
    assert claim()


def test_pause_everything_over_the_api(site, api):
    ask()
    assert api().patch("limits", {"paused": True}).status == 200
    assert claim() is None
