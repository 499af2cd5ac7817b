"""What servers refuse is kept per endpoint and model, within bounds, and forgotten when told so."""

import pytest
from django.core.exceptions import PermissionDenied

from apps.accounts.models import AuditEvent
from apps.accounts.roles import Role
from apps.clients import Lesson
from apps.ids import new_id
from apps.inference import learned_quirks
from apps.inference.learned_quirks import forget_quirk, lessons_of, remember
from apps.inference.models import LearnedQuirk
from tests.factories import make_actor, make_endpoint

pytestmark = pytest.mark.django_db


@pytest.fixture
def actor():
    return make_actor()


def known(endpoint):
    lessons = lessons_of([endpoint.pk], lambda learned: None)[endpoint.pk]
    return {model: list(quirks) for model, quirks in lessons.quirks.items()}


def test_what_is_learned_is_known_of_that_endpoint_and_model_once(actor):
    first = make_endpoint(actor, "http://127.0.0.1:9/v1")
    second = make_endpoint(actor, "http://127.0.0.1:8/v1", models=["n"])
    lesson = Lesson("m", "seed", "it says so")
    for _ in range(2):
        remember([(first.pk, lesson), (first.pk, lesson), (first.pk, Lesson("m", "top_p", ""))])
    assert known(first) == {"m": ["seed", "top_p"]}
    assert known(second) == {}
    assert LearnedQuirk.objects.get(quirk="seed").words == "it says so"


def test_a_client_tells_what_it_learns_and_not_what_was_known(actor):
    endpoint = make_endpoint(actor, "http://127.0.0.1:9/v1")
    remember([(endpoint.pk, Lesson("m", "seed", ""))])
    told = []
    lessons = lessons_of([endpoint.pk], told.append)[endpoint.pk]
    lessons.learn("m", ["seed", "top_p"], "words")
    assert told == [(endpoint.pk, Lesson("m", "top_p", "words"))]


def test_an_endpoint_that_is_gone_is_passed_over(actor):
    endpoint = make_endpoint(actor, "http://127.0.0.1:9/v1")
    remember([(new_id(), Lesson("m", "seed", "")), (endpoint.pk, Lesson("m", "seed", ""))])
    assert known(endpoint) == {"m": ["seed"]}


def test_the_oldest_go_beyond_the_bound(actor, monkeypatch):
    monkeypatch.setattr(learned_quirks, "QUIRKS_MAX", 3)
    endpoint = make_endpoint(actor, "http://127.0.0.1:9/v1")
    for number in range(5):
        remember([(endpoint.pk, Lesson(f"m{number}", "seed", "x" * 5_000))])
    assert sorted(known(endpoint)) == ["m2", "m3", "m4"]
    assert {len(row.words) for row in LearnedQuirk.objects.all()} == {1_000}


def test_who_manages_the_account_forgets_a_quirk_and_nobody_else(actor):
    endpoint = make_endpoint(actor, "http://127.0.0.1:9/v1")
    remember([(endpoint.pk, Lesson("m", "seed", ""))])
    quirk = LearnedQuirk.objects.get()
    for stranger in (make_actor(Role.EDITOR, account=actor.account), make_actor()):
        with pytest.raises(PermissionDenied):
            forget_quirk(stranger, quirk)
    forget_quirk(actor, quirk)
    assert known(endpoint) == {}
    assert AuditEvent.objects.filter(action="endpoint.forget").exists()
