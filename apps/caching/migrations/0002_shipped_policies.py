"""Write the policies that ship. Later changes to them are the operator's."""

from django.db import migrations

HOUR_S = 3_600
DAY_S = 86_400
# namespace: life, life in a process, life of nothing, jitter, early refresh, secret
SHIPPED = {
    "tokens": (HOUR_S, 5, 1, 0, 0, True),
    "credentials": (HOUR_S, 5, 5, 0.1, 0, True),
    "account_statistics": (300, 30, 30, 0.1, 0, False),
    "blacklist": (300, 5, 30, 0.1, 0, False),
    "site_configuration": (DAY_S, HOUR_S, 30, 0.1, 0.1, False),
    "progress": (DAY_S, 1, 0, 0, 0, False),
    "reference_week": (7 * DAY_S, HOUR_S, 30, 0.1, 0.05, False),
    "reference_month": (30 * DAY_S, HOUR_S, 30, 0.1, 0.05, False),
}


def write(apps, schema_editor):
    policies = apps.get_model("caching", "CachePolicy").objects.using(schema_editor.connection.alias)
    for namespace, (ttl_s, l1_ttl_s, negative_ttl_s, jitter, early, secret) in SHIPPED.items():
        policies.get_or_create(
            namespace=namespace,
            defaults={
                "ttl_s": ttl_s,
                "l1_ttl_s": l1_ttl_s,
                "negative_ttl_s": negative_ttl_s,
                "jitter": jitter,
                "early_refresh": early,
                "secret": secret,
                "stale_if_error_s": 900,
            },
        )


def remove(apps, schema_editor):
    policies = apps.get_model("caching", "CachePolicy").objects.using(schema_editor.connection.alias)
    policies.filter(namespace__in=SHIPPED).delete()


class Migration(migrations.Migration):
    dependencies = [("caching", "0001_initial")]
    operations = [migrations.RunPython(write, remove)]
