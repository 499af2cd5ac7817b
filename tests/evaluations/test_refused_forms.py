"""A run tells which forms of its requests its servers refuse, and no others."""

from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from apps.clients import Lesson
from apps.evaluations.models import Run
from apps.evaluations.reports import refused_forms
from apps.evaluations.services.evaluations import NewCriterion
from apps.inference.learned_quirks import remember
from apps.inference.models import LearnedQuirk
from tests.factories import ask, make_actor, make_endpoint, make_evaluation, make_run

pytestmark = pytest.mark.django_db
JUDGED = NewCriterion(
    "label_model",
    "polite",
    {
        **{"model": "judge", "labels": ["good", "bad"], "passing_labels": ["good"]},
        "input": [{"role": "user", "content": "{{ item.text }}"}],
    },
)


@pytest.fixture
def actor():
    return make_actor()


@pytest.fixture
def run(actor):
    endpoint = make_endpoint(actor, "http://127.0.0.1:9/v1", models=["m", "judge", "other"])
    evaluation = make_evaluation(actor, criteria=(JUDGED,))
    target = ask("m", params={"seed": 7})
    made = make_run(actor, evaluation=evaluation, source=2, target=target)
    lessons = [
        *(Lesson("m", quirk, "") for quirk in ("seed", "top_p", "developer")),
        Lesson("judge", "response_format:json_schema", ""),
        Lesson("other", "seed", ""),
    ]
    remember([(endpoint.pk, lesson) for lesson in lessons])
    return made


def told(run):
    return {one.model: one.sentences for one in refused_forms(run)}


def test_what_the_prompt_meets_is_told_and_all_of_a_judge(run):
    assert told(run) == {
        "m": ["seed is refused: it is left out."],
        "judge": ["response_format of the type json_schema is refused: it is left out."],
    }


def test_what_was_learned_after_the_runs_end_is_not_told(run):
    Run.objects.filter(pk=run.pk).update(finished_at=timezone.now())
    run.refresh_from_db()
    LearnedQuirk.objects.update(learned_at=timezone.now() + timedelta(hours=1))
    assert told(run) == {}


def test_a_run_that_asks_nobody_has_nothing_to_tell(actor):
    assert told(make_run(actor)) == {}


def test_the_page_of_a_run_shows_it(run, actor, client):
    client.force_login(actor.user)
    page = client.get(reverse("web:run", args=[run.pk])).content.decode()
    assert "seed is refused: it is left out." in page
    assert "top_p is refused" not in page
