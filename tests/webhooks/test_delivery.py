"""Events are sent signed as the vendor's client expects, again until taken, and to nobody else."""

import json
import socket
from datetime import timedelta

import pytest
from cryptography.fernet import Fernet
from django.utils import timezone
from openai import InvalidWebhookSignatureError

from apps.evaluations.engine.close import finish_run
from apps.evaluations.models import Run
from apps.webhooks.models import WebhookDelivery
from apps.webhooks.services import (
    add_webhook,
)
from tests.dialects.installed import needs
from tests.factories import make_actor
from tests.webhooks.receiver import (
    URL,
    State,
    deliver_all,
    make_run,
    told,
    unwrapped,
    wait_no_longer,
)

pytestmark = pytest.mark.django_db


@needs("openai")
@pytest.mark.parametrize(
    ("state", "kind"),
    [
        (Run.State.COMPLETED, "eval.run.succeeded"),
        (Run.State.FAILED, "eval.run.failed"),
        (Run.State.CANCELED, "eval.run.canceled"),
    ],
)
def test_the_end_of_a_run_is_told_once_and_the_vendors_client_accepts_it(
    actor, receiver, state, kind
):
    _, secret = told(actor, receiver)
    run = make_run(actor)
    assert finish_run(run.pk, state)
    assert not finish_run(run.pk, Run.State.CANCELED)
    deliver_all()
    deliver_all()
    assert len(receiver.received) == 1
    event = unwrapped(receiver, secret)
    assert event.type == kind
    assert event.object == "event"
    assert event.data.id == f"evalrun_{run.pk.hex}"
    assert abs(event.created_at - timezone.now().timestamp()) < 60
    headers, body = receiver.received[0]
    assert headers["webhook-id"] == event.id
    assert event.id.startswith("evt_")
    assert headers["content-type"] == "application/json"
    delivery = WebhookDelivery.objects.get()
    assert (delivery.state, delivery.attempts, delivery.last_status) == (State.DELIVERED, 1, 200)
    assert delivery.delivered_at is not None
    assert json.loads(delivery.body) == json.loads(body)


def test_another_secret_does_not_fit(actor, receiver):
    told(actor, receiver)
    _, other = add_webhook(make_actor(), url=URL)
    finish_run(make_run(actor).pk, Run.State.COMPLETED)
    deliver_all()
    with pytest.raises(InvalidWebhookSignatureError):
        unwrapped(receiver, other)


def test_what_is_answered_500_is_sent_again_later_with_the_same_id(actor, receiver):
    _, secret = told(actor, receiver)
    receiver.statuses = [500, 503]
    finish_run(make_run(actor).pk, Run.State.COMPLETED)
    deliver_all()
    assert len(receiver.received) == 1
    delivery = WebhookDelivery.objects.get()
    assert (delivery.state, delivery.last_status) == (State.PENDING, 500)
    assert delivery.last_error == "It answered 500."
    wait = delivery.next_attempt_at - timezone.now()
    assert timedelta(seconds=3) < wait <= timedelta(seconds=5)
    for _ in range(3):
        wait_no_longer()
        deliver_all()
    assert len(receiver.received) == 3
    assert len({headers["webhook-id"] for headers, _ in receiver.received}) == 1
    assert len({body for _, body in receiver.received}) == 1
    unwrapped(receiver, secret)
    delivery.refresh_from_db()
    assert (delivery.state, delivery.attempts) == (State.DELIVERED, 3)


def test_it_is_given_up_after_the_last_retry(actor, receiver, settings):
    settings.WEBHOOK_RETRY_SECONDS = (0, 0)
    told(actor, receiver)
    receiver.statuses = [500] * 9
    finish_run(make_run(actor).pk, Run.State.COMPLETED)
    deliver_all()
    assert len(receiver.received) == 3
    assert WebhookDelivery.objects.get().state == State.FAILED


def test_a_redirect_is_not_followed(actor, receiver):
    told(actor, receiver)
    receiver.statuses = [302]
    finish_run(make_run(actor).pk, Run.State.COMPLETED)
    deliver_all()
    assert len(receiver.received) == 1
    assert WebhookDelivery.objects.get().last_error == "It answered 302."


