"""The command that adds a webhook."""

from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from apps.evaluations.engine.close import finish_run
from apps.evaluations.models import Run
from apps.webhooks.models import WebhookEndpoint
from tests.dialects.installed import needs
from tests.webhooks.receiver import URL, deliver_all, make_run, unwrapped

pytestmark = pytest.mark.django_db


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
