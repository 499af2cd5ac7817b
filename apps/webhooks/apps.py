"""Names the webhooks app, and has it hear of runs that end."""

from importlib import import_module

from django.apps import AppConfig


class WebhooksConfig(AppConfig):
    name = "apps.webhooks"
    verbose_name = "Webhooks"

    def ready(self) -> None:
        import_module("apps.webhooks.tasks")  # its receivers; models exist from here on
