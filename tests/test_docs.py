"""What the documents say can be typed and followed: commands, options, links.

Write a command into a fenced block marked `console`, after `$ `. Every `./run …` and every
`manage.py …` in there is parsed by the program itself, so it must name real commands, options and
well-formed values. A line that ends with a backslash goes on in the next one.

Those that are harmless are run as well, by tests/performance/command/test_documented.py; the
quickstart is, against a whole service, by tests/integration/test_stack_quickstart.py.
"""

import importlib.machinery
import importlib.util
import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest
from django.core.management import CommandError, get_commands, load_command_class
from django.core.management.base import BaseCommand

from config import launcher

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
FENCE = re.compile(r"(?ms)^( *)```console\b[^\n]*\n(.*?)^\1```")
PLAIN_FENCE = re.compile(r"(?ms)^( *)```(?!console\b)[^\n]*\n(.*?)^\1```")
LINK = re.compile(r"(?<!\\)\[[^\]\[]*\]\(\s*<?([^)\s>]+)")
SHELL_OPERATORS = set("|&;<>()")
ENVIRONMENT = re.compile(r"^[A-Z_][A-Z0-9_]*=")


@dataclass(frozen=True, slots=True)
class Typed:
    """One command of a document, without what the shell would do with it."""

    place: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.place}: {' '.join(self.words)}"


def documents() -> list[Path]:
    """Return the README and all pages of docs/."""
    return [path for path in (README, *sorted((ROOT / "docs").rglob("*.md"))) if path.exists()]


def commands_in(text: str, place: str) -> list[Typed]:
    """Return the `./run` and `manage.py` commands in the console blocks of a document."""
    found = []
    for block in FENCE.finditer(text):
        for line in _whole_lines(block.group(2)):
            found += [
                Typed(place, words)
                for words in _split_shell(line)
                if words[0].endswith("run") or any(w.endswith("manage.py") for w in words)
            ]
    return found


def _whole_lines(block: str) -> list[str]:
    """Return what stands after each `$ `, with its continuation lines."""
    found: list[str] = []
    going_on = False
    for line in (line.strip() for line in block.replace("\\\n", " ").splitlines()):
        if going_on:
            found[-1] += f"\n{line}"
        elif line.startswith("$ "):
            found.append(line.removeprefix("$ "))
        else:
            continue
        try:
            shlex.split(found[-1], comments=True)
            going_on = False
        except ValueError:
            going_on = True
    return found


def _split_shell(line: str) -> list[tuple[str, ...]]:
    """Split a line at pipes, `&&`, redirections and the like; drop assignments in front."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    lexer.commenters = "#"
    parts: list[list[str]] = [[]]
    for word in lexer:
        if set(word) <= SHELL_OPERATORS:
            parts.append([])
        elif parts[-1] or not ENVIRONMENT.match(word):
            parts[-1].append(word)
    return [tuple(part) for part in parts if part]


def problem_with(typed: Typed) -> str | None:
    """Return why the program would refuse the command, or None."""
    words = list(typed.words)
    if words[1:2] == ["manage"] or any(word.endswith("manage.py") for word in words):
        return _problem_with_manage(list(managed(typed)))
    return _problem_with_run(words[1:]) if words[0] == "./run" else None


def managed(typed: Typed) -> tuple[str, ...]:
    """Return what the command hands to Django's command line; nothing for other commands."""
    words = typed.words
    at = next((n for n, word in enumerate(words) if word.endswith("manage.py")), None)
    if at is None and words[:2] == ("./run", "manage"):
        at = 1
    return () if at is None else words[at + 1 :]


def _problem_with_manage(words: list[str]) -> str | None:
    if not words:
        return "no command"
    name, arguments = words[0], words[1:]
    app = get_commands().get(name)
    if app is None:
        return f"there is no command {name}"
    command = app if isinstance(app, BaseCommand) else load_command_class(app, name)
    try:
        command.create_parser("manage.py", name).parse_args(arguments)
    except CommandError as error:
        return str(error)
    except SystemExit:
        return None  # --help and --version
    return None


def _problem_with_run(words: list[str]) -> str | None:
    if not words or words[0].startswith("-"):
        try:
            launcher.parser().parse_args(words)
        except SystemExit as ended:
            return "the options are wrong" if ended.code else None
        return None
    name, arguments = words[0], words[1:]
    if name not in _script().COMMANDS:
        return f"./run has no command {name}"
    own = _script().split_at_dashes(arguments)[0]
    allowed = {"test": {"--keep-going"}, "lint": set(), "fix": set()}.get(name)
    if allowed is not None and (wrong := set(own) - allowed):
        return f"./run {name} does not know {' '.join(sorted(wrong))}"
    return None


