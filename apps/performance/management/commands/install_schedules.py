"""`manage.py install_schedules`: routine upkeep as rows of the queue's schedule."""

from typing import Any, Final

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser
from django_q.models import Schedule

from apps.tokens.models.requests import Queue
from apps.tokens.services import hints

FUNCTION: Final = "apps.performance.services.upkeep.run_scheduled"
# Name → cron expression (the server's time zone) and what is asked for.
SCHEDULES: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "upkeep: health": ("*/5 * * * *", {"flags": ["health_check"]}),
    "upkeep: clean up": ("17 3 * * *", {"flags": ["cleanup_days"], "cleanup_days": 30}),
    "upkeep: recommend limits": ("47 3 * * *", {"flags": ["optimize_concurrency"]}),
}


class Command(BaseCommand):
    help = (
        "Install the schedules of routine upkeep; run it again at any time. Times and options "
        "that somebody changed in the admin are kept."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--remove", action="store_true", help="remove them again")
        parser.add_argument("--reset", action="store_true", help="put changed ones back")

    def handle(self, *_: Any, **options: Any) -> None:
        if options["remove"]:
            removed, _by_model = Schedule.objects.filter(func=FUNCTION).delete()
            self.stdout.write(f"Removed {removed} schedules.")
            return
        for name, (cron, arguments) in SCHEDULES.items():
            how = self._install(name, cron, arguments, reset=options["reset"])
            self.stdout.write(f"{how:<9} {name}")

    def _install(self, name: str, cron: str, arguments: dict[str, Any], *, reset: bool) -> str:
        cluster = hints.cluster_of(Queue.MAINTENANCE)
        fields = {
            "func": FUNCTION,
            # A schedule without a cluster belongs to the default one.
            "cluster": None if cluster == settings.Q_CLUSTER["name"] else cluster,
            "schedule_type": Schedule.CRON,
            "cron": cron,
            "kwargs": repr(arguments),
            "repeats": -1,
        }
        there = Schedule.objects.filter(name=name)
        if there.exists():
            if not reset:
                return "kept"
            there.update(**fields)
            return "reset"
        schedule = Schedule(name=name, **fields)
        schedule.next_run = schedule.calculate_next_run()
        schedule.save()
        return "installed"
