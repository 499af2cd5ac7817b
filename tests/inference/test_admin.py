"""The admin of endpoints and kept completions: who sees what, and what actions do."""

from datetime import UTC, datetime

import pytest
from django.utils import timezone

from apps.accounts.models import AuditEvent
from apps.accounts.roles import Role
from apps.clients import Extras, Lesson
from apps.inference.endpoints import set_endpoint_disabled
from apps.inference.learned_quirks import remember
from apps.inference.models import EndpointPace, ModelEndpoint, ServedModel, StoredCompletion
from apps.inference.server_settings import extras_of
from tests.admin_pages import page_of, said, sign_in, text_of
from tests.factories import make_actor, make_user
from tests.inference.admin_rows import keep_completion, make_endpoint

pytestmark = pytest.mark.django_db


@pytest.fixture
def root(client):
    user = make_user(is_staff=True, is_superuser=True)
    client.force_login(user)
    return user


def no_quirks() -> dict:
    counts = {"TOTAL": 0, "INITIAL": 0, "MIN_NUM": 0, "MAX_NUM": 0}
    return {f"quirks-{name}_FORMS": count for name, count in counts.items()}


def served(*rows: dict, initial: int = 0) -> dict:
    data = {
        "models-TOTAL_FORMS": len(rows),
        "models-INITIAL_FORMS": initial,
        "models-MIN_NUM_FORMS": 0,
        "models-MAX_NUM_FORMS": 1000,
        **no_quirks(),
    }
    for number, row in enumerate(rows):
        data |= {f"models-{number}-{name}": value for name, value in row.items()}
    return data


def test_an_endpoint_is_added_with_its_models_by_the_service(client):
    actor = sign_in(client, Role.ADMIN)
    given = {
        "account": actor.account.pk,
        "url": "http://models.example.com/v1/",
        "new_key": "sk-very-secret",
        "concurrency": 8,
        "is_unchecked": "on",
    }
    rows = (
        {"name": "one", "upstream_name": "", "kind": "chat"},
        {"name": "two", "upstream_name": "two-of-theirs", "kind": "chat"},
        {"name": "vectors", "upstream_name": "", "kind": "embedding"},
    )
    answer = client.post(page_of("modelendpoint", "add"), given | served(*rows))
    assert answer.status_code == 302
    endpoint = ModelEndpoint.objects.get()
    assert (endpoint.base_url, endpoint.api_key, endpoint.concurrency, endpoint.allow_private) == (
        "http://models.example.com/v1",
        "sk-very-secret",
        8,
        False,
    )
    kept = ServedModel.objects.values_list("name", "upstream_name", "kind")
    assert set(kept) == {
        ("one", "", "chat"),
        ("two", "two-of-theirs", "chat"),
        ("vectors", "", "embedding"),
    }
    assert AuditEvent.objects.get(action="endpoint.add").user == actor.user


def test_an_endpoints_key_is_kept_when_left_empty_and_shown_nowhere(client, root):
    actor = make_actor()
    endpoint = make_endpoint(actor, api_key="sk-very-secret")
    model = endpoint.models.get()
    page = page_of("modelendpoint", "change", endpoint.pk)
    row = {"id": model.pk, "endpoint": endpoint.pk, "upstream_name": "theirs", "kind": "chat"}
    given = {
        **{"new_key": "", "concurrency": 3, "allow_private": "on", "is_unchecked": "on"},
        **served(row, initial=1),
    }
    assert client.post(page, given).status_code == 302
    endpoint.refresh_from_db()
    model.refresh_from_db()
    assert (endpoint.api_key, endpoint.concurrency, endpoint.allow_private) == (
        "sk-very-secret",
        3,
        True,
    )
    assert (model.name, model.upstream_name) == ("one", "theirs")
    client.post(page, {**given, "new_key": "sk-another"})
    endpoint.refresh_from_db()
    assert endpoint.api_key == "sk-another"
    (stored,) = ModelEndpoint.objects.values_list("pk")
    for url in (page, page_of("modelendpoint"), page_of("modelendpoint", "history", *stored)):
        assert "sk-" not in text_of(client.get(url))


