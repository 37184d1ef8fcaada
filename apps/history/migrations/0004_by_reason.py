"""An index for the filter by trigger reason; on PostgreSQL every partition gets its part of it."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("history", "0003_statuses_apart")]
    operations = [
        migrations.AddIndex(
            model_name="tokenacquisitionhistory",
            index=models.Index(
                fields=["trigger_reason", "finished_at", "id"], name="history_reason"
            ),
        ),
    ]
