"""Paces: the calls that a model server takes, as far as its refusals taught them."""

from django.db import models

from apps.inference.models.endpoints import ModelEndpoint


class EndpointPace(models.Model):
    """The limits that a server's refusals taught, and until when it asked to be left alone.

    An endpoint has one from its first refusal on, or from the first call under a limit that was
    set by hand. All times are the database's.
    """

    endpoint = models.OneToOneField(
        ModelEndpoint, models.CASCADE, primary_key=True, related_name="pace"
    )

    # The pause, and the refusals since the server last took a call.
    paused_until = models.DateTimeField(null=True)
    asked_until = models.DateTimeField(
        null=True, help_text="As long as the server asked for, which may be longer."
    )
    status = models.PositiveSmallIntegerField(null=True, help_text="Of the last refusal.")
    words = models.TextField(blank=True, default="", help_text="The server's, at that refusal.")
    refused_at = models.DateTimeField(null=True)
    failing_since = models.DateTimeField(null=True)
    refusals = models.PositiveIntegerField(default=0, help_text="In a row, of single calls.")
    given_up_at = models.DateTimeField(null=True, help_text="Since then what waits is errored.")

    # After a pause one call goes first; all others wait until it is taken.
    is_probing = models.BooleanField(default=False)
    probe_until = models.DateTimeField(null=True, help_text="So long it may take.")

    # Since when calls are let through, and how many the server has taken since then.
    opened_at = models.DateTimeField(null=True)
    taken_count = models.PositiveIntegerField(default=0)

    # What was learned.
    concurrency = models.PositiveIntegerField(null=True, help_text="Calls in flight at most.")
    concurrency_at = models.DateTimeField(null=True)
    calls = models.PositiveIntegerField(null=True, help_text="Calls begun in window_seconds.")
    window_seconds = models.FloatField(null=True)
    window_count = models.PositiveIntegerField(
        null=True, help_text="Calls taken in the window before the refusal."
    )
    learned_at = models.DateTimeField(null=True)

    # The calls of the last minute or window, where their number is limited.
    spent = models.TextField(default="[]", help_text="JSON: [time, calls, tokens] a moment.")
    tokens_a_call = models.FloatField(default=0.0, help_text="The mean of late, 0: not known.")

    class Meta:
        ordering = ("endpoint",)

    def __str__(self) -> str:
        return f"the pace of {self.endpoint_id}"
