"""Model servers, the models they serve, and how many calls each worker may have in flight there."""

from django.db import models

from apps.accounts.models import OwnedModel, OwnedQuerySet
from apps.secrets import EncryptedTextField


class ModelEndpoint(OwnedModel):
    """An OpenAI-compatible base URL of an account, with its key, its settings and its limits.

    headers, secret_headers: JSON objects, "" for none.
    """

    base_url = models.URLField(max_length=2000, help_text="Up to and including /v1.")
    api_key = EncryptedTextField(blank=True, default="", help_text="Kept encrypted, never shown.")
    concurrency = models.PositiveIntegerField(
        default=64, help_text="Calls in flight at most, over all workers and runs."
    )
    requests_per_minute = models.PositiveIntegerField(
        null=True,
        blank=True,
        help_text="Calls begun in any minute at most. Empty: as many as the server takes.",
    )
    tokens_per_minute = models.PositiveIntegerField(
        null=True,
        blank=True,
        help_text="Tokens used in any minute at most, as far as past calls tell what the next "
        "takes. Empty: as many as the server gives.",
    )
    allow_private = models.BooleanField(
        default=False,
        help_text="May this URL, or its proxy's, lead to a private or loopback address?",
    )
    key_header = models.CharField(
        max_length=100,
        blank=True,
        default="",
        help_text="The header that holds the bare key, api-key for one. Empty: Authorization, "
        "as a bearer's.",
    )
    headers = models.TextField(blank=True, default="")
    secret_headers = EncryptedTextField(blank=True, default="")
    query = models.CharField(
        max_length=1000,
        blank=True,
        default="",
        help_text="Added to every URL, as api-version=2024-10-21. It is shown, so no secrets.",
    )
    proxy = EncryptedTextField(blank=True, default="")
    call_seconds = models.FloatField(
        null=True,
        blank=True,
        help_text="A call that takes longer is cut. Empty: ENGINE_CALL_SECONDS in runs, ten "
        "minutes where somebody waits for the answer.",
    )
    strips_think = models.BooleanField(
        "strip think blocks",
        default=False,
        help_text="Take a think block at the beginning of an answer out of its text, and keep "
        "it as reasoning_content.",
    )
    disabled_at = models.DateTimeField(null=True, blank=True)

    objects = OwnedQuerySet.as_manager()

    class Meta:
        ordering = ("base_url", "id")
        constraints = [
            models.UniqueConstraint(fields=("account", "base_url"), name="one_endpoint_per_url"),
            models.CheckConstraint(
                condition=models.Q(concurrency__gte=1), name="concurrency_at_least_one"
            ),
        ]

    def __str__(self) -> str:
        return self.base_url


class ServedModel(OwnedModel):
    """A model name by which an account reaches an endpoint."""

    class Kind(models.TextChoices):
        CHAT = "chat", "Chat"
        EMBEDDING = "embedding", "Embedding"

    endpoint = models.ForeignKey(ModelEndpoint, models.CASCADE, related_name="models")
    name = models.CharField(max_length=300, help_text="What callers write.")
    upstream_name = models.CharField(
        max_length=300, blank=True, help_text="What the server calls it, where that differs."
    )
    kind = models.CharField(max_length=10, choices=Kind, default=Kind.CHAT)
    declared_from = models.CharField(
        max_length=300,
        blank=True,
        default="",
        editable=False,
        help_text="The id that a declaration gave for it; empty for what was only registered.",
    )
    system_prompt = models.TextField(
        blank=True, default="", help_text="Goes in front of every request to this model."
    )
    prompt_is_template = models.BooleanField(
        default=False,
        help_text="Is the system prompt a Jinja template? As a judge it sees input, actual, ideal.",
    )
    params = models.TextField(
        default="{}", help_text="JSON object: request fields, where a request does not set them."
    )
    prompt_price = models.DecimalField(
        max_digits=12, decimal_places=6, null=True, blank=True, help_text="Per million tokens."
    )
    completion_price = models.DecimalField(
        max_digits=12, decimal_places=6, null=True, blank=True, help_text="Per million tokens."
    )

    objects = OwnedQuerySet.as_manager()

    class Meta:
        ordering = ("account", "name")
        constraints = [
            models.UniqueConstraint(fields=("account", "name"), name="one_endpoint_per_model_name")
        ]

    def __str__(self) -> str:
        return self.name


class EndpointSlot(models.Model):
    """A worker's share of an endpoint's concurrency, under a lease."""

    id = models.BigAutoField(primary_key=True)
    endpoint = models.ForeignKey(ModelEndpoint, models.CASCADE, related_name="slots")
    worker = models.UUIDField()
    wanted = models.PositiveIntegerField()
    granted = models.PositiveIntegerField()
    lease_until = models.DateTimeField()

    class Meta:
        ordering = ("endpoint", "worker")
        constraints = [
            models.UniqueConstraint(fields=("endpoint", "worker"), name="one_share_per_worker")
        ]

    def __str__(self) -> str:
        return f"{self.granted} of {self.endpoint_id}"
