import random
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from apps.common.errors import ValidationFailed
from apps.history import services
from apps.history.contracts import Figures, Grouping, HistoryStatus, Window
from apps.history.models import Level, Rollup, TokenAcquisitionHistory
from apps.history.selectors import breakdowns, local_time
from apps.history.services.recording import to_row
from tests.history import plain
from tests.history.factories import make_record

# Three months around two changes of summer time, with one whole month in the middle.
START = datetime(2026, 9, 20, 7, 13, tzinfo=UTC)
END = datetime(2026, 11, 12, 9, 30, tzinfo=UTC)
LATER = datetime(2026, 11, 20, tzinfo=UTC)
ZONES = [
    "UTC", "Asia/Shanghai", "Asia/Kolkata", "America/New_York", "Australia/Lord_Howe",
    "Pacific/Chatham",
]  # fmt: skip


def random_record(chance: random.Random, **changes):
    seconds = chance.uniform(0, (END - START).total_seconds())
    return make_record(
        **{
            "site": chance.choice(["court_zxfw", "portal", "supplier"]),
            "account": chance.choice(["a", "b", "c"]),
            "status": chance.choice(list(HistoryStatus)),
            "attempts": chance.randint(1, 4),
            "retries": chance.randint(0, 3),
            "total_s": chance.lognormvariate(2, 1),
            "login_s": chance.choice([None, chance.lognormvariate(1.5, 1)]),
            "finished_at": START + timedelta(seconds=seconds),
        }
        | changes
    )


@pytest.fixture
def facts(db, monkeypatch) -> random.Random:
    monkeypatch.setattr("apps.history.services.rollup.PAUSE_SHARE", 0)
    chance = random.Random(7)
    TokenAcquisitionHistory.objects.bulk_create(to_row(random_record(chance)) for _ in range(1500))
    return chance


def assert_equals_plain(window: Window) -> None:
    answer, rows = services.statistics(window), plain.in_window(window)
    assert answer.summary == plain.figures(rows)
    for grouping in window.groups:
        given = {(group.site, group.key): group.figures for group in answer.groups[grouping]}
        assert given == plain.groups(rows, grouping, window.zone), grouping


def windows(chance: random.Random, zone: str):
    everything = frozenset(Grouping)
    width = (END - START).total_seconds()
    yield Window(start=START, end=LATER, zone=ZoneInfo(zone), groups=everything)
    for site, account in (("", ""), ("portal", ""), ("", "b"), ("portal", "b")):
        low, high = sorted(START + timedelta(seconds=chance.uniform(0, width)) for _ in range(2))
        yield Window(
            start=low,
            end=high,
            zone=ZoneInfo(zone),
            site=site,
            account=account,
            groups=everything,
        )


@pytest.mark.parametrize("zone", ZONES)
def test_statistics_equal_the_plain_aggregate(facts, zone):
    assert services.roll_up(at=LATER) == 60 + 2
    for window in windows(facts, zone):
        assert_equals_plain(window)


def test_statistics_equal_the_plain_aggregate_before_any_roll_up(facts):
    for window in windows(facts, "Asia/Shanghai"):
        assert_equals_plain(window)


def test_a_late_record_is_counted_at_once_and_after_the_next_roll_up(facts):
    services.roll_up(at=LATER)
    window = Window(start=START, end=LATER, groups=frozenset(Grouping))
    before = services.statistics(window).summary.total
    services.record(random_record(facts, finished_at=datetime(2026, 10, 8, 3, tzinfo=UTC)))
    assert services.statistics(window).summary.total == before + 1
    assert_equals_plain(window)
    assert services.roll_up(at=LATER) == 1 + 1
    assert_equals_plain(window)


def test_a_record_older_than_all_others_enters_its_month(facts):
    services.roll_up(at=LATER)
    services.record(random_record(facts, finished_at=START - timedelta(days=9)))
    window = Window(start=START - timedelta(days=30), end=LATER)
    assert_equals_plain(window)
    services.roll_up(at=LATER)
    assert_equals_plain(window)


def test_the_statistics_really_read_the_cells(facts):
    services.roll_up(at=LATER)
    TokenAcquisitionHistory.objects.all().delete()
    month = Window(start=datetime(2026, 10, 1, tzinfo=UTC), end=datetime(2026, 11, 1, tzinfo=UTC))
    assert services.statistics(month).summary.total > 500
    Rollup.objects.filter(level=Level.MONTH).delete()
    assert services.statistics(month).summary.total > 500
    Rollup.objects.all().delete()
    assert services.statistics(month).summary == Figures()


@pytest.mark.parametrize("rolled", [False, True])
@pytest.mark.parametrize("site", ["", "portal"])
def test_percentiles_are_within_the_stated_error(facts, rolled, site):
    if rolled:
        services.roll_up(at=LATER)
    window = Window(start=START, end=LATER, site=site)
    answer, rows = services.statistics(window), plain.in_window(window)
    login = [row.login_ms for row in rows if row.login_ms is not None]
    for given, values in (
        (answer.total_percentiles, [row.total_ms for row in rows]),
        (answer.login_percentiles, login),
    ):
        for share, value in ((0.5, given.p50_s), (0.95, given.p95_s), (0.99, given.p99_s)):
            true = plain.nearest_rank(values, share) / 1000
            assert value == pytest.approx(true, rel=0.025), share


