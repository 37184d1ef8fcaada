"""Keep sums by status apart from those by account: a third of the rows for a year's statistics.

Cells are a copy of the facts. Those of the old shape go, and with them, in the same transaction,
every roll-up that vouches for them; the next roll-ups make them again.
"""

from django.db import migrations, models

STATUSES = [
    ("success", "Success"),
    ("failed", "Failed"),
    ("timeout", "Timeout"),
    ("network_error", "Network error"),
    ("captcha_error", "Captcha error"),
    ("credential_error", "Credential error"),
]


def forget(apps, schema_editor):
    apps.get_model("history", "Rollup").objects.all().delete()


def fields(*more):
    whole = ("success", "n", "attempts", "retries", "total_sum", "login_n", "login_sum")
    return [
        ("id", models.BigAutoField(
            auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
        )),
        ("period", models.IntegerField()),
        ("site", models.CharField(blank=True, max_length=64)),
        *((name, models.BigIntegerField()) for name in whole),
        ("total_min", models.IntegerField()),
        ("total_max", models.IntegerField()),
        ("login_min", models.IntegerField(null=True)),
        ("login_max", models.IntegerField(null=True)),
        *more,
    ]  # fmt: skip


def cells(name, constraint):
    return [
        migrations.DeleteModel(name),
        migrations.CreateModel(
            name=name,
            fields=fields(("account", models.CharField(blank=True, max_length=128))),
            options={
                "constraints": [
                    models.UniqueConstraint(
                        fields=("period", "site", "account"), name=constraint
                    )
                ]
            },
        ),
    ]


class Migration(migrations.Migration):
    dependencies = [("history", "0002_partitions")]
    operations = [
        migrations.RunPython(forget, forget),
        *cells("DayCell", "history_day_once"),
        *cells("MonthCell", "history_month_once"),
        migrations.CreateModel(
            name="StatusCell",
            fields=fields(
                ("level", models.CharField(choices=[("d", "Day"), ("m", "Month")], max_length=1)),
                ("status", models.CharField(choices=STATUSES, max_length=20)),
            ),
            options={
                "constraints": [
                    models.UniqueConstraint(
                        fields=("level", "site", "period", "status"), name="history_status_once"
                    )
                ],
                "indexes": [models.Index(fields=["level", "period"], name="history_status_period")],
            },
        ),
    ]
