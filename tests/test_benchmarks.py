"""The command line of the benchmarks; they themselves are for people to run."""

import pytest

from tests.benchmarks import logins
from tests.benchmarks.__main__ import available, main


@pytest.fixture
def given(monkeypatch):
    """The options that the benchmark of logins was started with, one entry a start."""
    starts = []
    monkeypatch.setattr(logins, "_start", lambda options: starts.append(options) or 0)
    return starts


def test_options_after_one_name_go_to_that_benchmark(given):
    assert main(["logins", "--logins", "3", "--latency-s", "0.5"]) == 0
    assert [(one.logins, one.latency_s) for one in given] == [(3, 0.5)]


def test_without_options_it_runs_as_it_is(given):
    assert main(["logins"]) == 0
    assert [one.logins for one in given] == [200]


def test_a_benchmark_lists_its_own_options(capsys):
    with pytest.raises(SystemExit):
        main(["logins", "--help"])
    assert "--latency-s" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_all_are_listed(capsys, arguments):
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert all(f"\n{name} " in f"\n{text}" for name in available())
    assert ("NAME --option" in text) is bool(arguments)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nonsense"], "No such benchmark: nonsense"),
        (["logins", "admission", "--rounds", "1"], "Options go to one benchmark"),
        (["--rounds", "1"], "Options go to one benchmark"),
        (["caching", "--fast"], "caching has no options"),
    ],
)
def test_what_cannot_be_run_is_said(capsys, given, arguments, said):
    assert main(arguments) == 2
    assert said in capsys.readouterr().out
    assert given == []
