"""Webhooks, the URLs that are told when a run ends, and their deliveries."""

from datetime import datetime
from typing import Any, Self
from uuid import uuid4

from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from apps.accounts.models import OwnedModel, OwnedQuerySet
from apps.evaluations.models.runs import Run
from apps.secrets import EncryptedTextField

EVENTS = tuple(str(state) for state in Run.FINAL)


class WebhookEndpoint(OwnedModel):
    """A URL of an account that wants to know how its runs end."""

    url = models.CharField(max_length=2000)
    secret = EncryptedTextField(editable=False, help_text="What deliveries are signed with.")
    events = models.CharField(
        max_length=60, help_text="The final states that are told, with spaces between them."
    )
    allow_private = models.BooleanField(
        default=False, help_text="May this URL lead to a private or loopback address?"
    )
    disabled_at = models.DateTimeField(null=True, blank=True)

    objects = OwnedQuerySet.as_manager()

    class Meta:
        verbose_name = "webhook"
        ordering = ("url", "id")
        constraints = [
            models.UniqueConstraint(fields=("account", "url"), name="one_webhook_per_url"),
        ]

    def __str__(self) -> str:
        return self.url


class WebhookDeliveryQuerySet(OwnedQuerySet):
    def due(self, now: datetime) -> Self:
        """Keep what is to be sent and is not being sent."""
        return self.filter(
            Q(lease_until=None) | Q(lease_until__lt=now),
            state=WebhookDelivery.State.PENDING,
            next_attempt_at__lte=now,
        )

    def claim(self, limit: int, now: datetime, until: datetime) -> list["WebhookDelivery"]:
        """Take some of what is due under a lease: less, or nothing, when another was quicker.

        What was never tried comes first: a receiver that is down must not keep the others waiting.
        """
        first = self.due(now).order_by("attempts", "next_attempt_at", "id")
        pks = list(first.values_list("pk", flat=True)[:limit])
        if not pks:
            return []
        token = uuid4()
        self.due(now).filter(pk__in=pks).update(
            lease_token=token, lease_until=until, attempts=F("attempts") + 1
        )
        # Each secret is read by itself: one that cannot be must not keep the others waiting.
        taken: Any = self.filter(pk__in=pks, lease_token=token).select_related("endpoint")
        return list(taken.defer("endpoint__secret"))


class WebhookDelivery(OwnedModel):
    """The delivery of an event to a webhook: sent at least once, always with the same event id."""

    class State(models.TextChoices):
        PENDING = "pending", "Pending"
        DELIVERED = "delivered", "Delivered"
        FAILED = "failed", "Failed"

    endpoint = models.ForeignKey(WebhookEndpoint, models.CASCADE, related_name="deliveries")
    event_id = models.CharField(max_length=40)
    event = models.CharField(
        max_length=10, choices=[(str(state), state.label) for state in Run.FINAL]
    )
    # No foreign key: that a run was canceled is told also when it was deleted at once.
    run_id = models.UUIDField()
    body = models.TextField(blank=True, help_text="As it was sent; empty until it is.")
    state = models.CharField(max_length=9, choices=State, default=State.PENDING)
    attempts = models.PositiveIntegerField(default=0)
    next_attempt_at = models.DateTimeField(default=timezone.now)
    lease_token = models.UUIDField(null=True, editable=False)
    lease_until = models.DateTimeField(null=True, editable=False)
    last_status = models.PositiveIntegerField(null=True, help_text="The HTTP status answered last.")
    last_error = models.TextField(blank=True)
    delivered_at = models.DateTimeField(null=True)

    objects = WebhookDeliveryQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "webhook deliveries"
        ordering = ("-created_at", "-id")
        constraints = [
            models.UniqueConstraint(
                fields=("endpoint", "run_id", "event"), name="one_delivery_per_event"
            ),
        ]
        indexes = [
            models.Index(
                "attempts",
                "next_attempt_at",
                "id",
                condition=Q(state="pending"),
                name="delivery_pending",
            ),
        ]

    def __str__(self) -> str:
        return self.event_id

    def settle(self, **fields: Any) -> bool:
        """Write what came of an attempt and give the lease back; False when another has it now."""
        held = WebhookDelivery.objects.filter(pk=self.pk, lease_token=self.lease_token)
        return bool(held.update(lease_token=None, lease_until=None, **fields))
