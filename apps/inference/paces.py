"""Keep the paces of endpoints in the tables, for all processes that call there."""

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import BooleanField, Case, F, Q, Sum, When

from apps.clients import Refusal
from apps.clients.base import DENIALS
from apps.inference.models import EndpointPace, EndpointSlot, ModelEndpoint
from apps.inference.pacing import (
    FREE,
    RISE_SECONDS,
    Limits,
    Pacing,
    Permission,
    Report,
    shown_seconds,
)
from apps.leases import database_now

NO_REPORT = Report()


def consult(endpoint_id: UUID, report: Report = NO_REPORT) -> Permission:
    """Tell what a process has seen of an endpoint; return how many calls it may begin."""
    limits = _limits(endpoint_id)
    if limits is None:
        return FREE
    with transaction.atomic():
        # Locked until the commit, since two processes must not take the same permits. No other row
        # is locked here.
        pace = EndpointPace.objects.select_for_update().filter(endpoint=endpoint_id).first()
        if pace is None:
            if not limits.are_set and report.refusal is None and not report.hold_seconds:
                return FREE
            EndpointPace.objects.get_or_create(endpoint_id=endpoint_id)
            pace = EndpointPace.objects.select_for_update().get(endpoint=endpoint_id)
        pacing = Pacing(pace, limits, database_now(), time.monotonic())
        if report != NO_REPORT:
            pacing.hear(report, _in_flight(endpoint_id) if report.refusal else 0)
        permission = pacing.allow(report.wanted)
        pace.save()
    return permission


def tell_refusals(endpoint_id: UUID, refusals: Sequence[Refusal]) -> None:
    """Tell of calls that were refused to callers who do not wait. Denials are theirs alone."""
    asked = [one for one in refusals if not one.is_denial]
    if asked:
        report = Report(refusal=asked[-1], refused=len(asked), since=asked[0].began)
        consult(endpoint_id, report)


@dataclass(frozen=True)
class Held:
    """Of some endpoints those where calls need permits, and those with fewer calls in flight."""

    restricted: frozenset[UUID] = frozenset()
    lowered: frozenset[UUID] = frozenset()


def look(endpoints: Collection[UUID]) -> Held:
    """Find those of the endpoints whose callers are held in any way; most are not."""
    if not endpoints:
        return Held()
    now = database_now()
    needs_permits = (
        Q(requests_per_minute__isnull=False)
        | Q(tokens_per_minute__isnull=False)
        | Q(pace__paused_until__gt=now)
        | Q(pace__is_probing=True)
        | Q(pace__given_up_at__isnull=False)
        | Q(pace__calls__isnull=False)
    )
    lowered = Q(pace__concurrency__isnull=False)
    found = (
        ModelEndpoint.objects.filter(needs_permits | lowered, pk__in=endpoints)
        .order_by()
        .values_list(
            "pk",
            Case(When(needs_permits, then=True), default=False, output_field=BooleanField()),
            Case(When(lowered, then=True), default=False, output_field=BooleanField()),
        )
    )
    rows = list(found)
    return Held(
        frozenset(pk for pk, is_restricted, _ in rows if is_restricted),
        frozenset(pk for pk, _, is_lowered in rows if is_lowered),
    )


def raise_concurrency(endpoints: Collection[UUID]) -> None:
    """Let one call more be in flight where refusals had made them fewer and none came of late."""
    now = database_now()
    lowered = EndpointPace.objects.filter(
        endpoint__in=endpoints,
        concurrency__isnull=False,
        concurrency_at__lte=now - timedelta(seconds=RISE_SECONDS),
        is_probing=False,
    )
    # Conditional by its moment: several workers find it at the same time, and one raises it.
    lowered.filter(concurrency__gte=F("endpoint__concurrency")).update(
        concurrency=None, concurrency_at=None
    )
    lowered.update(concurrency=F("concurrency") + 1 + F("concurrency") / 8, concurrency_at=now)


def forget(endpoint_id: UUID) -> None:
    """Forget all that an endpoint's refusals taught, and end its pause."""
    EndpointPace.objects.filter(endpoint=endpoint_id).delete()


def end_denials(endpoint_id: UUID) -> None:
    """End the pause of an endpoint that denied a key, since it has another one."""
    EndpointPace.objects.filter(endpoint=endpoint_id, status__in=DENIALS).delete()


@dataclass(frozen=True)
class Wait:
    """Why calls to an endpoint wait, and until when, as it is shown.

    until: None where calls are spread over time. asked_until: as long as the server asked for,
    where that is longer than anybody waits.
    """

    base_url: str
    until: datetime | None
    asked_until: datetime | None
    words: str
    limit: str


def waits(endpoints: Collection[UUID]) -> list[Wait]:
    """Return the endpoints whose callers wait now, or are held to what refusals taught."""
    now = database_now()
    paces = EndpointPace.objects.filter(
        Q(paused_until__gt=now) | Q(calls__isnull=False), endpoint__in=endpoints
    )
    return [wait_of(pace, now) for pace in paces.select_related("endpoint")]


def wait_of(pace: EndpointPace, now: datetime) -> Wait:
    is_paused = pace.paused_until is not None and pace.paused_until > now
    asked = pace.asked_until if is_paused else None
    if asked is not None and pace.paused_until is not None:
        asked = asked if asked - pace.paused_until > timedelta(seconds=1) else None
    limit = ""
    if pace.calls is not None and pace.window_seconds is not None:
        limit = f"{pace.calls:,} calls in {shown_seconds(pace.window_seconds)}"
    return Wait(
        pace.endpoint.base_url,
        pace.paused_until if is_paused else None,
        asked,
        pace.words,
        limit,
    )


def _limits(endpoint_id: UUID) -> Limits | None:
    names = ("concurrency", "requests_per_minute", "tokens_per_minute")
    found = ModelEndpoint.objects.filter(pk=endpoint_id).values_list(*names).first()
    if found is None:
        return None
    concurrency, requests, tokens = found
    return Limits(concurrency, requests, tokens, settings.ENGINE_REFUSED_SECONDS)


def _in_flight(endpoint_id: UUID) -> int:
    slots = EndpointSlot.objects.filter(endpoint=endpoint_id).order_by()
    return slots.aggregate(count=Sum("granted", default=0))["count"]
