"""One run: the rows, the service as processes, a level of users after the other, the verdict."""

import argparse
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from django.core.management import call_command
from django.db import connections

from apps.tokens.faultlab.client import LabClient
from apps.tokens.faultlab.process import LabProcess
from tests.integration.stack import ROOT, Stack
from tests.load import world
from tests.load.judge import Level, as_json, judge_mix, judge_writes, table
from tests.load.operations import WRITES_AT_ONCE
from tests.load.users import Users

Say = Callable[[str], None]
RAMP_S: Final = 5.0
BURST_BEAT_S: Final = 2.0
# Below the five seconds after which the server closes a connection that says nothing.
WRITES_BEAT_S: Final = 4.0
WRITE_ROUNDS: Final = 3


def run(options: argparse.Namespace, folder: Path, *, say: Say) -> int:
    """Return 0 if every bound held, 1 if not."""
    levels = []
    with LabProcess() as process, LabClient(process.url) as lab:
        call_command("migrate", verbosity=0)
        say(f"Making the rows: {options.rows} of history and as many of the audit ...")
        users = max(*options.users, WRITES_AT_ONCE)
        world.build(lab, users=users, rows=options.rows).write(folder / "facts.json")
        with _running(folder, web_processes=options.web) as stack:
            for level in _levels(options, Users(stack.url, folder)):
                say(table(level) + "\n")
                levels.append(level)
    missed = [text for level in levels for text in level.missed]
    for text in missed:
        say(f"MISSED {text}")
    say("Every bound held." if not missed else f"{len(missed)} bounds were missed.")
    if options.json:
        about = {"database": options.database, "web": options.web, "rows": options.rows}
        options.json.write_text(as_json(levels, **about))
    return int(bool(missed))


def _levels(options: argparse.Namespace, users: Users) -> Iterator[Level]:
    """Run the levels, from the lightest on."""
    seconds: float = options.seconds
    for count in options.users:
        samples = users.act("Mixed", count, seconds=seconds, skip_s=RAMP_S)
        title = f"{count} users, one thing a second each"
        yield judge_mix(samples, title=title, users=count, seconds=seconds, **users.used)
    most = max(options.users)
    samples = users.act(
        "Burst", most, seconds=seconds, skip_s=BURST_BEAT_S / 2, beat_s=BURST_BEAT_S
    )
    title = f"{most} operations at the same instant, every {BURST_BEAT_S:g} s"
    yield judge_mix(samples, title=title, users=most, seconds=seconds, **users.used)
    seconds = WRITES_BEAT_S * WRITE_ROUNDS
    samples = users.act("Writers", WRITES_AT_ONCE, seconds=seconds, beat_s=WRITES_BEAT_S)
    yield judge_writes(
        samples,
        title=f"{WRITES_AT_ONCE} writes at the same instant",
        users=WRITES_AT_ONCE,
        seconds=seconds,
        beat_s=WRITES_BEAT_S,
        **users.used,
    )


@contextmanager
def _running(folder: Path, *, web_processes: int) -> Iterator[Stack]:
    environment = {
        name: os.environ[name]
        for name in ("DATABASE_URL", "REDIS_URL", "LATCHKEY_DATA_DIR", "DJANGO_SETTINGS_MODULE")
    }
    environment |= {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    stack = Stack(folder, environment, web_processes=web_processes)
    try:
        stack.start_web()
        stack.start_workers()
        stack.web.wait_until_ready("/readyz")
        stack.wait_for_workers()
        connections.close_all()
        yield stack
    finally:
        stack.stop()
