"""Names the evaluations app, and tells the sandbox where this machine's workers meet."""

from django.apps import AppConfig
from django.conf import settings

from apps.evaluations import sandbox


class EvaluationsConfig(AppConfig):
    name = "apps.evaluations"
    verbose_name = "Evaluations"

    def ready(self) -> None:
        sandbox.configure(settings.DATA_DIR / "graders")