def test_the_last_thousandth_of_an_hour_stays_in_its_hour(db):
    at = datetime(2026, 10, 8, 3, 59, 59, 999_900, tzinfo=UTC)
    services.record(make_record(finished_at=at))
    window = Window(start=START, end=LATER, groups=frozenset({Grouping.HOUR, Grouping.DAY}))
    for _ in range(2):
        (hour,) = services.statistics(window).groups[Grouping.HOUR]
        assert hour.key == "2026-10-08T03:00+00:00"
        services.roll_up(at=LATER)


@pytest.mark.parametrize(
    ("zone", "change", "hours"),
    [
        (
            "Australia/Lord_Howe",
            datetime(2026, 10, 3, 15, 30, tzinfo=UTC),
            ["2026-10-04T01:00+10:30", "2026-10-04T02:00+11:00", "2026-10-04T03:00+11:00"],
        ),
        (
            "Australia/Lord_Howe",
            datetime(2026, 4, 4, 15, 0, tzinfo=UTC),
            ["2026-04-05T01:00+11:00", "2026-04-05T01:00+10:30", "2026-04-05T02:00+10:30"],
        ),
        (
            "Pacific/Chatham",
            datetime(2026, 9, 26, 14, 0, tzinfo=UTC),
            ["2026-09-27T02:00+12:45", "2026-09-27T03:00+13:45", "2026-09-27T04:00+13:45"],
        ),
        (
            "Pacific/Chatham",
            datetime(2026, 4, 4, 14, 0, tzinfo=UTC),
            ["2026-04-05T03:00+13:45", "2026-04-05T02:00+12:45", "2026-04-05T03:00+12:45"],
        ),
    ],
)
@pytest.mark.parametrize("rolled", [False, True])
def test_a_change_of_offset_within_an_hour_parts_it(db, zone, change, hours, rolled):
    for minutes in (-10, 10, 40):
        services.record(make_record(finished_at=change + timedelta(minutes=minutes)))
    if rolled:
        services.roll_up(at=LATER)
    window = Window(
        start=change - timedelta(days=2),
        end=change + timedelta(days=2),
        zone=ZoneInfo(zone),
        groups=frozenset({Grouping.HOUR}),
    )
    assert [hour.key for hour in services.statistics(window).groups[Grouping.HOUR]] == hours
    assert_equals_plain(window)


def test_an_open_day_is_not_rolled_up(db):
    services.record(make_record(finished_at=LATER))
    assert services.roll_up(at=LATER + timedelta(hours=23)) == 0
    assert services.roll_up(at=LATER + timedelta(hours=25)) == 1


def test_a_record_with_a_broken_clock_does_not_roll_up_centuries(db):
    services.record(make_record(finished_at=datetime(1970, 1, 1, tzinfo=UTC)))
    services.record(make_record(finished_at=LATER - timedelta(days=1)))
    assert services.roll_up(at=LATER, budget_s=0.0) == 0
    assert Rollup.objects.count() == 0
    window = Window(start=datetime(1970, 1, 1, tzinfo=UTC), end=LATER)
    assert services.statistics(window).summary.total == 2


@pytest.fixture
def asked_days(monkeypatch) -> list[int]:
    """The days of every stretch of time that is gone through day by day."""
    days = []

    def spied(real, first):
        def spy(*arguments, **options):
            start, end = arguments[first : first + 2]
            days.append((end - start).days)
            return real(*arguments, **options)

        return spy

    monkeypatch.setattr(breakdowns, "cover", spied(breakdowns.cover, 0))
    monkeypatch.setattr(local_time, "offsets", spied(local_time.offsets, 1))
    return days


CENTURIES = Window(
    start=datetime(1970, 1, 1, tzinfo=UTC),
    end=datetime(2200, 1, 1, tzinfo=UTC),
    zone=ZoneInfo("America/New_York"),
    groups=frozenset(Grouping),
)


@pytest.mark.parametrize("rolled", [False, True])
def test_a_window_of_centuries_costs_no_more_than_what_is_in_it(facts, asked_days, rolled):
    if rolled:
        services.roll_up(at=LATER)
    assert_equals_plain(CENTURIES)
    assert services.statistics(CENTURIES).window == CENTURIES
    assert max(asked_days) <= (LATER - START).days + 31


def test_a_window_of_centuries_without_a_record_costs_nothing(db, asked_days):
    assert services.statistics(CENTURIES).summary == Figures()
    assert max(asked_days) == 0


def test_an_empty_window_is_refused():
    with pytest.raises(ValidationFailed):
        services.statistics(Window(start=END, end=END))


def test_no_records_give_no_rates(db):
    answer = services.statistics(Window(start=START, end=END))
    assert answer.summary == Figures()
    assert (answer.summary.success_rate, answer.total_percentiles.p95_s) == (None, None)
