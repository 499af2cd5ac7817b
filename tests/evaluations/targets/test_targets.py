"""Targets: a kind says all that is needed of it, and one line makes it known."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import pytest
from django.urls import reverse

from apps.evaluations.engine.worker import Worker
from apps.evaluations.models import Evaluation, Result, Run
from apps.evaluations.services.estimates import estimate_regrade
from apps.evaluations.services.regrades import regrade_run
from apps.evaluations.targets import TARGETS, Answer, Answerer, Chat, Recorded, Row, Target
from apps.evaluations.targets.base import Prepared, exchange_of
from apps.grading.samples import complete_sample
from apps.inference.attached_models import Models
from tests.factories import SAME, ask, make_actor, make_endpoint, make_evaluation, make_run
from tests.web.worked import browser_of


@dataclass(frozen=True)
class Parrot(Target):
    """Answers what the row says, so many times."""

    kind = "parrot"
    waits = True

    model: str
    times: int

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> Self:
        return cls(stored["model"], stored["times"])

    def prepare(self, evaluation: Evaluation) -> Prepared:
        return Prepared({"kind": self.kind, "model": self.model, "times": self.times})

    def open(self, models: Models) -> Answerer:
        return self

    async def answer(self, row: Row, repeat: int) -> Answer:
        said = row.item["label"] * self.times
        message = {"role": "assistant", "content": said}
        return Answer(complete_sample({"choices": [{"message": message}]}), exchange_of([], {}))


@pytest.mark.django_db(transaction=True)
def test_a_new_kind_is_a_class_and_its_line(monkeypatch, settings):
    settings.ENGINE_LINGER_SECONDS = 0.1
    monkeypatch.setitem(TARGETS, Parrot.kind, Parrot)
    actor = make_actor()
    run = make_run(actor, source=3, target=Parrot("polly", 1))
    Worker().run()
    run.refresh_from_db()
    assert (run.state, run.model, run.passed_count) == (Run.State.COMPLETED, "polly", 3)
    assert estimate_regrade(actor, run).calls == 0
    again = regrade_run(actor, run)
    Worker().run()
    again.refresh_from_db()
    assert (again.state, again.passed_count) == (Run.State.COMPLETED, 3)
    assert Result.objects.of_run(again).count() == 3
    page = browser_of(actor).get(reverse("web:run", args=[run.pk]))
    assert page.status_code == 200
    assert "polly" in page.content.decode()


@pytest.mark.django_db
@pytest.mark.parametrize(
    "target",
    [
        Recorded(),
        Chat("m", [{"role": "user", "content": "{{ item.label }}"}], params={"temperature": 0}),
        Chat("m", reference="item.messages", takes_text=True),
    ],
)
def test_what_a_run_keeps_is_read_again(target):
    actor = make_actor()
    make_endpoint(actor, "http://127.0.0.1:9/v1")
    stored = target.prepare(make_evaluation(actor, criteria=[SAME])).stored
    found = TARGETS[stored["kind"]].read(stored)
    assert found.prompt == target.prompt
    assert found.prepare(make_evaluation(actor, criteria=[SAME])).stored == stored


@pytest.mark.django_db
@pytest.mark.parametrize(("name", "calls"), [("m", 1), ("builtin/echo", 0)])
def test_what_is_built_in_asks_no_server(name, calls):
    actor = make_actor()
    make_endpoint(actor, "http://127.0.0.1:9/v1")
    run = make_run(actor, source=1, target=ask(name))
    target = TARGETS["chat"].read(run.read_target())
    assert (len(target.addresses), target.calls_of_item) == (1, calls)


@pytest.mark.parametrize(
    ("params", "limit"),
    [
        ({}, None),
        ({"max_tokens": 5}, 5),
        ({"max_tokens": 5, "max_completion_tokens": 7}, 7),
        ({"max_tokens": 0}, None),
        ({"max_tokens": "5"}, None),
    ],
)
def test_a_reply_is_limited_by_what_the_request_says(params, limit):
    assert Chat("m", params=params).reply_limit == limit
