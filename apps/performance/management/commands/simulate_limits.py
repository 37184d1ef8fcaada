"""`manage.py simulate_limits`: recorded history under other limits, as a table or as JSON."""

import json
from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from apps.common.errors import BrokerError
from apps.performance.serializers.tuning import SimulateInput, SimulationOutput
from apps.performance.services import simulation
from apps.performance.services.simulation import Figures

HEADS = (
    "requests", "served", "failed", "expired", "cancelled", "logins", "mean wait", "p50", "p95",
    "longest",
)  # fmt: skip


class Command(BaseCommand):
    """Reads recorded requests and logins; changes nothing."""

    help = "Replay the recorded requests under other limits: what waits and failures would be."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--max-concurrent", type=int, help="the limit over all sites")
        parser.add_argument("--per-site", type=int, help="the limit of sites without their own")
        parser.add_argument("--reserved", type=int, help="permits kept for interactive requests")
        parser.add_argument(
            "--site", action="append", default=[], metavar="SLUG=N", help="the limit of one site"
        )
        parser.add_argument("--hours", type=float, default=24.0, help="how far back (default: 24)")
        parser.add_argument("--json", action="store_true", help="as POST performance/simulate says")

    def handle(self, *args: Any, **options: Any) -> None:
        asked = {
            "max_concurrent": options["max_concurrent"],
            "max_concurrent_per_site": options["per_site"],
            "reserved_for_interactive": options["reserved"],
            "sites": dict(self._site(text) for text in options["site"]),
            "window_s": options["hours"] * 3_600,
        }
        body = SimulateInput(
            data={name: value for name, value in asked.items() if value is not None}
        )
        if not body.is_valid():
            raise CommandError(
                "; ".join(f"{name}: {words[0]}" for name, words in body.errors.items())
            )
        try:
            found = simulation.simulate(body.limits(), body.validated_data["window_s"])
        except BrokerError as error:
            raise CommandError(f"{error.message} {error.details or ''}".strip()) from None
        if options["json"]:
            self.stdout.write(json.dumps(SimulationOutput(asdict(found)).data))
        else:
            self._table(found)

    def _site(self, text: str) -> tuple[str, str]:
        slug, equals, limit = text.partition("=")
        if not (slug and equals and limit.isdecimal()):
            raise CommandError(f"--site takes SLUG=N, not {text}.")
        return slug, limit

    def _table(self, found: simulation.Simulation) -> None:
        self.stdout.write(f"{'':<24}" + "".join(f"{head:>10}" for head in HEADS))
        rows = {
            "recorded": found.recorded,
            "present limits": found.present,
            "proposed limits": found.proposed,
            **{f"  {slug}": figures for slug, figures in found.by_site.items()},
        }
        for name, figures in rows.items():
            self.stdout.write(f"{name:<24}" + "".join(f"{cell:>10}" for cell in _cells(figures)))
        busiest = ", ".join(f"{slug} {n}" for slug, n in found.busiest.items()) or "none"
        self.stdout.write(
            f"Most logins at once: {busiest}. Expected refusals: {found.expected_rejections:g}. "
            f"Logins above every level ever seen: {found.beyond_evidence}."
        )


def _cells(figures: Figures) -> list[str]:
    counts = (
        figures.requests, figures.served, figures.failed, figures.expired, figures.cancelled,
        figures.logins,
    )  # fmt: skip
    waits = (figures.mean_wait_s, figures.p50_wait_s, figures.p95_wait_s, figures.max_wait_s)
    return [
        *(str(n) for n in counts),
        *("-" if wait is None else f"{wait:.1f} s" for wait in waits),
    ]
