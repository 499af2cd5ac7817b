"""The admin of webhooks: a secret is shown once, and staff see their own accounts' alone."""

from typing import Any

import pytest
from django.urls import reverse

from apps.accounts.models import AuditEvent
from apps.evaluations.engine.close import finish_run
from apps.evaluations.models import Run
from apps.webhooks.models import WebhookDelivery, WebhookEndpoint
from apps.webhooks.services import (
    add_webhook,
)
from tests.factories import make_actor, make_user
from tests.webhooks.receiver import URL, deliver_all, make_run, told

pytestmark = pytest.mark.django_db


def page_of(model: str, page: str = "changelist", *args: Any) -> str:
    return reverse(f"admin:webhooks_{model}_{page}", args=args)


def sign_in(client, **given):
    actor = make_actor(user=make_user(is_staff=True), **given)
    client.force_login(actor.user)
    return actor


def test_the_admin_shows_a_new_secret_once(client):
    actor = sign_in(client)
    fields = {"account": actor.account.pk, "address": URL, "chosen": ["failed", "completed"]}
    shown = client.post(page_of("webhookendpoint", "add"), fields, follow=True).content.decode()
    webhook = WebhookEndpoint.objects.get()
    assert webhook.events == "completed failed"
    assert webhook.secret.partition("=")[0] in shown.replace("&#x27;", "'")
    for page in (
        page_of("webhookendpoint"),
        page_of("webhookendpoint", "change", webhook.pk),
        page_of("webhookdelivery"),
    ):
        answer = client.get(page)
        assert answer.status_code == 200
        assert "whsec_" not in answer.content.decode()


def test_the_admin_says_what_is_wrong_with_a_webhook(client):
    actor = sign_in(client)
    fields = {"account": actor.account.pk, "address": "ftp://x", "chosen": ["failed"]}
    shown = client.post(page_of("webhookendpoint", "add"), fields, follow=True).content.decode()
    assert "must begin with http" in shown
    assert not WebhookEndpoint.objects.exists()


def test_the_admin_disables_and_then_deletes_a_webhook(client):
    actor = sign_in(client)
    webhook, _ = add_webhook(actor, url=URL)
    delete = page_of("webhookendpoint", "delete", webhook.pk)
    assert (
        "Disable the webhook first"
        in client.post(delete, {"post": "yes"}, follow=True).content.decode()
    )
    chosen = {"_selected_action": [str(webhook.pk)]}
    client.post(page_of("webhookendpoint"), {"action": "disable", **chosen})
    webhook.refresh_from_db()
    assert webhook.disabled_at is not None
    client.post(delete, {"post": "yes"})
    assert not WebhookEndpoint.objects.exists()


def test_the_admin_lists_finds_and_resends_deliveries(client, receiver):
    actor = sign_in(client)
    told(actor, receiver)
    run, other = make_run(actor), make_run(actor)
    finish_run(run.pk, Run.State.COMPLETED)
    deliver_all()
    finish_run(other.pk, Run.State.FAILED)
    sent, waiting = (WebhookDelivery.objects.get(run_id=one.pk) for one in (run, other))

    def found(query: str) -> set[str]:
        listed = client.get(f"{page_of('webhookdelivery')}?{query}").content.decode()
        return {one.event_id for one in (sent, waiting) if one.event_id in listed}

    assert found("") == {sent.event_id, waiting.event_id}
    assert found("state__exact=pending") == {waiting.event_id}
    assert found(f"q={sent.event_id}") == {sent.event_id}
    assert found(f"q=evalrun_{other.pk.hex}") == {waiting.event_id}
    page = client.get(page_of("webhookdelivery", "change", sent.pk)).content.decode()
    assert "eval.run.succeeded" in page
    client.post(
        page_of("webhookdelivery"), {"action": "send_again", "_selected_action": [str(sent.pk)]}
    )
    deliver_all()
    assert [headers["webhook-id"] for headers, _ in receiver.received].count(sent.event_id) == 2


def test_the_admin_shows_staff_no_deliveries_of_others(client, receiver):
    sign_in(client)
    stranger = make_actor()
    told(stranger, receiver)
    finish_run(make_run(stranger).pk, Run.State.COMPLETED)
    delivery = WebhookDelivery.objects.get()
    for page in (page_of("webhookendpoint"), page_of("webhookdelivery")):
        assert receiver.url not in client.get(page).content.decode()
    chosen = {"_selected_action": [str(delivery.pk)]}
    client.post(page_of("webhookdelivery"), {"action": "send_again", **chosen})
    delivery.refresh_from_db()
    assert delivery.attempts == 0
    assert not AuditEvent.objects.filter(action="webhook.resend").exists()
