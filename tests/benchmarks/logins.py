"""200 concurrent logins of 10 s in one worker process: memory, and that none disturbs another.

python -m tests.benchmarks.logins [--logins N] [--latency-s S] [--database sqlite|postgres]

One more login hangs past its own, shorter deadline while the others run; SIGTERM comes while all
are in flight, so what ends well was drained.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

RSS_GOAL_MB = 300
HANG_DEADLINE_S = 5
LOOK_EVERY_S = 0.1


def main(arguments: Sequence[str] = ()) -> int:
    """Run the benchmark and print its figures; 0 if all goals are met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--logins", type=int, default=200)
    parser.add_argument("--latency-s", type=float, default=10.0)
    parser.add_argument("--database", choices=["sqlite", "postgres"], default="sqlite")
    parser.add_argument("--role", choices=["measure", "worker"], help=argparse.SUPPRESS)
    options = parser.parse_args(list(arguments))
    if options.role == "worker":
        return _work()
    if options.role == "measure":
        return _measure(options)
    return _start(options)


def _start(options: argparse.Namespace) -> int:
    """Start a database of its own, then go on in a process that has its settings."""
    from config.embedded import embedded_postgres

    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="latchkey-bench-"))
        url = f"sqlite:///{Path(folder) / 'bench.sqlite3'}"
        if options.database == "postgres":
            url = stack.enter_context(embedded_postgres())
        environment = os.environ | {
            "DATABASE_URL": url,
            "REDIS_URL": "",
            "LATCHKEY_DATA_DIR": folder,
            "LATCHKEY_LOG_LEVEL": "ERROR",
            "LATCHKEY_SLOTS": str(options.logins + 1),
            "LATCHKEY_DRAIN_S": "600",
            "DJANGO_SETTINGS_MODULE": os.environ.get(
                "DJANGO_SETTINGS_MODULE", "config.settings.test"
            ),
        }
        command = [sys.executable, "-m", "tests.benchmarks.logins", "--role", "measure"]
        command += ["--logins", str(options.logins), "--latency-s", str(options.latency_s)]
        return subprocess.run(command, env=environment, check=False).returncode


def _measure(options: argparse.Namespace) -> int:
    import django

    django.setup()
    from django.core.management import call_command

    from apps.tokens.faultlab.client import LabClient
    from apps.tokens.faultlab.process import LabProcess

    call_command("migrate", verbosity=0)
    with LabProcess() as process, LabClient(process.url) as lab:
        _make_sites(lab, options)
        figures = _run_worker(options.logins)
    figures |= _results()
    _print(figures, options)
    return 0 if _met(figures, options) else 1


def _make_sites(lab: Any, options: argparse.Namespace) -> None:
    from apps.tokens.faultlab.recipes import allowed_hosts, json_recipe
    from apps.tokens.models import AdmissionLimits, Site
    from apps.tokens.services import requests, sites
    from apps.tokens.services.requests import Demand
    from tests.tokens.factories import make_account

    everybody = options.logins + 1
    AdmissionLimits.objects.create(
        pk=1,
        max_concurrent=everybody,
        max_concurrent_per_site=everybody,
        reserved_for_interactive=0,
        acquisition_timeout_s=3600,
        max_attempts=1,
    )
    kinds = {
        "slow": (options.logins, {"latency_s": options.latency_s}, int(120 + options.latency_s)),
        "hangs": (1, {"faults": ["hang"]}, HANG_DEADLINE_S),
    }
    for slug, (count, behaviour, deadline_s) in kinds.items():
        lab.put(slug, **behaviour)
        site = Site(
            slug=slug,
            recipe=json_recipe(lab.url, slug, refresh=False),
            allowed_hosts=list(allowed_hosts(lab.url)),
            login_timeout_s=deadline_s,
            request_timeout_s=int(60 + options.latency_s),
            budget_per_site=10_000,
        )
        sites.save(site)
        for n in range(count):
            account = make_account(site, f"u{n:03}")
            demand = Demand(site=site, account=account, reason="no_token")
            requests.ask(demand, asker=None)


def _run_worker(logins: int) -> dict[str, float]:
    """Run one worker process, end it with SIGTERM once all logins are in flight, and watch it."""
    import psutil

    from apps.tokens.models import LoginAttempt

    began = time.monotonic()
    worker = subprocess.Popen([sys.executable, "-m", "tests.benchmarks.logins", "--role", "worker"])
    seen = psutil.Process(worker.pid)
    peak = cpu_s = idle_rss = 0.0
    told_at = in_flight_at = None
    while worker.poll() is None:
        try:
            peak, times = max(peak, seen.memory_info().rss), seen.cpu_times()
        except psutil.NoSuchProcess:
            break
        cpu_s = times.user + times.system
        admitted = LoginAttempt.objects.count()
        idle_rss = peak if admitted == 0 else idle_rss
        if told_at is None and admitted > logins:
            told_at = in_flight_at = time.monotonic()
            worker.send_signal(signal.SIGTERM)
        time.sleep(LOOK_EVERY_S)
    ended = time.monotonic()
    return {
        "exit code": worker.wait(),
        "idle RSS, MB": idle_rss / 2**20,
        "peak RSS, MB": peak / 2**20,
        "CPU, s": cpu_s,
        "wall, s": ended - began,
        "drained after SIGTERM, s": ended - told_at if told_at else -1.0,
        "all admitted after, s": in_flight_at - began if in_flight_at else -1.0,
    }


def _work() -> int:
    import django

    django.setup()
    from apps.tokens.services import worker

    worker.drain("default")
    return 0


def _results() -> dict[str, float]:
    from apps.tokens.models import LoginAttempt

    ended = LoginAttempt.objects.values_list("site__slug", "outcome", "error_code")
    found = list(ended)
    times = LoginAttempt.objects.values_list("started_at", "finished_at")
    moments = sorted([(at, n) for span in times for at, n in zip(span, (1, -1), strict=True) if at])
    most = now = 0
    for _, change in moments:
        now += change
        most = max(most, now)
    return {
        "most at once": most,
        "succeeded": found.count(("slow", "succeeded", "")),
        "timed out by their own deadline": found.count(("hangs", "failed", "login_timeout")),
        "anything else": sum(
            one not in {("slow", "succeeded", ""), ("hangs", "failed", "login_timeout")}
            for one in found
        ),
    }


def _print(figures: dict[str, float], options: argparse.Namespace) -> None:
    print(f"{options.logins} logins of {options.latency_s:g} s")
    for name, value in figures.items():
        print(f"{name:<34}{value:>10.1f}")


def _met(figures: dict[str, float], options: argparse.Namespace) -> bool:
    return (
        figures["peak RSS, MB"] < RSS_GOAL_MB
        and figures["exit code"] == 0
        and figures["succeeded"] == options.logins
        and figures["timed out by their own deadline"] == 1
        and figures["anything else"] == 0
        and figures["drained after SIGTERM, s"] >= 0
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
