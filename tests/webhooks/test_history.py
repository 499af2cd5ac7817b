"""What is told of long ago goes by itself; what is not settled stays."""

from datetime import timedelta
from uuid import uuid4

import pytest
from django.utils import timezone
from django_q.models import Task

from apps.evaluations import tasks
from apps.evaluations.tasks import purge_history
from apps.ids import new_id
from apps.webhooks import delivery
from apps.webhooks.models import WebhookDelivery, WebhookEndpoint
from tests.factories import make_actor

pytestmark = pytest.mark.django_db


def ago(days: float):
    return timezone.now() - timedelta(days=days)


@pytest.fixture
def webhook():
    actor = make_actor()
    return WebhookEndpoint.objects.create(account=actor.account, url="https://a.example.com")


def deliver(webhook, state: str, days: float) -> WebhookDelivery:
    return WebhookDelivery.objects.create(
        account=webhook.account,
        endpoint=webhook,
        event_id=f"evt_{new_id().hex}",
        event="completed",
        run_id=uuid4(),
        state=state,
        created_at=ago(days),
    )


def end_task(days: float, success: bool = False) -> Task:
    then = ago(days)
    return Task.objects.create(
        id=uuid4().hex, name="work", func="x", started=then, stopped=then, success=success
    )


def test_settled_deliveries_and_ended_tasks_go_after_their_days(webhook, settings):
    settings.HISTORY_DAYS = 10
    kept = [
        deliver(webhook, "delivered", 9),
        deliver(webhook, "failed", 9),
        deliver(webhook, "pending", 40),
    ]
    deliver(webhook, "delivered", 11)
    deliver(webhook, "failed", 11)
    young = end_task(9)
    end_task(11)
    end_task(11, success=True)
    assert not purge_history()
    assert set(WebhookDelivery.objects.all()) == set(kept)
    assert Task.objects.get() == young


@pytest.mark.django_db(transaction=True)
def test_many_go_piece_by_piece_and_later_ones_after_a_while(webhook, monkeypatch):
    monkeypatch.setattr(delivery, "PURGED_AT_ONCE", 2)
    monkeypatch.setitem(tasks._history, "due_at", 0.0)
    for _ in range(5):
        deliver(webhook, "failed", 31)
    left = []
    for _ in range(3):
        tasks.sweep()
        left.append(WebhookDelivery.objects.count())
    assert left == [3, 1, 0]
    deliver(webhook, "failed", 31)
    tasks.sweep()
    assert WebhookDelivery.objects.count() == 1
