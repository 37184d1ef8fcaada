"""`manage.py score_forecast`: how often the forecasts of empty pools would have been right."""

from argparse import ArgumentParser
from datetime import timedelta
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError

from apps.common.arguments import between
from apps.common.clock import database_now
from apps.performance.services import forecast, forecast_replay
from apps.tokens.models import Site

# A year holds half a million minutes, and each is looked at.
DAYS: Final = between(0.01, 366.0, "a number of days")
MINUTES: Final = between(0.1, 1_440.0, "a number of minutes")


class Command(BaseCommand):
    """Reads recorded logins; changes nothing."""

    help = "Replay the recorded logins of sites minute by minute, and score the forecasts on them."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("site", nargs="*", help="slugs; all sites without any")
        parser.add_argument("--days", type=DAYS, default=7.0, help="how far back (default: 7)")
        parser.add_argument(
            "--within",
            type=MINUTES,
            default=forecast.WITHIN_MIN,
            help="minutes ahead that count as an alarm (default: %(default)g)",
        )

    def handle(self, *args: Any, site: list[str], days: float, within: float, **_: Any) -> None:
        until = database_now()
        rows = Site.objects.filter(slug__in=site) if site else Site.objects.all()
        if missing := sorted(set(site) - set(rows.values_list("slug", flat=True))):
            raise CommandError(f"There is no site {', '.join(missing)}.")
        for row in rows:
            history = forecast_replay.recorded(row, since=until - timedelta(days=days), until=until)
            found = forecast_replay.score([history], within_min=within)
            self.stdout.write(f"{row.slug}: {len(history.logins)} logins, {found}")