def test_a_list_of_endpoints_does_not_read_their_keys(client, root, settings):
    endpoint = make_endpoint(api_key="sk-very-secret")
    # A server that lost its encryption key must still show what it has.
    settings.ENCRYPTION_KEYS = ["A" * 43 + "="]
    text_of(client.get(page_of("modelendpoint")))
    text_of(client.get(page_of("modelendpoint", "change", endpoint.pk)))


def test_what_the_service_refuses_of_an_endpoint_is_said_and_not_done(client, root):
    actor = make_actor()
    make_endpoint(actor, models=["taken"])
    given = {
        "account": actor.account.pk,
        "url": "http://other.example.com/v1",
        "new_key": "",
        "concurrency": 8,
        "is_unchecked": "on",
        **served({"name": "taken", "upstream_name": "", "kind": "chat"}),
    }
    answer = client.post(page_of("modelendpoint", "add"), given)
    assert "is served by http://models.example.com/v1 already" in said(answer)
    assert ModelEndpoint.objects.count() == 1


def test_saving_a_disabled_endpoint_leaves_it_disabled(client, root):
    actor = make_actor()
    endpoint = make_endpoint(actor)
    set_endpoint_disabled(actor, endpoint, is_disabled=True)
    page = page_of("modelendpoint", "change", endpoint.pk)
    given = {"new_key": "", "concurrency": 3, **served()}
    assert client.post(page, given).status_code == 302
    endpoint.refresh_from_db()
    assert endpoint.concurrency == 3
    assert endpoint.disabled_at is not None


def test_endpoints_are_disabled_and_enabled_by_actions(client):
    actor = sign_in(client, Role.ADMIN)
    mine, theirs = make_endpoint(actor), make_endpoint()
    for action, is_disabled in (("disable", True), ("disable", True), ("enable", False)):
        chosen = [str(mine.pk), str(theirs.pk)]
        client.post(page_of("modelendpoint"), {"action": action, "_selected_action": chosen})
        mine.refresh_from_db()
        theirs.refresh_from_db()
        assert (mine.disabled_at is not None) == is_disabled
        assert theirs.disabled_at is None
    actions = AuditEvent.objects.filter(object_type="modelendpoint", user=actor.user)
    assert list(actions.order_by("pk").values_list("action", flat=True))[-2:] == [
        "endpoint.disable",
        "endpoint.enable",
    ]


def test_a_pause_and_learned_limits_are_shown_and_forgotten_by_an_action(client):
    actor = sign_in(client, Role.ADMIN)
    mine, theirs = make_endpoint(actor), make_endpoint()
    until = datetime(2100, 1, 2, 14, 3, 20, tzinfo=UTC)
    for endpoint in (mine, theirs):
        EndpointPace.objects.create(
            endpoint=endpoint,
            paused_until=until,
            words="Slow down.",
            concurrency=7,
            calls=5,
            window_seconds=20.0,
        )
    assert "by the model server until 14:03:20 UTC: Slow down." in text_of(
        client.get(page_of("modelendpoint"))
    )
    page = text_of(client.get(page_of("modelendpoint", "change", mine.pk)))
    assert "5 calls in 20 seconds, 7 in flight" in page
    chosen = {"action": "forget_limits", "_selected_action": [str(mine.pk), str(theirs.pk)]}
    client.post(page_of("modelendpoint"), chosen)
    assert list(EndpointPace.objects.all()) == [theirs.pace]
    assert AuditEvent.objects.filter(action="endpoint.forget_limits").count() == 1


def test_limits_a_minute_are_set_and_taken_away_in_the_admin(client, root):
    endpoint = make_endpoint(requests_per_minute=3)
    page = page_of("modelendpoint", "change", endpoint.pk)
    given = {"new_key": "", "concurrency": 5, "tokens_per_minute": 900, "is_unchecked": "on"}
    assert client.post(page, given | served()).status_code == 302
    endpoint.refresh_from_db()
    assert (endpoint.requests_per_minute, endpoint.tokens_per_minute) == (None, 900)


