"""Make the faces an installed app, for their template tags and commands."""

from django.apps import AppConfig


class EvalplatformConfig(AppConfig):
    name = "evalplatform"
