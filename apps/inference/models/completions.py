"""Chat completions that were asked for through this server and stored for later evaluations."""

from collections.abc import Iterable
from typing import Any, Self

from django.db import models

from apps.accounts.models import OwnedModel, OwnedQuerySet, User
from apps.strict_json import parse_json


class StoredCompletionQuerySet(OwnedQuerySet):
    def present(self) -> Self:
        return self.filter(deleted_at=None)

    def with_metadata(self, pairs: Iterable[tuple[str, str]]) -> Self:
        """Keep those that have every one of the pairs."""
        found = self
        for key, value in pairs:
            # The account again, since the index of the pairs begins with it.
            found = found.filter(
                tags__account_id=models.F("account_id"), tags__key=key, tags__value=value
            )
        return found


class StoredCompletion(OwnedModel):
    """A prompt, how it was asked, and the answer. Only its metadata can be changed."""

    class Kind(models.TextChoices):
        CHAT = "chat", "Chat completion"
        RESPONSES = "responses", "Response"

    kind = models.CharField(max_length=10, choices=Kind)
    model = models.CharField(max_length=300, help_text="The name by which it was asked.")
    instructions = models.TextField(blank=True, help_text="What was said before the messages.")
    messages = models.TextField(help_text="JSON array: the messages asked with.")
    params = models.TextField(default="{}", help_text="JSON object: how it was asked.")
    completion = models.TextField(help_text="JSON: the chat completion that answered.")
    metadata = models.TextField(default="{}", help_text="JSON object of texts.")
    spec = models.TextField(
        default="{}", editable=False, help_text="JSON: what the dialect it came through must echo."
    )
    created_by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    deleted_at = models.DateTimeField(null=True, editable=False)

    objects = StoredCompletionQuerySet.as_manager()

    class Meta:
        ordering = ("-created_at", "-id")
        indexes = [
            models.Index("account", "kind", "created_at", "id", name="completion_by_creation"),
            models.Index(
                "account", "kind", "model", "created_at", "id", name="completion_by_model"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.model}, {self.created_at:%Y-%m-%d %H:%M:%S}"

    def read_messages(self) -> list[dict[str, Any]]:
        return parse_json(self.messages)

    def read_params(self) -> dict[str, Any]:
        return parse_json(self.params)

    def read_completion(self) -> dict[str, Any]:
        return parse_json(self.completion)


class CompletionTag(models.Model):
    """A pair of a stored completion's metadata, by which it is found."""

    id = models.BigAutoField(primary_key=True)
    account = models.ForeignKey("accounts.Account", models.CASCADE, related_name="+")
    completion = models.ForeignKey(StoredCompletion, models.CASCADE, related_name="tags")
    key = models.CharField(max_length=64)
    value = models.CharField(max_length=512)

    class Meta:
        ordering = ("completion", "key")
        constraints = [
            models.UniqueConstraint(fields=("completion", "key"), name="one_tag_per_key")
        ]
        indexes = [models.Index("account", "key", "value", "completion", name="tag_by_value")]

    def __str__(self) -> str:
        return f"{self.key}={self.value}"
