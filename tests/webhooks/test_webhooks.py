"""Webhooks: told once, signed as the vendor's client expects, again until taken, to nobody else."""

import json
import socket
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.core.exceptions import PermissionDenied
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from django_q.brokers import get_broker
from openai import InvalidWebhookSignatureError, OpenAI

from apps.accounts.models import AuditEvent
from apps.accounts.roles import Role
from apps.errors import Invalid, StateError, Unfit, dotted
from apps.evaluations import tasks
from apps.evaluations.engine.close import finish_run
from apps.evaluations.models import Run
from apps.evaluations.services.evaluations import create_evaluation
from apps.evaluations.services.runs import cancel_run, delete_run, start_run
from apps.evaluations.targets import Recorded
from apps.webhooks import tasks as webhook_tasks
from apps.webhooks.delivery import deliver_due
from apps.webhooks.models import WebhookDelivery, WebhookEndpoint
from apps.webhooks.services import (
    add_webhook,
    remove_webhook,
    resend,
    set_webhook_disabled,
)
from tests.dialects.installed import needs
from tests.factories import make_actor, make_user
from tests.patience import patience, wait_until

pytestmark = pytest.mark.django_db
State = WebhookDelivery.State
URL = "https://hooks.example.com/evals"


class Receiver:
    """A real HTTP server: answers with the statuses given, then 200, and keeps what it was sent."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.received: list[tuple[dict[str, str], bytes]] = []
        self.answers = threading.Event()
        self.answers.set()
        kept = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                kept.received.append(
                    ({name.lower(): value for name, value in self.headers.items()}, body)
                )
                kept.answers.wait(patience(10))
                status = kept.statuses.pop(0) if kept.statuses else 200
                self.send_response(status)
                if status == 302:
                    self.send_header("location", kept.url)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.answers.set()
    receiver.server.shutdown()
    receiver.server.server_close()


@pytest.fixture
def actor():
    return make_actor()


def make_run(actor) -> Run:
    evaluation = create_evaluation(actor, name="Triage", criteria=[])
    return start_run(actor, evaluation, source=[{"item": {"a": 1}}], target=Recorded())


def told(actor, receiver, **given) -> tuple[WebhookEndpoint, str]:
    return add_webhook(actor, url=receiver.url, **{"allow_private": True, **given})


def deliver_all() -> None:
    while deliver_due():
        pass


def wait_no_longer() -> None:
    WebhookDelivery.objects.update(next_attempt_at=timezone.now())


def unwrapped(receiver: Receiver, secret: str) -> Any:
    headers, body = receiver.received[-1]
    return OpenAI(api_key="unused").webhooks.unwrap(body, headers, secret=secret)


# --- what is told -------------------------------------------------------------------------------


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


@needs("openai")
def test_a_given_secret_is_used(actor, receiver):
    secret = "whsec_MDEyMzQ1Njc4OWFiY2RlZg=="
    assert told(actor, receiver, secret=secret)[1] == secret
    finish_run(make_run(actor).pk, Run.State.COMPLETED)
    deliver_all()
    assert unwrapped(receiver, secret).type == "eval.run.succeeded"


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


# --- again until taken --------------------------------------------------------------------------


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


# --- bells --------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("url", ["https://127.0.0.1:{}/hook", "http://127.1:{}/hook"])
def test_what_cannot_be_spoken_to_is_named(actor, receiver, url):
    add_webhook(actor, url=url.format(receiver.server.server_port), allow_private=True)
    finish_run(make_run(actor).pk, Run.State.COMPLETED)
    deliver_all()
    assert WebhookDelivery.objects.get().last_error in {
        "The TLS handshake failed.",
        "The URL does not spell its address as usual.",
    }


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


# --- what people do -----------------------------------------------------------------------------


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


# --- faces --------------------------------------------------------------------------------------


def added(actor, *words: str) -> str:
    out = StringIO()
    call_command("add_webhook", "--account", actor.account.name, *words, stdout=out)
    return out.getvalue()


@needs("openai")
def test_the_command_prints_the_secret_and_only_that(actor, receiver):
    secret = added(actor, "--url", receiver.url, "--allow-private").strip()
    finish_run(make_run(actor).pk, Run.State.COMPLETED)
    deliver_all()
    assert unwrapped(receiver, secret).type == "eval.run.succeeded"


@needs("openai")
def test_the_command_takes_the_vendors_events(actor):
    words = ("--event", "eval.run.failed", "--event", "eval.run.canceled")
    added(actor, "--url", URL, *words)
    webhook = WebhookEndpoint.objects.get()
    assert (webhook.events, webhook.allow_private) == ("failed canceled", False)
    with pytest.raises(CommandError, match="exists already"):
        added(actor, "--url", URL)


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
