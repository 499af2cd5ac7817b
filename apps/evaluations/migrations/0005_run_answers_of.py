import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("evaluations", "0004_runs_by_name"),
    ]

    operations = [
        migrations.AddField(
            model_name="run",
            name="answers_of",
            field=models.ForeignKey(
                blank=True,
                db_constraint=False,
                help_text="The run whose answers are graded; nobody is asked anew.",
                null=True,
                on_delete=django.db.models.deletion.DO_NOTHING,
                related_name="regrades",
                to="evaluations.run",
            ),
        ),
    ]
