"""The table of requirements is complete, and what it names exists."""

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "requirements.md"
# How many rows each section of the requirements has.
SECTIONS = {"A": 24, "B": 8, "C": 9, "D": 4, "E": 10, "X": 12}
STATES = ("done", "partly", "not yet")
NOTHING = "–"


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table, cell by cell."""

    id: str
    what: str
    state: str
    code: str
    tests: str
    page: str


def rows() -> list[Row]:
    """Return the rows of all sections, in the order in which they stand."""
    found = re.findall(r"(?m)^\| ([A-Z]\d+) \|(.+)\|$", PAGE.read_text(encoding="utf-8"))
    return [Row(id_, *(cell.strip() for cell in rest.split("|"))) for id_, rest in found]


def paths(cell: str) -> list[Path]:
    return [ROOT / name for name in re.findall(r"`([^`]+)`", cell)]


ROWS = rows()
SHOWN = [row for row in ROWS if not row.state.startswith("not yet")]


def test_every_requirement_stands_in_the_table_once_and_in_order():
    wanted = [f"{section}{n}" for section, last in SECTIONS.items() for n in range(1, last + 1)]

    assert [row.id for row in ROWS] == wanted
    assert max(Counter(row.id for row in ROWS).values()) == 1


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_a_row_says_how_far_it_is(row):
    state, _, note = row.state.partition(":")

    assert state.split(";")[0] in STATES
    if state == "partly":
        assert note.strip(), "what is missing?"


@pytest.mark.parametrize("row", SHOWN, ids=lambda row: row.id)
def test_what_a_row_names_exists(row):
    assert paths(row.code), "which code?"
    assert paths(row.tests), "which test?"
    assert re.search(r"\]\([\w/.-]+\.md", row.page), "which page?"

    missing = [path for path in paths(row.code + row.tests) if not path.is_file()]
    assert missing == []
    assert all(path.is_relative_to(ROOT / "tests") for path in paths(row.tests))
    assert any("def test_" in path.read_text(encoding="utf-8") for path in paths(row.tests))


@pytest.mark.parametrize("row", [row for row in ROWS if row not in SHOWN], ids=lambda row: row.id)
def test_a_row_that_is_not_there_names_nothing(row):
    assert (row.code, row.tests, row.page) == (NOTHING,) * 3


def test_what_is_not_there_or_not_whole_is_listed_below_the_tables():
    listed = PAGE.read_text(encoding="utf-8").partition("## Not yet\n")[2]
    named = set(re.findall(r"\b[A-Z]\d+\b", listed))

    assert named == {row.id for row in ROWS if not row.state.startswith("done")}
