"""Model servers: registered, found by their models' names, priced, disabled and removed."""

from decimal import Decimal

import pytest
from django.core.exceptions import PermissionDenied
from django.utils import timezone

from apps.accounts.models import AuditEvent
from apps.accounts.roles import Role
from apps.errors import Refusal, dotted
from apps.inference.endpoints import add_endpoint, remove_model, set_endpoint_disabled, set_prices
from apps.inference.models import EndpointPace, ModelEndpoint
from apps.inference.served_models import UnknownModel, find_model
from tests.factories import (
    make_actor,
    make_endpoint,
    make_version,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def actor():
    return make_actor()


def refused(call, path):
    with pytest.raises(Refusal) as refusal:
        call()
    assert dotted(refusal.value.problems[0].path) == path


def actions():
    return list(AuditEvent.objects.order_by("id").values_list("action", flat=True))


def test_an_editor_registers_no_endpoint(actor):
    with pytest.raises(PermissionDenied):
        make_endpoint(make_actor(Role.EDITOR), "http://127.0.0.1:9/v1")


def test_a_model_is_found_by_the_name_that_callers_write(actor):
    endpoint = add_endpoint(
        actor,
        base_url=" https://models.example.com/v1/ ",
        models=["m"],
        api_key="secret",
        aliases={"GPT_4O": "m-large"},
    )
    assert endpoint.base_url == "https://models.example.com/v1"
    found = find_model(actor.account.pk, "GPT_4O")
    assert (found.endpoint, found.address["upstream"]) == (endpoint, "m-large")
    assert find_model(actor.account.pk, "m").address["upstream"] == "m"
    assert "secret" not in str(found.address)


def test_registering_again_changes_what_is_given_and_enables(actor):
    url = "https://models.example.com/v1"
    first = add_endpoint(actor, base_url=url, api_key="one", concurrency=5)
    ModelEndpoint.objects.update(disabled_at=timezone.now())
    again = add_endpoint(actor, base_url=url, models=["m"])
    assert (again.pk, again.api_key, again.concurrency) == (first.pk, "one", 5)
    assert again.disabled_at is None


def test_a_disabled_endpoint_reaches_nothing_until_it_is_enabled(actor):
    endpoint = add_endpoint(actor, base_url="https://models.example.com/v1", models=["m"])
    for _ in range(2):
        set_endpoint_disabled(actor, endpoint, is_disabled=True)
    with pytest.raises(UnknownModel):
        find_model(actor.account.pk, "m")
    set_endpoint_disabled(actor, endpoint, is_disabled=False)
    assert find_model(actor.account.pk, "m").endpoint == endpoint
    assert actions()[-2:] == ["endpoint.disable", "endpoint.enable"]


def test_a_removed_model_is_unknown_and_its_name_is_free(actor):
    first = add_endpoint(actor, base_url="https://models.example.com/v1", models=["m", "n"])
    remove_model(actor, first.models.get(name="m"))
    with pytest.raises(UnknownModel):
        find_model(actor.account.pk, "m")
    other = add_endpoint(actor, base_url="https://other.example.com/v1", models=["m"])
    assert find_model(actor.account.pk, "m").endpoint == other
    assert find_model(actor.account.pk, "n").endpoint == first


def test_prices_are_kept_and_what_is_none_is_refused(actor):
    endpoint = add_endpoint(actor, base_url="https://models.example.com/v1", models=["m"])
    model = endpoint.models.get()
    for _ in range(2):
        set_prices(actor, model, prompt=Decimal("0.15"), completion=None)
    model.refresh_from_db()
    assert (model.prompt_price, model.completion_price) == (Decimal("0.15"), None)
    assert actions().count("model.price") == 1
    for wrong in ("-1", "NaN", "Infinity", "1000000"):
        refused(
            lambda wrong=wrong: set_prices(actor, model, prompt=None, completion=Decimal(wrong)),
            "completion_price",
        )


def test_only_who_manages_the_account_changes_its_endpoints(actor):
    endpoint = add_endpoint(actor, base_url="https://models.example.com/v1", models=["m"])
    model = endpoint.models.get()
    for stranger in (make_actor(Role.EDITOR, account=actor.account), make_actor()):
        for call in (
            lambda who: set_endpoint_disabled(who, endpoint, is_disabled=True),
            lambda who: remove_model(who, model),
            lambda who: set_prices(who, model, prompt=None, completion=None),
        ):
            with pytest.raises(PermissionDenied):
                call(stranger)


def test_a_model_of_another_account_or_of_a_disabled_endpoint_is_unknown(actor):
    make_endpoint(make_actor(), "http://127.0.0.1:9/v1")
    with pytest.raises(UnknownModel):
        find_model(actor.account.pk, "m")
    make_endpoint(actor, "http://127.0.0.1:9/v1")
    ModelEndpoint.objects.update(disabled_at=timezone.now())
    with pytest.raises(UnknownModel):
        find_model(actor.account.pk, "m")


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"base_url": "ftp://example.com"}, "base_url"),
        ({"base_url": "nonsense"}, "base_url"),
        ({"concurrency": 0}, "concurrency"),
        ({"concurrency": 10_001}, "concurrency"),
        ({"models": [""]}, "models"),
        ({"models": ["builtin/echo"]}, "models"),
    ],
)
def test_an_impossible_endpoint_is_refused_by_its_path(actor, fields, path):
    refused(
        lambda: add_endpoint(actor, **{"base_url": "https://models.example.com/v1", **fields}), path
    )
    assert not ModelEndpoint.objects.exists()


def test_two_endpoints_of_an_account_serve_no_model_of_one_name(actor):
    make_endpoint(actor, "http://127.0.0.1:9/v1")
    refused(lambda: make_endpoint(actor, "http://127.0.0.1:8/v1"), "models")
    make_endpoint(make_actor(), "http://127.0.0.1:8/v1")


def test_a_model_that_learns_needs_a_dataset_with_labels(actor):
    make_version(actor, name="unlabelled")
    with pytest.raises(UnknownModel, match="names no label field"):
        find_model(actor.account.pk, "builtin/majority:unlabelled")


def test_limits_a_minute_are_set_kept_and_taken_away(actor):
    url = "http://127.0.0.1:9/v1"
    endpoint = make_endpoint(actor, url, requests_per_minute=500, tokens_per_minute=30_000)
    assert (endpoint.requests_per_minute, endpoint.tokens_per_minute) == (500, 30_000)
    endpoint = make_endpoint(actor, url, tokens_per_minute=0)
    assert (endpoint.requests_per_minute, endpoint.tokens_per_minute) == (500, None)
    for name in ("requests_per_minute", "tokens_per_minute"):
        with pytest.raises(Refusal, match=f"{name} must be 0 to 1000000000, not -1"):
            make_endpoint(actor, url, **{name: -1})


def test_another_key_ends_the_pause_that_the_old_one_brought(actor):
    url = "http://127.0.0.1:9/v1"
    endpoint = make_endpoint(actor, url, api_key="sk-old")
    EndpointPace.objects.create(endpoint=endpoint, status=401, paused_until=timezone.now())
    make_endpoint(actor, url, concurrency=3)
    assert EndpointPace.objects.exists()
    make_endpoint(actor, url, api_key="sk-new")
    assert not EndpointPace.objects.exists()
