"""Endpoints and kept completions as the admin's tests need them."""

from apps.inference.endpoints import add_endpoint
from apps.inference.models import ModelEndpoint, StoredCompletion
from tests.factories import make_actor


def make_endpoint(actor=None, **given) -> ModelEndpoint:
    url = given.pop("base_url", "http://models.example.com/v1")
    given.setdefault("models", ["one"])
    return add_endpoint(actor or make_actor(), base_url=url, **given)


def keep_completion(actor, **given) -> StoredCompletion:
    values = {"kind": "chat", "model": "m", "completion": '{"choices": []}'}
    given.setdefault("messages", '[{"role": "user", "content": "kept words"}]')
    return StoredCompletion.objects.create(account=actor.account, **{**values, **given})
