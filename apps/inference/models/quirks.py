"""Quirks: the forms of requests that a model server was found to refuse."""

from django.db import models

from apps.clients.quirks import sentence
from apps.inference.models.endpoints import ModelEndpoint


class LearnedQuirk(models.Model):
    """Something that a server refuses for one of its models; requests are made without it."""

    id = models.BigAutoField(primary_key=True)
    endpoint = models.ForeignKey(ModelEndpoint, models.CASCADE, related_name="quirks")
    model = models.CharField(max_length=300, help_text="The server's own name of it.")
    quirk = models.CharField(max_length=120)
    words = models.TextField(blank=True, default="", help_text="The server's, as it refused.")
    learned_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("endpoint", "model", "id")
        constraints = [
            models.UniqueConstraint(
                fields=("endpoint", "model", "quirk"), name="one_quirk_per_model"
            )
        ]

    def __str__(self) -> str:
        return f"{self.model}: {self.quirk}"

    @property
    def sentence(self) -> str:
        return sentence(self.quirk)
