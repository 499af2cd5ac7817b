"""Runs whose criteria ask models, run code or compare embeddings, all at once."""

import json
from pathlib import Path

import pytest

from apps.accounts.models import Actor
from apps.errors import Invalid, Unfit, dotted
from apps.evaluations.models import Result, Run
from apps.evaluations.services.evaluations import NewCriterion, create_evaluation
from apps.evaluations.services.runs import start_run
from apps.evaluations.tally import CALLS, Tally
from apps.evaluations.targets import Recorded
from apps.inference.endpoints import add_endpoint
from apps.inference.served_models import UnknownModel
from apps.sandbox import choose, find_runner
from tests.evaluations.engine.plain_runs import GOOD, INPUT, SAME, chat, labels, rows, worked
from tests.factories import make_actor
from tests.judgements import judgement, judgements
from tests.model_server import ModelServer

pytestmark = pytest.mark.django_db(transaction=True)

HALF = 'answer:{"steps": [], "result": 0.5}'


@pytest.fixture
def actor() -> Actor:
    return make_actor()


def number(model: str = HALF) -> NewCriterion:
    return NewCriterion("score_model", "number", {"model": model, "input": INPUT})


def code(source: str) -> NewCriterion:
    return NewCriterion("python", "code", {"source": source})


def serve(actor: Actor, server: ModelServer, *models: str) -> None:
    add_endpoint(actor, base_url=server.base_url, models=models, allow_private=True, concurrency=8)


def test_target_and_judges_share_an_endpoint_and_every_call_is_counted(
    actor: Actor, server: ModelServer
) -> None:
    serve(actor, server, "m", GOOD, HALF)
    evaluation = create_evaluation(actor, criteria=[SAME, labels(), number()], has_sample=True)
    run = worked(start_run(actor, evaluation, source=rows(120, right=0), target=chat()))
    assert (run.state, run.passed_count, run.errored_count) == (Run.State.COMPLETED, 120, 0)
    usage = {model: sums[CALLS] for model, sums in Tally.load(run.tally).models.items()}
    assert usage == {"m": 120, GOOD: 120, HALF: 120}
    counts = server.counts()
    assert counts["total"] == 360
    assert counts["max_in_flight"] <= 8


def test_what_a_judge_was_asked_is_kept_with_its_score(actor: Actor, server: ModelServer) -> None:
    serve(actor, server, GOOD)
    evaluation = create_evaluation(actor, criteria=[labels()], has_sample=True)
    worked(start_run(actor, evaluation, source=rows(1, right=1), target=Recorded()))
    score = judgement()
    assert score.exchange is not None
    exchange = json.loads(score.exchange)
    assert exchange["input"] == [{"role": "user", "content": "Judge text 0"}]
    assert json.loads(exchange["choices"][0]["message"]["content"])["result"] == "good"


@pytest.mark.parametrize("model", ["refusal", "empty", "fail-400", "answer:prose", "garbage"])
def test_a_judge_without_a_verdict_errs_the_item_and_the_run_completes(
    model: str, actor: Actor, server: ModelServer
) -> None:
    serve(actor, server, model)
    evaluation = create_evaluation(actor, criteria=[labels(model), SAME], has_sample=True)
    run = worked(start_run(actor, evaluation, source=rows(2, right=2), target=Recorded()))
    assert (run.state, run.errored_count) == (Run.State.COMPLETED, 2)
    score = next(one for one in judgements() if one.criterion.kind == "label_model")
    assert score.is_errored
    assert score.error_message
    # The other criterion's verdict stands.
    assert [one.passed for one in judgements() if one.criterion.kind == "string_check"] == [
        True,
        True,
    ]


def test_an_unknown_judge_is_refused_when_the_evaluation_is_made_and_when_a_run_starts(
    actor: Actor, server: ModelServer
) -> None:
    with pytest.raises(Unfit) as refused:
        create_evaluation(actor, criteria=[SAME, labels("nobody")], has_sample=True)
    assert dotted(refused.value.problems[0].path) == "criteria[1].model"
    serve(actor, server, GOOD)
    evaluation = create_evaluation(actor, criteria=[labels()], has_sample=True)
    add_endpoint(actor, base_url=server.base_url).models.all().delete()
    with pytest.raises(UnknownModel):
        start_run(actor, evaluation, source=rows(1, right=1), target=Recorded())


