from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("evaluations", "0005_run_answers_of"),
    ]

    operations = [
        migrations.AddIndex(
            model_name="result",
            index=models.Index(
                "run",
                "imported_id",
                condition=models.Q(("imported_id__isnull", False)),
                name="result_by_imported_id",
            ),
        ),
    ]