def _script() -> ModuleType:
    loader = importlib.machinery.SourceFileLoader("run_script", str(ROOT / "run"))
    spec = importlib.util.spec_from_loader("run_script", loader)
    assert spec
    module = sys.modules.setdefault("run_script", importlib.util.module_from_spec(spec))
    if not hasattr(module, "main"):
        loader.exec_module(module)
    return module


def anchors(text: str) -> set[str]:
    """Return the anchors that the headings of a page have on the usual hosts."""
    without_code = re.sub(r"(?ms)^ *```.*?^ *```", "", text)
    headings = re.findall(r"(?m)^#{1,6}\s+(.+?)\s*#*$", without_code)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in plain}


def broken_links(path: Path) -> list[str]:
    """Return the relative links of a page that lead nowhere."""
    text = path.read_text(encoding="utf-8")
    found = []
    for target in LINK.findall(re.sub(r"(?ms)^ *```.*?^ *```|`[^`\n]*`", "", text)):
        if re.match(r"[a-z][a-z0-9+.-]*:", target):
            continue
        name, _, anchor = target.partition("#")
        page = (path.parent / name).resolve() if name else path
        if not page.exists() or (
            anchor
            and page.suffix == ".md"
            and anchor not in anchors(page.read_text(encoding="utf-8"))
        ):
            found.append(target)
    return found


def commands_elsewhere(text: str) -> list[str]:
    """Return the lines of other blocks that begin like a command, which nobody would check."""
    return [
        line.strip()
        for block in PLAIN_FENCE.finditer(re.sub(FENCE, "", text))
        for line in block.group(2).splitlines()
        if re.match(r"(\$ |\./run\b|(\S*python )?\S*manage\.py )", line.strip())
    ]


PAGES = documents()
TYPED = [
    typed
    for page in PAGES
    for typed in commands_in(page.read_text(encoding="utf-8"), str(page.relative_to(ROOT)))
]


@pytest.mark.parametrize("typed", TYPED, ids=str)
def test_a_documented_command_is_one_the_program_accepts(typed):
    assert problem_with(typed) is None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_stand_where_they_are_checked(page):
    assert commands_elsewhere(page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    assert broken_links(page) == []


def test_the_readme_starts_and_tests_the_product_as_ci_does():
    typed = {typed.words for typed in commands_in(README.read_text(encoding="utf-8"), "README.md")}

    assert ("./run",) in typed
    assert ("./run", "test") in typed


# The checks themselves -----------------------------------------------------------------------
@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("./run manage migrate --no-input", None),
        ("LATCHKEY_SLOTS=5 ./run manage migrate | tee log", None),
        ("sudo -u latchkey .venv/bin/python manage.py check --deploy", None),
        ("./run --valkey --port 9000 # elsewhere", None),
        ("./run test -- -k admission", None),
        ("echo '{\n  \"a\": 1\n}' | ./run manage migrate --no-input", None),
        ("./run manage migrat", "no command migrat"),
        ("./run manage migrate --no-imput", "unrecognized arguments: --no-imput"),
        ("./run manage migrate \\\n    --verbosity 9", "invalid choice"),
        ("./run tset", "no command tset"),
        ("./run test -k admission", "does not know"),
        ("./run --prot 9000", "options are wrong"),
    ],
)
def test_a_command_is_judged_as_the_program_would(line, reason):
    (typed,) = commands_in(f"```console\n$ {line}\n```\n", "here")

    problem = problem_with(typed)

    assert problem is None if reason is None else reason in (problem or "")


def test_what_a_command_prints_is_not_taken_for_a_command():
    assert commands_in("```console\n$ echo a\n./run nothing\n```\n", "here") == []


@pytest.mark.parametrize(
    "line", ["manage.py check", "./run test", "$ ls", ".venv/bin/python manage.py x"]
)
def test_a_command_outside_of_a_console_block_is_found(line):
    text = "```console\n$ ./run\n```\n```{}\nhere:\n" + f"{line}\n```\n"
    assert commands_elsewhere(text.format("")) == commands_elsewhere(text.format("sh")) == [line]


def test_a_link_to_a_missing_page_or_heading_is_found(tmp_path):
    page, other = tmp_path / "a.md", tmp_path / "b.md"
    other.write_text("# One thing: two\n")
    page.write_text("[a](b.md) [b](b.md#one-thing-two) [c](c.md) [d](b.md#two) [e](https://x.y)\n")

    assert broken_links(page) == ["c.md", "b.md#two"]