def test_code_grades_every_row_and_what_it_raises_fails_that_row_alone(actor: Actor) -> None:
    if find_runner() is None:
        pytest.skip("no sandbox on this machine")
    source = "def grade(sample, item):\n    return 1 / (int(item['text'][5:]) - 3)\n"
    evaluation = create_evaluation(actor, criteria=[code(source)], has_sample=True)
    run = worked(start_run(actor, evaluation, source=rows(40, right=0), target=Recorded()))
    # Rows 0 to 2 are below zero, row 3 divides by it, the rest pass.
    assert (run.passed_count, run.failed_count, run.errored_count) == (36, 4, 0)
    score = judgement(row_index=3)
    assert (score.value, score.passed) == (0.0, False)
    assert "ZeroDivisionError" in score.error_message
    assert Result.objects.get(row_index=3).state == Result.State.FAILED


def test_a_machine_without_a_sandbox_errs_that_criterion_alone_and_starts_no_further_run(
    actor: Actor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if find_runner() is None:
        pytest.skip("no sandbox on this machine")
    source = "def grade(sample, item): return 1"
    criteria = [code(source), SAME]
    evaluation = create_evaluation(actor, criteria=criteria, has_sample=True)
    run = start_run(actor, evaluation, source=rows(3, right=3), target=Recorded())
    monkeypatch.setattr(choose, "_choice", choose.Choice(tmp_path, wanted="none"))
    run = worked(run)
    with pytest.raises(Unfit, match="make sandbox") as refused:
        start_run(actor, evaluation, source=rows(1, right=1), target=Recorded())
    with pytest.raises(Invalid, match="install bubblewrap"):
        create_evaluation(actor, criteria=[code(source)], has_sample=True)
    assert dotted(refused.value.problems[0].path) == "criteria"
    assert run.state == Run.State.COMPLETED
    scores = {(score.criterion.kind, score.error_code) for score in judgements()}
    assert scores == {("python", "sandbox_unavailable"), ("string_check", "")}


def distance(model: str) -> NewCriterion:
    settings = {"model": model, "input": "[1, 0]", "reference": "[0, 1]"}
    return NewCriterion("embedding_distance", "distance", settings)


COSINE = NewCriterion(
    "text_similarity",
    "angle",
    {"input": "[1, 0]", "reference": "[2, 0]", "metric": "cosine"},
)


def test_a_grader_asks_the_embedding_model_it_names_and_another_the_oldest(
    actor: Actor, server: ModelServer
) -> None:
    for name in ("z-oldest", "a-newer"):
        add_endpoint(actor, base_url=server.base_url, embedding_models=[name], allow_private=True)
    evaluation = create_evaluation(actor, criteria=[distance("a-newer"), COSINE], has_sample=True)
    run = worked(start_run(actor, evaluation, source=rows(3, right=3), target=Recorded()))
    assert (run.state, run.errored_count) == (Run.State.COMPLETED, 0)
    values = {score.criterion.name: score.value for score in judgements()}
    assert values == {"distance": pytest.approx(2**0.5 - 1), "angle": pytest.approx(1.0)}
    usage = {model: sums[CALLS] for model, sums in Tally.load(run.tally).models.items()}
    assert usage == {"a-newer": 3, "z-oldest": 3}
    assert server.counts()["models"] == usage


def test_a_name_that_is_no_embedding_model_of_the_account_is_refused(
    actor: Actor, server: ModelServer
) -> None:
    serve(actor, server, "talker")
    add_endpoint(
        make_actor(), base_url=server.base_url, embedding_models=["theirs"], allow_private=True
    )
    for name in ("talker", "theirs", "builtin/echo"):
        with pytest.raises(Unfit) as refused:
            create_evaluation(actor, criteria=[SAME, distance(name)], has_sample=True)
        assert (dotted(refused.value.problems[0].path), refused.value.code) == (
            "criteria[1].model",
            "model_not_found",
        )


def test_a_value_too_large_to_be_summed_errs_its_item_alone(
    actor: Actor, server: ModelServer
) -> None:
    vast = 'answer:{"steps": [], "result": 1e200}'
    serve(actor, server, vast)
    judge = NewCriterion("score_model", "vast", {**number(vast).settings, "range": [0, 1e300]})
    evaluation = create_evaluation(actor, criteria=[judge, SAME], has_sample=True)
    run = worked(start_run(actor, evaluation, source=rows(2, right=2), target=Recorded()))
    assert (run.state, run.errored_count) == (Run.State.COMPLETED, 2)
    score = next(one for one in judgements() if one.criterion.name == "vast")
    assert (score.value, score.error_code) == (None, "grader_failed")
