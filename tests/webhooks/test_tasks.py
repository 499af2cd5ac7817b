"""The end of a run is noted for its account's webhooks, and rings for their delivery."""

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django_q.brokers import get_broker

from apps.evaluations import tasks
from apps.evaluations.engine.close import finish_run
from apps.evaluations.models import Run
from apps.evaluations.services.runs import cancel_run, delete_run
from apps.webhooks import tasks as webhook_tasks
from apps.webhooks.models import WebhookDelivery
from apps.webhooks.services import (
    add_webhook,
)
from tests.dialects.installed import needs
from tests.factories import make_actor
from tests.patience import wait_until
from tests.webhooks.receiver import State, deliver_all, make_run, told, unwrapped

pytestmark = pytest.mark.django_db


@needs("openai")
def test_only_the_chosen_events_are_told(actor, receiver):
    _, secret = told(actor, receiver, events=["failed"])
    for state in (Run.State.COMPLETED, Run.State.FAILED, Run.State.CANCELED):
        finish_run(make_run(actor).pk, state)
    deliver_all()
    assert len(receiver.received) == 1
    assert unwrapped(receiver, secret).type == "eval.run.failed"


def test_the_runs_of_another_account_are_not_told(actor, receiver):
    told(actor, receiver)
    finish_run(make_run(make_actor()).pk, Run.State.COMPLETED)
    assert not WebhookDelivery.objects.exists()


def test_webhooks_of_one_account_share_the_event(actor, receiver):
    told(actor, receiver)
    add_webhook(actor, url=f"{receiver.url}/other", allow_private=True)
    finish_run(make_run(actor).pk, Run.State.COMPLETED)
    deliver_all()
    (first, _), (second, _) = receiver.received
    assert first["webhook-id"] == second["webhook-id"]
    assert first["webhook-signature"] != second["webhook-signature"]


@needs("openai")
def test_a_canceled_and_a_deleted_run_are_told(actor, receiver):
    _, secret = told(actor, receiver)
    cancel_run(actor, make_run(actor))
    delete_run(actor, make_run(actor))
    deliver_all()
    assert len(receiver.received) == 2
    assert unwrapped(receiver, secret).type == "eval.run.canceled"


def test_ending_a_run_costs_one_query_where_no_webhook_is(actor):
    run = make_run(actor)
    with CaptureQueriesContext(connection) as queries:
        finish_run(run.pk, Run.State.COMPLETED)
    about = [query["sql"] for query in queries if "webhook" in query["sql"]]
    assert len(about) == 1


def test_the_telling_stands_and_falls_with_the_transaction_that_ends_the_run(actor, receiver):
    told(actor, receiver)
    run = make_run(actor)
    with transaction.atomic():
        finish_run(run.pk, Run.State.COMPLETED)
        transaction.set_rollback(True)  # the process dies before the commit
    assert not WebhookDelivery.objects.exists()
    finish_run(run.pk, Run.State.COMPLETED)
    # No signal was sent: the test's own transaction is never committed.
    assert WebhookDelivery.objects.exists()


def test_the_end_of_a_run_rings_for_its_delivery(
    actor, receiver, django_capture_on_commit_callbacks
):
    run, quiet = make_run(actor), make_run(make_actor())
    queue = get_broker()
    queue.purge_queue()
    with django_capture_on_commit_callbacks(execute=True):
        finish_run(quiet.pk, Run.State.COMPLETED)
    assert queue.queue_size() == 0
    told(actor, receiver)
    with django_capture_on_commit_callbacks(execute=True):
        finish_run(run.pk, Run.State.COMPLETED)
    assert queue.queue_size() == 1
    queue.purge_queue()


@pytest.mark.django_db(transaction=True)
def test_the_sweep_delivers_in_the_background(actor, receiver):
    told(actor, receiver)
    finish_run(make_run(actor).pk, Run.State.COMPLETED)
    receiver.answers.clear()
    tasks.sweep()
    wait_until(lambda: receiver.received, 10)
    tasks.sweep()
    receiver.answers.set()
    wait_until(lambda: WebhookDelivery.objects.get().state == State.DELIVERED, 10)
    wait_until(lambda: not webhook_tasks._delivering.locked(), 10)
    assert len(receiver.received) == 1
