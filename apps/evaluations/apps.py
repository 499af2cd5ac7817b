"""Names the evaluations app, and tells the sandbox where this machine's workers meet."""

from django.apps import AppConfig
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from apps import sandbox


class EvaluationsConfig(AppConfig):
    name = "apps.evaluations"
    verbose_name = "Evaluations"

    def ready(self) -> None:
        try:
            limits = sandbox.Limits(
                seconds=settings.GRADER_SECONDS,
                memory_bytes=settings.GRADER_MEMORY_BYTES,
                disk_bytes=settings.GRADER_DISK_BYTES,
            )
            sandbox.configure(settings.DATA_DIR / "graders", limits, settings.SANDBOX)
        except ValueError as error:
            raise ImproperlyConfigured(f"SANDBOX and GRADER_…: {error}") from error
