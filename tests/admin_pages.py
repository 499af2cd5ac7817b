"""Open the admin's pages as somebody, and read what they say."""

from django.contrib.messages import get_messages
from django.urls import reverse

from tests.factories import make_actor, make_user

INFERENCE = ("modelendpoint", "storedcompletion")


def sign_in(client, role: str, **given):
    actor = make_actor(role, user=make_user(is_staff=True), **given)
    client.force_login(actor.user)
    return actor


def page_of(model: str, page: str = "changelist", *args) -> str:
    app = "inference" if model in INFERENCE else "evaluations"
    return reverse(f"admin:{app}_{model}_{page}", args=args)


def text_of(response) -> str:
    assert response.status_code == 200
    return response.content.decode()


def said(response) -> str:
    return " ".join(str(message) for message in get_messages(response.wsgi_request))
