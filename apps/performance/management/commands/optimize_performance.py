"""`manage.py optimize_performance`: all upkeep in one command, for people and for cron.

Exit codes: 0 done and healthy, 1 a step failed, something is unhealthy, or another run is under
way, 2 misuse, 130 interrupted (Ctrl-C).
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.common.arguments import between, folder
from apps.common.errors import BrokerError
from apps.common.optimization import Step, StepOptions, StepReport
from apps.history.contracts import MOST_DAYS
from apps.performance.progress_display import display
from apps.performance.services import upkeep

FAILED: Final = 1
MISUSE: Final = 2
INTERRUPTED: Final = 130
DAYS: Final = between(1, MOST_DAYS, "a whole number of days")
SECONDS: Final = between(0.0, 86_400.0, "a number of seconds")
FLAGS: Final = (
    "health_check", "cleanup_days", "warm_cache", "optimize_concurrency", "reset_metrics",
)  # fmt: skip


class Command(BaseCommand):
    help = (
        "Check health, clean up, warm up, tune and reset, in any combination. Exit code 0: done "
        "and healthy, 1: a step failed or something is unhealthy, 2: misuse."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        add = parser.add_argument
        add("--health-check", action="store_true", help="say how everything is")
        add("--cleanup-days", type=DAYS, metavar="N", help="delete what is older than N days")
        add("--warm-cache", nargs="*", metavar="SITE", help="warm these sites up (none: all)")
        add("--account", nargs="+", default=[], metavar="NAME", help="with one site: only these")
        add("--wait", type=SECONDS, default=0.0, metavar="S", help="wait for the warm-up's logins")
        add("--optimize-concurrency", action="store_true", help="say what each limit should be")
        add("--apply", action="store_true", help="with it: set the recommended limits")
        add("--reset-metrics", action="store_true", help="show metrics from now on")
        add("--dry-run", action="store_true", help="say what would be done, and do nothing")
        add("--archive-to", type=folder, metavar="DIR", help="write history there before deleting")
        add("--only", nargs="+", default=[], metavar="STEP", help="run these steps; see --list")
        add("--list", action="store_true", help="list the steps and what asks for them")
        add("--json", action="store_true", help="one JSON document instead of lines")

    def handle(self, *_: Any, **options: Any) -> None:
        if options["list"]:
            return self._list(as_json=options["json"])
        flags = [flag for flag in FLAGS if options[flag] not in (None, False)]
        chosen = self._choose(flags, options)
        reports = self._run(chosen, _step_options(options), as_json=options["json"])
        failed = [report.name for report in reports if not report.ok]
        if options["json"]:
            self._write(_document(reports))
        if failed:
            raise CommandError(f"Not well: {', '.join(failed)}.", returncode=FAILED)
        return None

    def _choose(self, flags: list[str], options: dict[str, Any]) -> Sequence[Step]:
        """Return the steps to run, or end with exit code 2 where the options make no sense."""
        if not flags and not options["only"]:
            names = " ".join(f"--{flag.replace('_', '-')}" for flag in FLAGS)
            raise CommandError(f"Say what to do: {names}, or --only.", returncode=MISUSE)
        try:
            chosen = upkeep.choose(flags=flags, only=options["only"])
        except BrokerError as error:
            raise CommandError(f"{error.message} See --list.", returncode=MISUSE) from error
        asked = {step.flag for step in chosen}
        needed = {
            "apply": "optimize_concurrency",
            "archive_to": "cleanup_days",
            "account": "warm_cache",
            "wait": "warm_cache",
        }
        for option, flag in needed.items():
            if options[option] and flag not in asked:
                text = f"--{option.replace('_', '-')} goes with --{flag.replace('_', '-')}."
                raise CommandError(text, returncode=MISUSE)
        if options["account"] and len(options["warm_cache"] or ()) != 1:
            raise CommandError("--account goes with one site of --warm-cache.", returncode=MISUSE)
        if not chosen:
            raise CommandError("None of these steps belongs to these options.", returncode=MISUSE)
        return chosen

    def _run(
        self, chosen: Sequence[Step], options: StepOptions, *, as_json: bool
    ) -> list[StepReport]:
        with display(self.stdout, self.stderr, quiet=as_json) as shown:
            try:
                return upkeep.run(
                    chosen,
                    replace(options, on_progress=shown.progress),
                    on_step=shown.begin,
                    on_report=shown.end,
                )
            except upkeep.AlreadyRunning as error:
                if as_json:
                    self._write(_document([]) | {"ok": False, "error": error.message})
                raise CommandError(error.message, returncode=FAILED) from error
            except KeyboardInterrupt:
                text = "Interrupted. What was done is done; run it again for the rest."
                raise CommandError(text, returncode=INTERRUPTED) from None

    def _list(self, *, as_json: bool) -> None:
        found = upkeep.discover()
        if as_json:
            rows = [
                {"name": s.name, "flag": s.flag, "order": s.order, "does": does(s)} for s in found
            ]
            return self._write(rows)
        for step in found:
            self.stdout.write(f"{step.name:<26} --{step.flag.replace('_', '-'):<22} {does(step)}")
        return None

    def _write(self, document: Any) -> None:
        self.stdout.write(json.dumps(document, indent=2, default=str))


def does(step: Step) -> str:
    """Return the first sentence of what a step says of itself."""
    return " ".join((step.run.__doc__ or "").split()).split(". ")[0].rstrip(".")


def _step_options(options: dict[str, Any]) -> StepOptions:
    return StepOptions(
        cleanup_days=options["cleanup_days"],
        warm_cache=tuple(options["warm_cache"] or ()),
        apply=options["apply"],
        dry_run=options["dry_run"],
        archive_to=options["archive_to"],
        extra={"warm_wait_s": options["wait"], "warm_accounts": options["account"]},
    )


def _document(reports: Sequence[StepReport]) -> dict[str, Any]:
    return {
        "ok": all(report.ok for report in reports),
        "steps": [asdict(report) for report in reports],
    }