def test_a_model_is_priced_and_removed_on_its_endpoints_page(client, root):
    endpoint = make_endpoint(models=["dear", "old"])
    dear, old = endpoint.models.order_by("name")
    page = page_of("modelendpoint", "change", endpoint.pk)
    prices = {"prompt_price": "2.5", "completion_price": "10"}
    rows = [
        {"id": dear.pk, "endpoint": endpoint.pk, "upstream_name": "", "kind": "chat", **prices},
        {"id": old.pk, "endpoint": endpoint.pk, "kind": "chat", "DELETE": "on"},
    ]
    sent = {"new_key": "", "concurrency": 8, **served(*rows, initial=2)}
    assert client.post(page, sent).status_code == 302
    model = endpoint.models.get()
    assert (model.name, model.prompt_price, model.completion_price) == ("dear", 2.5, 10)
    actions = AuditEvent.objects.filter(object_type="servedmodel").order_by("pk")
    assert list(actions.values_list("action", flat=True)) == ["model.remove", "model.price"]
    rows[0] |= {"prompt_price": "-1"}
    client.post(page, {**sent, **served(rows[0], initial=1)})
    model.refresh_from_db()
    assert model.prompt_price == 2.5


def test_a_kept_completion_is_shown_with_its_messages_and_to_its_account_alone(client):
    actor = sign_in(client, Role.VIEWER)
    kept, foreign = keep_completion(actor), keep_completion(make_actor(), model="theirs")
    listed = text_of(client.get(page_of("storedcompletion")))
    assert str(kept.pk) in listed
    assert "theirs" not in listed
    page = page_of("storedcompletion", "change", kept.pk)
    assert "kept words" in text_of(client.get(page))
    assert client.post(page, {"model": "other"}).status_code == 403
    assert client.get(page_of("storedcompletion", "change", foreign.pk)).status_code == 302
    assert client.get(page_of("storedcompletion", "add")).status_code == 403
    StoredCompletion.objects.update(deleted_at=timezone.now())
    assert client.get(page).status_code == 302


def test_staff_add_endpoints_to_their_own_accounts_alone(client):
    sign_in(client, Role.ADMIN)
    given = {
        "account": make_actor().account.pk,
        "url": "http://models.example.com/v1",
        "concurrency": 8,
        **served(),
    }
    assert client.post(page_of("modelendpoint", "add"), given).status_code == 200
    assert not ModelEndpoint.objects.exists()


def test_settings_are_made_in_the_admin_and_secret_ones_shown_nowhere(client):
    actor = sign_in(client, Role.ADMIN)
    endpoint = make_endpoint(actor)
    page = page_of("modelendpoint", "change", endpoint.pk)
    given = {
        "concurrency": 8,
        "is_unchecked": "on",
        "key_header": "api-key",
        "query": "api-version=2024-10-21",
        "call_seconds": "300",
        "strips_think": "on",
        "plain_headers": "X-Title: evals\n\nX-A: 1",
        "new_secret_headers": "X-Token: tok-secret",
        "new_proxy": "http://me:pass@proxy.example.com:3128",
        **served(),
    }
    assert client.post(page, given).status_code == 302
    endpoint.refresh_from_db()
    assert extras_of(endpoint) == Extras(
        key_header="api-key",
        headers={"X-Title": "evals", "X-A": "1"},
        secret_headers={"X-Token": "tok-secret"},
        query="api-version=2024-10-21",
        proxy="http://me:pass@proxy.example.com:3128",
        strips_think=True,
    )
    assert endpoint.call_seconds == 300
    shown = text_of(client.get(page))
    assert "X-Title: evals" in shown
    for url in (page, page_of("modelendpoint")):
        assert not any(word in text_of(client.get(url)) for word in ("tok-secret", "pass@"))
    # What is secret stays where nothing is said of it, and goes where that is said.
    del given["strips_think"]
    client.post(page, {**given, "new_secret_headers": "", "new_proxy": ""})
    endpoint.refresh_from_db()
    assert extras_of(endpoint).secret_headers == {"X-Token": "tok-secret"}
    assert extras_of(endpoint).proxy
    client.post(page, {**given, "new_secret_headers": "x-token:", "new_proxy": "-"})
    endpoint.refresh_from_db()
    assert extras_of(endpoint).secret_headers == {}
    assert not extras_of(endpoint).proxy
    assert not endpoint.strips_think


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"plain_headers": "no colon"}, "Name: value"),
        ({"new_secret_headers": "X-A: ключ-секрет"}, "printable ASCII"),
        ({"new_proxy": "socks5://secret-host"}, "http://"),
        ({"key_header": "a key"}, "no name of a header"),
        ({"call_seconds": "-1"}, "call_seconds"),
        ({"query": "a b"}, "as in a URL"),
    ],
)
def test_settings_that_no_request_can_carry_are_refused(client, wrong, words):
    endpoint = make_endpoint(sign_in(client, Role.ADMIN))
    page = page_of("modelendpoint", "change", endpoint.pk)
    answer = client.post(page, {"concurrency": 8, "is_unchecked": "on", **served(), **wrong})
    assert words in said(answer)
    assert "secret" not in said(answer).lower().replace("secret_headers", "")


