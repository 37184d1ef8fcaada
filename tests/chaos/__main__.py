"""Break the service on purpose and judge what it does: see docs/chaos.md.

./run chaos [--seed N] [--database sqlite|postgres] [--minutes M] [--hosts N] [--short]
"""

import argparse
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from config.embedded import embedded_postgres, embedded_valkey
from tests.chaos import namespaces, plan


def main(arguments: list[str]) -> int:
    """Return 0 if everything held, 1 if not, 2 for a wrong call."""
    options = _options(arguments)
    if options.hosts > 1 and (why := namespaces.why_not()):
        print(f"Skipped: two hosts need network namespaces, and here {why}.")
        return 0
    with _servers(options.database) as (folder, valkey):
        make = plan.short if options.short else plan.long
        more = {} if options.short else {"minutes": options.minutes}
        made = make(options.seed, valkey=valkey, hosts=options.hosts, **more)
        print(f"seed {options.seed}, {options.database}, {options.hosts} host(s)", flush=True)
        return _run(made, folder)


def _run(made: plan.Plan, folder: Path) -> int:
    import django

    django.setup()
    from apps.tokens.faultlab.client import LabClient
    from apps.tokens.faultlab.process import LabProcess
    from tests.chaos.running import execute, report

    with LabProcess() as process, LabClient(process.url) as lab:
        verdict = execute(made, lab=lab, folder=folder, say=lambda line: print(line, flush=True))
    print(report(verdict), flush=True)
    return int(bool(verdict.violations))


@contextmanager
def _servers(database: str) -> Iterator[tuple[Path, bool]]:
    """Start what the run needs and put it into the environment before Django reads it."""
    keep = os.environ.get("CHAOS_KEEP_LOGS") == "1"
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="latchkey-chaos-"))
        if keep:
            print(f"logs in {folder}")
        else:
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
        urls = {"DATABASE_URL": f"sqlite:///{folder / 'chaos.sqlite3'}", "REDIS_URL": ""}
        if database == "postgres":
            urls["DATABASE_URL"] = stack.enter_context(embedded_postgres())
            urls["REDIS_URL"] = stack.enter_context(embedded_valkey())
        for name in [*os.environ]:
            if name.startswith(("LATCHKEY_", "Q_CLUSTER")):
                del os.environ[name]
        os.environ.update(
            urls,
            DJANGO_SETTINGS_MODULE="config.settings.test",
            LATCHKEY_DATA_DIR=str(folder),
            LATCHKEY_CONNECTORS="noted=tests.chaos.connector.Noted",
            LATCHKEY_LOG_LEVEL="ERROR",
        )
        yield folder, database == "postgres"


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="run chaos", description="Break things, then judge.")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    parser.add_argument("--database", choices=["sqlite", "postgres"])
    parser.add_argument("--minutes", type=float, default=8.0, help="at most, settling apart")
    parser.add_argument("--hosts", type=int, choices=[1, 2], default=1)
    parser.add_argument("--short", action="store_true", help="half a minute, as the tests run it")
    options = parser.parse_args(arguments)
    options.database = options.database or ("postgres" if options.hosts > 1 else "sqlite")
    if options.hosts > 1 and options.database == "sqlite":
        parser.error("two hosts need --database postgres")
    return options


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
