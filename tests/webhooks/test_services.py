"""Webhooks are added, disabled and removed by those who may, and events sent again."""

from datetime import timedelta

import pytest
from django.core.exceptions import PermissionDenied
from django.db import connection
from django.utils import timezone

from apps.accounts.models import AuditEvent
from apps.accounts.roles import Role
from apps.errors import Invalid, StateError, Unfit, dotted
from apps.evaluations.engine.close import finish_run
from apps.evaluations.models import Run
from apps.webhooks.models import WebhookDelivery, WebhookEndpoint
from apps.webhooks.services import (
    add_webhook,
    remove_webhook,
    resend,
    set_webhook_disabled,
)
from tests.dialects.installed import needs
from tests.factories import make_actor
from tests.webhooks.receiver import URL, State, deliver_all, make_run, told, unwrapped

pytestmark = pytest.mark.django_db


@needs("openai")
def test_a_given_secret_is_used(actor, receiver):
    secret = "whsec_MDEyMzQ1Njc4OWFiY2RlZg=="
    assert told(actor, receiver, secret=secret)[1] == secret
    finish_run(make_run(actor).pk, Run.State.COMPLETED)
    deliver_all()
    assert unwrapped(receiver, secret).type == "eval.run.succeeded"


def test_a_resent_event_keeps_its_id(actor, receiver):
    _, secret = told(actor, receiver)
    finish_run(make_run(actor).pk, Run.State.COMPLETED)
    deliver_all()
    resend(actor, WebhookDelivery.objects.get())
    deliver_all()
    assert len(receiver.received) == 2
    assert len({headers["webhook-id"] for headers, _ in receiver.received}) == 1
    unwrapped(receiver, secret)
    assert WebhookDelivery.objects.get().state == State.DELIVERED


def test_what_was_given_up_can_be_resent(actor, receiver, settings):
    settings.WEBHOOK_RETRY_SECONDS = ()
    told(actor, receiver)
    receiver.statuses = [500]
    finish_run(make_run(actor).pk, Run.State.COMPLETED)
    deliver_all()
    resend(actor, WebhookDelivery.objects.get())
    deliver_all()
    assert WebhookDelivery.objects.get().state == State.DELIVERED


def test_what_is_being_sent_cannot_be_resent(actor, receiver):
    told(actor, receiver)
    finish_run(make_run(actor).pk, Run.State.COMPLETED)
    now = timezone.now()
    WebhookDelivery.objects.claim(1, now, now + timedelta(seconds=60))
    with pytest.raises(StateError, match="right now"):
        resend(actor, WebhookDelivery.objects.get())


def test_a_disabled_webhook_is_told_nothing(actor, receiver):
    webhook, _ = told(actor, receiver)
    finish_run(make_run(actor).pk, Run.State.COMPLETED)
    set_webhook_disabled(actor, webhook, is_disabled=True)
    finish_run(make_run(actor).pk, Run.State.COMPLETED)
    deliver_all()
    assert receiver.received == []
    delivery = WebhookDelivery.objects.get()
    assert (delivery.state, delivery.last_error) == (State.FAILED, "The webhook is disabled.")
    with pytest.raises(StateError, match="disabled"):
        resend(actor, delivery)
    set_webhook_disabled(actor, webhook, is_disabled=False)
    finish_run(make_run(actor).pk, Run.State.COMPLETED)
    deliver_all()
    assert len(receiver.received) == 1


def test_a_webhook_is_disabled_before_it_is_removed(actor):
    webhook, _ = add_webhook(actor, url=URL)
    with pytest.raises(StateError, match="Disable"):
        remove_webhook(actor, webhook)
    set_webhook_disabled(actor, webhook, is_disabled=True)
    remove_webhook(actor, webhook)
    assert not WebhookEndpoint.objects.exists()


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ({"url": "ftp://example.com"}, "url"),
        ({"url": "https://user:word@example.com"}, "url"),
        ({"url": "https://example.com/" + "a" * 2000}, "url"),
        ({"events": []}, "events"),
        ({"events": ["running"]}, "events"),
        ({"secret": "plain"}, "secret"),
        ({"secret": "whsec_c2hvcnQ="}, "secret"),
        ({"secret": "whsec_é"}, "secret"),
    ],
)
def test_what_cannot_work_is_refused(actor, given, path):
    with pytest.raises(Invalid) as refused:
        add_webhook(actor, **{"url": URL, **given})
    assert dotted(refused.value.problems[0].path) == path


def test_a_url_is_registered_once_in_an_account(actor):
    add_webhook(actor, url=URL)
    add_webhook(make_actor(), url=URL)
    with pytest.raises(Unfit, match="exists already"):
        add_webhook(actor, url=URL)


def test_an_editor_manages_no_webhooks(actor):
    webhook, _ = add_webhook(actor, url=URL)
    editor = make_actor(Role.EDITOR, account=actor.account)
    finish_run(make_run(actor).pk, Run.State.COMPLETED)
    with pytest.raises(PermissionDenied):
        add_webhook(editor, url=URL)
    with pytest.raises(PermissionDenied):
        set_webhook_disabled(editor, webhook, is_disabled=True)
    with pytest.raises(PermissionDenied):
        resend(make_actor(), WebhookDelivery.objects.get())


def test_the_secret_is_kept_encrypted_and_out_of_the_record(actor):
    _, secret = add_webhook(actor, url=URL)
    with connection.cursor() as cursor:
        cursor.execute("SELECT secret FROM webhooks_webhookendpoint")
        assert secret[6:] not in cursor.fetchone()[0]
    assert WebhookEndpoint.objects.get().secret == secret
    event = AuditEvent.objects.get(action="webhook.add")
    assert secret[6:] not in event.after
