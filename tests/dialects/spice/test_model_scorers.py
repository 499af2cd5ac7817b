"""Judges and embedding models of the account as scorers of POST /v1/evals/{name}, by name."""

import json
from typing import Any

import pytest

from apps.inference.endpoints import add_endpoint
from apps.inference.models import ServedModel
from tests.dialects.spice.caller import Caller
from tests.judgements import judgement
from tests.model_server import ModelServer

pytestmark = pytest.mark.django_db(transaction=True)

PROMPT = "Input {{ input }}, actual {{ actual }}, ideal {{ ideal }}."
CHOICES = [{"index": 0, "message": {"role": "assistant", "content": "[0, 1]"}}]


def declare(caller: Caller, server: ModelServer, reply: str, **fields: Any) -> None:
    add_endpoint(
        caller.actor,
        base_url=server.base_url,
        aliases={"referee": f"answer:{reply}"},
        embedding_models=["small_embed"],
        allow_private=True,
    )
    ServedModel.objects.filter(name="referee").update(**fields)


def test_a_declared_judge_scores_by_its_prompt_and_an_embedding_model_by_its_distance(
    caller: Caller, model_server: ModelServer, working: None
) -> None:
    declare(
        caller,
        model_server,
        '{"score": 2.5}',
        system_prompt=PROMPT,
        prompt_is_template=True,
        params='{"temperature": 0}',
    )
    caller.have(items=[{"input": "[1, 0]", "ideal": "[0, 1]"}], scorers=["referee", "small_embed"])
    told = caller.post().json()
    assert (told["status"], told["error_message"]) == ("completed", None)
    assert told["metrics"] == {
        "referee/mean": 2.5,
        "small_embed/mean": pytest.approx(2**0.5 - 1),
    }
    exchange = json.loads(judgement(name="referee").exchange or "")
    assert exchange["input"] == [
        {"role": "system", "content": "Input [1, 0], actual [1, 0], ideal [0, 1]."},
        {"role": "user", "content": ""},
    ]
    assert exchange["params"] == {"temperature": 0}


def test_a_judge_of_choices_sees_lists_and_embeddings_the_first_content(
    caller: Caller, model_server: ModelServer, working: None
) -> None:
    prompt = "{{ actual[0].message.content }} {{ ideal[0].message.content }} {{ input }}"
    declare(caller, model_server, '{"score": 1}', system_prompt=prompt, prompt_is_template=True)
    caller.have(
        items=[{"input": "[1, 0]", "ideal": CHOICES}], scorers=["referee", "small_embed", "match"]
    )
    told = caller.post().json()
    assert told["status"] == "completed", told
    assert told["metrics"] == {
        "referee/mean": 1,
        "small_embed/mean": pytest.approx(2**0.5 - 1),
        "match/mean": 0,
    }
    exchange = json.loads(judgement(name="referee").exchange or "")
    assert exchange["input"][0]["content"] == "[1, 0] [0, 1] [1, 0]"


def test_of_several_ideals_a_judge_sees_the_array_and_embeddings_take_the_closest(
    caller: Caller, model_server: ModelServer, working: None
) -> None:
    declare(
        caller,
        model_server,
        '{"score": 1}',
        system_prompt=PROMPT,
        prompt_is_template=True,
    )
    ideals = ["[9, 9]", "[0, 1]"]
    caller.have(items=[{"input": "[1, 0]", "ideal": ideals}], scorers=["referee", "small_embed"])
    told = caller.post().json()
    assert told["metrics"] == {"referee/mean": 1, "small_embed/mean": pytest.approx(2**0.5 - 1)}
    exchange = json.loads(judgement(name="referee").exchange or "")
    assert exchange["input"][0]["content"] == (
        'Input [1, 0], actual [1, 0], ideal ["[9, 9]","[0, 1]"].'
    )


@pytest.mark.parametrize(
    ("reply", "mean"),
    [
        ('```json\n{"score": 2.5}\n```', 2.5),
        ('<think>Say {"score": 1}.</think> I say {"score": "2.5"}.', 2.5),
        ('First {"score": 1}, and then {"score": -3}', -3),
    ],
)
def test_a_judges_score_is_found_in_what_it_puts_around_it(
    caller: Caller, model_server: ModelServer, working: None, reply: str, mean: float
) -> None:
    declare(caller, model_server, reply)
    caller.have(scorers=["referee"])
    told = caller.post().json()
    assert (told["status"], told["error_message"]) == ("completed", None)
    assert told["metrics"] == {"referee/mean": mean}


@pytest.mark.parametrize(
    ("reply", "prompt"),
    [("prose", ""), ('{"score": 1}', "{{ ideal"), ('{"score": 1}', "{{ x() }}")],
)
def test_a_judge_that_gives_no_score_or_has_a_broken_prompt_fails_the_run_with_its_name(
    caller: Caller, model_server: ModelServer, working: None, reply: str, prompt: str
) -> None:
    declare(caller, model_server, reply, system_prompt=prompt, prompt_is_template=True)
    caller.have(scorers=["match", "referee"])
    answer = caller.post()
    assert answer.status_code == 200, answer.content
    told = answer.json()
    assert (told["status"], told["metrics"]) == ("failed", {})
    assert "referee" in told["error_message"]
