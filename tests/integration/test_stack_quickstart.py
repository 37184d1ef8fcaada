"""The quickstart, typed as it stands: each command, and what the page says it answers.

Addresses are those of this test's stack and lab. `manage.py` commands run in this process, which
has the same database; all else is typed into a shell.
"""

import io
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from apps.access.contracts import Scope
from apps.access.models import AuditEntry
from apps.tokens.models import Account
from tests.integration.stack import ROOT, eventually, new_key
from tests.test_docs import FENCE

pytest_plugins = ["tests.lab", "tests.integration.stack_fixtures"]
pytestmark = pytest.mark.processes

PAGE = ROOT / "docs/quickstart.md"
EXAMPLE_ID = "80a988b7-9f75-4153-b730-4c27627a015e"
CHANGES = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{4,}-?|\d+(?:\.\d+)?")


def typed(text):
    """Return the commands of a page's console blocks, each with what stands below it."""
    found = []
    for block in FENCE.finditer(text):
        for part in re.split(r"(?m)^\$ ", block.group(2))[1:]:
            lines = part.splitlines()
            ends = next(n for n, line in enumerate(lines, 1) if not line.endswith("\\"))
            found.append(("\n".join(lines[:ends]), "\n".join(lines[ends:])))
    return found


def pieces(output):
    """Return the parts of an output that hold at any time: what lies between two `…` of a line."""
    return [
        piece
        for line in output.splitlines()
        for piece in re.split("…", CHANGES.sub("#", line).strip())
        if piece
    ]


class Reader:
    """Somebody who types what the page says, in a folder of their own."""

    def __init__(self, folder, urls):
        self.folder, self.urls = folder, urls
        self.known = ""
        self.key = ""

    def here(self, text):
        """Return the text with the addresses, the account and the key there are here."""
        for theirs, ours in self.urls.items():
            text = text.replace(theirs, ours)
        text = text.replace("lk_16a00bd3_270929d9…", self.key or "lk_16a00bd3_270929d9…")
        account = Account.objects.filter(site__slug="supplier").first()
        return text.replace(EXAMPLE_ID, str(account.pk)) if account else text

    def type(self, command):
        """Return what a command prints, its errors too."""
        command = self.here(command)
        if command.startswith("./run manage "):
            return self._manage(shlex.split(command.replace("\\\n", " "))[2:])
        if re.match(r"\w+=", command):
            self.known += f"{command}\n"
        shell = ["bash", "-c", f"{self.known}{command}"]
        direct = {**os.environ, "NO_PROXY": "*", "no_proxy": "*"}
        done = subprocess.run(
            shell, cwd=self.folder, env=direct,
            capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        return done.stdout

    def misses(self, command, output):
        """Type a command; return what holds of the page's output and is not in its own."""
        found = CHANGES.sub("#", self.type(command))
        return [piece for piece in pieces(self.here(output)) if piece not in found]

    def _manage(self, words):
        out = io.StringIO()
        try:
            call_command(*words, stdout=out, stderr=out)
        except CommandError as error:
            out.write(f"CommandError: {error}")
        if words[0] == "issue_key":
            self.key = re.search(r"lk_\w+", out.getvalue()).group()
        return out.getvalue()


@pytest.fixture
def reader(stack, lab, tmp_path, monkeypatch, settings):
    monkeypatch.chdir(tmp_path)
    settings.LATCHKEY_AUDIT_DIR = Path(stack.environment["LATCHKEY_DATA_DIR"]) / "audit"
    urls = {"127.0.0.1:8000": stack.url, "127.0.0.1:8901": lab.url}
    urls = {name: url.removeprefix("http://") for name, url in urls.items()}
    reader = Reader(tmp_path, urls)
    (tmp_path / ".latchkey").mkdir()
    (tmp_path / ".latchkey" / "api-key").write_text(new_key(scopes=tuple(Scope)))
    (recipe,) = re.findall(r"(?ms)^```yaml\n(.*?)^```", PAGE.read_text(encoding="utf-8"))
    (tmp_path / "supplier.yaml").write_text(reader.here(recipe))
    return reader


def test_the_quickstart_does_what_it_says(reader):
    steps = [step for step in typed(PAGE.read_text(encoding="utf-8")) if step[0] != "./run"]
    (change,) = [command for command, _ in steps if "wrong-horse" in command]
    *refused, _ = [number for number, (command, _) in enumerate(steps) if "check_site" in command]
    for number, (command, output) in enumerate(steps):
        if "/audit?" in command:
            eventually(AuditEntry.objects.filter(kind="hand_out").exists, within_s=20)
        assert reader.misses(command, output) == [], command
        if number == refused[-1]:
            reader.type(change.replace("wrong-horse", "correct-horse"))
    assert "/audit?" in steps[-1][0]
