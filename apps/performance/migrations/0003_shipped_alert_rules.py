"""Write the rules that ship, and a channel that logs. Later changes to them are the operator's.

Those of row C4, and one for the forecast. What happens at a site is looked at site by site: a
portal that fails would hide behind a busier one that works. Waiting and the machine are one for
all. Five acquisitions in a quarter of an hour are little, and are what a small pool makes.
"""

from django.db import migrations

_RATED = {"site": "*", "window_s": 900, "minimum": 5}
_SPEED = {"window_s": 300, "minimum": 20, "for_s": 120}
_HOST = {"window_s": 300, "minimum": 6, "for_s": 120}
LOW, MEDIUM, HIGH = 1, 2, 3

SHIPPED = (
    {
        "name": "Success rate", "metric": "success_rate", "direction": "below",
        "threshold": 80.0, "severity": HIGH, **_RATED,
    },
    {
        "name": "Timeouts", "metric": "timeout_rate", "direction": "above",
        "threshold": 10.0, "severity": HIGH, **_RATED,
    },
    {
        "name": "Mean time", "metric": "mean_total_s", "direction": "above",
        "threshold": 120.0, "severity": MEDIUM, **_RATED,
    },
    {
        "name": "In flight and waiting", "metric": "in_flight_and_waiting", "direction": "above",
        "threshold": 5.0, "severity": MEDIUM, "for_s": 120,
    },
    {
        "name": "Memory", "metric": "memory_percent", "direction": "above",
        "threshold": 80.0, "severity": MEDIUM, **_HOST,
    },
    {
        "name": "Cache hit rate", "metric": "cache_hit_rate", "direction": "below",
        "threshold": 70.0, "severity": LOW, "window_s": 900, "minimum": 100, "for_s": 300,
    },
    {
        "name": "Processor", "metric": "cpu_percent", "direction": "above",
        "threshold": 70.0, "severity": LOW, **_HOST,
    },
    {
        "name": "Storing a token", "metric": "store_p95_ms", "direction": "above",
        "threshold": 100.0, "severity": LOW, **_SPEED,
    },
    {
        "name": "Retrieving a token", "metric": "retrieve_p95_ms", "direction": "above",
        "threshold": 50.0, "severity": LOW, **_SPEED,
    },
    {
        "name": "Answering the API", "metric": "api_p95_ms", "direction": "above",
        "threshold": 200.0, "severity": LOW, **_SPEED,
    },
    {
        "name": "Pool exhausted soon", "metric": "pool_lasts_min", "direction": "below",
        "threshold": 15.0, "severity": MEDIUM, "site": "*", "for_s": 60,
    },
)
LOG_CHANNEL = {"name": "Log", "kind": "log"}


def write(apps, schema_editor):
    alias = schema_editor.connection.alias
    rules = apps.get_model("performance", "AlertRule").objects.using(alias)
    for rule in SHIPPED:
        rules.get_or_create(name=rule["name"], defaults=dict(rule))
    channels = apps.get_model("performance", "NotificationChannel").objects.using(alias)
    channels.get_or_create(name=LOG_CHANNEL["name"], defaults=dict(LOG_CHANNEL))


def remove(apps, schema_editor):
    alias = schema_editor.connection.alias
    rules = apps.get_model("performance", "AlertRule").objects.using(alias)
    rules.filter(name__in=[rule["name"] for rule in SHIPPED]).delete()
    channels = apps.get_model("performance", "NotificationChannel").objects.using(alias)
    channels.filter(name=LOG_CHANNEL["name"], kind=LOG_CHANNEL["kind"]).delete()


class Migration(migrations.Migration):
    dependencies = [("performance", "0002_alerts")]
    operations = [migrations.RunPython(write, remove)]
