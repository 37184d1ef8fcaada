"""One run: the rows, the service as processes, a level of users after the other, the verdict."""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil
from django.core.management import call_command
from django.db import connections

from apps.tokens.faultlab.client import LabClient
from apps.tokens.faultlab.process import LabProcess
from config.children import KEEPER
from tests.integration.stack import ROOT, Stack
from tests.load import world
from tests.load.judge import Level, Sample, as_json, judge_mix, judge_writes, read, table
from tests.load.operations import WRITES_AT_ONCE

Say = Callable[[str], None]
LOCUSTFILE: Final = Path(__file__).with_name("locustfile.py")
RAMP_S: Final = 5.0
BURST_BEAT_S: Final = 2.0
# Below the five seconds after which the server closes a connection that says nothing.
WRITES_BEAT_S: Final = 4.0
WRITE_ROUNDS: Final = 3
STARTING_S: Final = 30.0


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


def _levels(options: argparse.Namespace, users: "Users") -> Iterator[Level]:
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


@dataclass(slots=True)
class Users:
    """Runs users of the locustfile against a service; `used` says what the last ones cost."""

    url: str
    folder: Path
    used: dict[str, float]

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.folder, self.used = url, folder, {}

    def act(
        self, who: str, count: int, *, seconds: float, skip_s: float = 0.0, beat_s: float = 0.0
    ) -> list[Sample]:
        """Return what `count` users did in `seconds`, after the `skip_s` in which they arrived."""
        samples = self.folder / "samples.jsonl"
        samples.unlink(missing_ok=True)
        command = [sys.executable, "-m", "locust", "--locustfile", str(LOCUSTFILE), who]
        command += ["--headless", "--host", self.url, "--users", str(count)]
        command += ["--spawn-rate", str(count / skip_s if who == "Mixed" and skip_s else count)]
        command += ["--run-time", f"{seconds + skip_s:.0f}s", "--stop-timeout", "70"]
        command += ["--loglevel", "WARNING", "--only-summary", "--exit-code-on-error", "0"]
        keeper = [sys.executable, "-S", "-E", str(KEEPER), "--parent", str(os.getpid()), "--"]
        before = _Cores.now()
        output = (self.folder / "locust.log").open("ab")
        process = subprocess.Popen(
            [*keeper, *command],
            cwd=ROOT,
            env={
                "PATH": os.environ.get("PATH", ""),
                "PYTHONPATH": str(ROOT),
                "HOME": str(self.folder),
                "LOAD_FACTS": str(self.folder / "facts.json"),
                "LOAD_SAMPLES": str(samples),
                "LOAD_BEAT_S": str(beat_s or 1.0),
            },
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            process.wait(timeout=seconds + skip_s + 70 + STARTING_S)
        finally:
            process.terminate()
            process.wait()
            output.close()
        self.used = before.until_now()
        if not samples.exists():
            raise RuntimeError(f"The users did not act: {self._said()}")
        return read(samples, skip_s=skip_s)

    def _said(self) -> str:
        return (self.folder / "locust.log").read_text(errors="replace")[-2000:]


@dataclass(frozen=True, slots=True)
class _Cores:
    """How many seconds of processor time were used: by this process and all below it, by all."""

    at: float
    ours: float
    all: float

    @classmethod
    def now(cls) -> "_Cores":
        whole = psutil.cpu_times()
        ours = 0.0
        me = psutil.Process()
        for process in [me, *me.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                ours += sum(process.cpu_times()[:4])  # with those of children that ended
        busy = sum(whole) - whole.idle - getattr(whole, "iowait", 0.0)
        busy -= getattr(whole, "guest", 0.0) + getattr(whole, "guest_nice", 0.0)
        return cls(time.monotonic(), ours, busy)

    def until_now(self) -> dict[str, float]:
        now = _Cores.now()
        passed_s, ours = now.at - self.at, now.ours - self.ours
        others = max(0.0, now.all - self.all - ours)
        return {"ours_cores": ours / passed_s, "others_cores": others / passed_s}