def test_a_receiver_that_does_not_answer_is_left_in_time(actor, receiver, settings):
    settings.WEBHOOK_TIMEOUT_SECONDS = 0.3
    told(actor, receiver)
    receiver.answers.clear()
    finish_run(make_run(actor).pk, Run.State.COMPLETED)
    deliver_all()
    assert WebhookDelivery.objects.get().last_error == "No answer within 0.3 seconds."


def test_a_receiver_that_is_not_there_is_tried_again(actor):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    add_webhook(actor, url=f"http://127.0.0.1:{port}/", allow_private=True)
    finish_run(make_run(actor).pk, Run.State.COMPLETED)
    deliver_all()
    delivery = WebhookDelivery.objects.get()
    assert (delivery.state, delivery.last_status) == (State.PENDING, None)
    assert delivery.last_error == "It could not be reached: connection refused."


def test_a_private_address_is_not_called_unless_allowed(actor, receiver):
    told(actor, receiver, allow_private=False)
    port = receiver.server.server_port
    add_webhook(actor, url=f"http://localhost:{port}/hook")
    add_webhook(actor, url=f"http://[::ffff:127.0.0.1]:{port}/hook")
    finish_run(make_run(actor).pk, Run.State.COMPLETED)
    deliver_all()
    assert receiver.received == []
    errors = set(WebhookDelivery.objects.values_list("last_error", flat=True))
    assert errors == {"The address is not public, which it has to be here."}


def test_what_a_lost_process_held_is_taken_up_again(actor, receiver):
    told(actor, receiver)
    finish_run(make_run(actor).pk, Run.State.COMPLETED)
    now = timezone.now()
    (lost,) = WebhookDelivery.objects.claim(9, now, now + timedelta(seconds=60))
    deliver_all()
    assert receiver.received == []
    WebhookDelivery.objects.update(lease_until=now - timedelta(seconds=1))
    deliver_all()
    assert len(receiver.received) == 1
    assert not lost.settle(state=State.FAILED)
    delivery = WebhookDelivery.objects.get()
    assert (delivery.state, delivery.attempts) == (State.DELIVERED, 2)


def test_a_secret_that_cannot_be_read_keeps_nobody_else_waiting(actor, receiver, settings):
    add_webhook(actor, url=URL)
    settings.ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    other = make_actor()
    told(other, receiver)
    for one in (actor, other):
        finish_run(make_run(one).pk, Run.State.COMPLETED)
    deliver_all()
    assert len(receiver.received) == 1
    delivery = WebhookDelivery.objects.get(account=actor.account)
    assert delivery.state == State.PENDING
    assert "ENCRYPTION_KEY" in delivery.last_error


def test_two_claims_at_once_share_nothing(actor, receiver):
    told(actor, receiver)
    for _ in range(3):
        finish_run(make_run(actor).pk, Run.State.COMPLETED)
    now = timezone.now()
    until = now + timedelta(seconds=60)
    first = WebhookDelivery.objects.claim(2, now, until)
    second = WebhookDelivery.objects.claim(2, now, until)
    assert (len(first), len(second)) == (2, 1)
    assert not {one.pk for one in first} & {one.pk for one in second}


def test_what_was_never_tried_goes_before_what_is_tried_again(actor, receiver):
    told(actor, receiver)
    finish_run(make_run(actor).pk, Run.State.COMPLETED)
    WebhookDelivery.objects.update(attempts=3)
    late = make_run(actor)
    finish_run(late.pk, Run.State.COMPLETED)
    now = timezone.now()
    (claimed,) = WebhookDelivery.objects.claim(1, now, now + timedelta(seconds=60))
    assert claimed.run_id == late.pk


@pytest.mark.parametrize("url", ["https://127.0.0.1:{}/hook", "http://127.1:{}/hook"])
def test_what_cannot_be_spoken_to_is_named(actor, receiver, url):
    add_webhook(actor, url=url.format(receiver.server.server_port), allow_private=True)
    finish_run(make_run(actor).pk, Run.State.COMPLETED)
    deliver_all()
    assert WebhookDelivery.objects.get().last_error in {
        "The TLS handshake failed.",
        "The URL does not spell its address as usual.",
    }