def test_a_server_is_looked_at_before_it_is_stored_and_its_url_corrected(client, server):
    actor = sign_in(client, Role.ADMIN)
    given = {
        **{"account": actor.account.pk, "concurrency": 8, "allow_private": "on"},
        **served({"name": "echo", "upstream_name": "", "kind": "chat"}),
    }
    add = page_of("modelendpoint", "add")
    answer = client.post(add, {**given, "url": f"{server.url}/nothing"})
    assert "no such route" in said(answer)
    assert not ModelEndpoint.objects.exists()
    answer = client.post(add, {**given, "url": f"{server.url}/v1/chat/completions"})
    assert f"stored as {server.base_url}, without /chat/completions" in said(answer)
    assert ModelEndpoint.objects.get().base_url == server.base_url
    ModelEndpoint.objects.all().delete()
    answer = client.post(add, {**given, "url": server.url})
    assert "without /v1 nothing answers" in said(answer)
    assert ModelEndpoint.objects.get().base_url == server.base_url


def test_a_change_that_leads_nowhere_is_refused_and_one_of_a_limit_is_not_looked_at(client, server):
    endpoint = make_endpoint(sign_in(client, Role.ADMIN), base_url="http://127.0.0.1:9/v1")
    page = page_of("modelendpoint", "change", endpoint.pk)
    given = {"concurrency": 3, **served()}
    assert "could not be reached" not in said(client.post(page, given))
    endpoint.refresh_from_db()
    assert endpoint.concurrency == 3
    answer = client.post(page, {**given, "new_key": "sk-new", "allow_private": "on"})
    assert "could not be reached" in said(answer)
    endpoint.refresh_from_db()
    assert endpoint.api_key == ""


def test_the_test_button_asks_every_model_for_a_word(client, server):
    actor = sign_in(client, Role.ADMIN)
    models = ["echo", "fail-404", "like:gemini"]
    endpoint = make_endpoint(
        actor,
        base_url=server.base_url,
        models=models,
        embedding_models=["vectors"],
        allow_private=True,
    )
    page = page_of("modelendpoint", "change", endpoint.pk)
    assert "_test" in text_of(client.get(page))
    words = said(client.post(page, {"_test": "Test"}))
    assert "echo answered 'Reply with one word: yes'" in words
    assert "fail-404: The model server answered 404" in words
    assert "vectors answered a vector of 8 numbers" in words
    assert "does not list fail-404" in words
    reader = sign_in(client, Role.VIEWER, account=actor.account)
    before = server.counts()["total"]
    assert client.post(page, {"_test": "Test"}).status_code in {302, 403}
    assert server.counts()["total"] == before, reader


def test_what_a_server_refuses_is_shown_on_its_page_and_forgotten_there(client):
    actor = sign_in(client, Role.ADMIN)
    endpoint = make_endpoint(actor)
    other = make_endpoint(make_actor())
    lesson = Lesson("one", "seed", "Unknown name seed")
    remember([(endpoint.pk, lesson), (other.pk, lesson)])
    page = page_of("modelendpoint", "change", endpoint.pk)
    shown = text_of(client.get(page))
    assert "seed is refused: it is left out." in shown
    assert "Unknown name seed" in shown
    quirk, foreign = endpoint.quirks.get(), other.quirks.get()
    for row in (foreign, quirk):
        rows = {
            **{"quirks-TOTAL_FORMS": 1, "quirks-INITIAL_FORMS": 1},
            **{"quirks-0-id": row.pk, "quirks-0-endpoint": endpoint.pk, "quirks-0-DELETE": "on"},
        }
        client.post(page, {"concurrency": 8, **served(), **rows})
    assert not endpoint.quirks.exists()
    assert other.quirks.get() == foreign
