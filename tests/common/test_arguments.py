"""Numbers of every management command: what is out of bounds is told, and ends in no traceback."""

from io import StringIO

import pytest
from django.core.management import call_command, get_commands, load_command_class
from django.core.management.base import CommandError

BAD = ["nan", "inf", "-1", "9" * 30, "1e300", "x"]
# The bounds of these are looked at by what they call.
CHECKED_LATER = {"simulate_limits", "history_cleanup"}


def numbers():
    """Yield each command of ours with the options of it that take a number."""
    for name, app in sorted(get_commands().items()):
        if not app.startswith("apps."):
            continue
        parser = load_command_class(app, name).create_parser("manage.py", name)
        for action in parser._actions:
            read = action.type
            if read is not None and _is_a_number(read) and action.dest != "verbosity":
                yield name, action.option_strings[0], read


def _is_a_number(read):
    try:
        return isinstance(read("1"), int | float)
    except ValueError:
        return False


NUMBERS = [row for row in numbers() if row[0] not in CHECKED_LATER]


def test_there_are_numbers():
    assert len(NUMBERS) > 5


@pytest.mark.parametrize("text", BAD)
@pytest.mark.parametrize(("name", "option"), [row[:2] for row in NUMBERS])
def test_a_number_out_of_bounds_is_told(name, option, text):
    with pytest.raises(CommandError, match=f"{option}: .+, .+ to .+"):
        call_command(name, f"{option}={text}", *needed(name))


@pytest.mark.parametrize("text", BAD)
@pytest.mark.parametrize(
    ("name", "option"),
    [("history_cleanup", "--days"), ("simulate_limits", "--hours"),
     ("simulate_limits", "--max-concurrent"), ("simulate_limits", "--per-site"),
     ("simulate_limits", "--reserved")],
)  # fmt: skip
def test_so_it_is_where_it_is_looked_at_later(db, name, option, text):
    with pytest.raises(CommandError):
        call_command(name, f"{option}={text}", stdout=StringIO())


def needed(name):
    """Return what a command does not begin without."""
    return {"issue_key": ["job", "--user=ann"], "acquire_token": ["shop"]}.get(name, [])
