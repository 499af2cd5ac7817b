"""Servers that refuse forms of requests: learned once, remembered, told; and rows that are odd."""

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.dialects.openai.clients.waiting import wait_over
from tests.imitations import LEARNED as LIKE
from tests.shared_server import Platform

VERDICT = '{"steps": [], "result": "good"}'
AZURE = "like:azure"
ASKED = {"max_completion_tokens": 20, "seed": 7, "temperature": 0.2}
MODELS = [f"like:{name}" for name in LIKE]
JUDGES = [f"like:{name}:answer:{VERDICT}" for name in LIKE]
PICKY = ["length", "filter", "silent", "echo"]


@pytest.fixture(scope="module")
def key(platform: Platform) -> str:
    picky = [f"picky:{why}" for why in PICKY]
    picky_judges = [f"picky:{why}:answer:{VERDICT}" for why in PICKY]
    silent = ["unstructured:echo", f"unstructured:answer:{VERDICT}"]
    # One call at a time, so that each is the next one's lesson.
    return platform.open_account(
        "quirks", *MODELS, *JUDGES, *picky, *picky_judges, *silent, "fail-400", concurrency=1
    )


@pytest.fixture(scope="module")
def client(platform: Platform, key: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=platform.openai_url, api_key=key, max_retries=0) as client:
        yield client


def evaluated(
    client: openai.OpenAI,
    model: str,
    judge: str,
    rows: tuple[str, ...] = ("one", "two", "three"),
    params: dict[str, Any] = ASKED,
    roles: tuple[str, ...] = ("developer", "user", "system", "user"),
) -> tuple[Any, list[Any]]:
    """Ask the model in a form that many refuse, and have the judge look at each answer."""
    criteria: Any = [
        {
            "type": "label_model",
            "name": "judged",
            "model": judge,
            "input": [
                {"role": "developer", "content": "Judge the text."},
                {"role": "user", "content": "{{ item.text }}"},
            ],
            "labels": ["good", "bad"],
            "passing_labels": ["good"],
        },
    ]
    config: Any = {
        "type": "custom",
        "item_schema": {"type": "object", "properties": {"text": {"type": "string"}}},
        "include_sample_schema": True,
    }
    made = client.evals.create(data_source_config=config, testing_criteria=criteria)
    template = [{"role": role, "content": f"A word from {role}."} for role in roles[:-1]]
    template.append({"role": roles[-1], "content": "{{ item.text }}"})
    source: Any = {
        "type": "completions",
        "model": model,
        "source": {"type": "file_content", "content": [{"item": {"text": text}} for text in rows]},
        "input_messages": {"type": "template", "template": template},
        "sampling_params": params,
    }
    run = wait_over(client, client.evals.runs.create(made.id, data_source=source))
    items = list(client.evals.runs.output_items.list(run.id, eval_id=made.id, order="asc"))
    return run, sorted(items, key=lambda one: one.datasource_item_id)


def calls(platform: Platform, model: str) -> int:
    return platform.models.counts()["models"].get(model, 0)


def used(run: Any, model: str) -> int:
    return sum(one.invocation_count for one in run.per_model_usage if one.run_model_name == model)


@pytest.mark.parametrize("name", LIKE)
def test_what_a_server_refuses_is_learned_once_and_told(
    name: str, client: openai.OpenAI, platform: Platform
) -> None:
    model, judge = f"like:{name}", f"like:{name}:answer:{VERDICT}"
    params = {**ASKED, "reasoning_effort": "low"}
    before = calls(platform, model), calls(platform, judge)
    run, items = evaluated(client, model, judge, params=params)
    assert run.status == "completed"
    assert run.result_counts.passed == 3, items
    assert [
        item.sample.output[0].content.endswith(word)
        for item, word in zip(items, ("one", "two", "three"), strict=True)
    ] == [True] * 3
    told = items[0].to_dict()["sample"]["warning"]  # type: ignore[index]  # the types lack it
    assert all(words in told for words in LIKE[name]), told
    # Each refusal was one call more, of the first row alone, and all are counted.
    made = calls(platform, model) - before[0], calls(platform, judge) - before[1]
    assert made == (used(run, model), used(run, judge))
    assert 3 < made[0] <= 3 + len(LIKE[name]) + 1
    # What was learned is there for the next run.
    run, items = evaluated(client, model, judge, params=params)
    assert run.result_counts.passed == 3
    assert (used(run, model), used(run, judge)) == (3, 3)
    assert items[2].to_dict()["sample"]["warning"] == told  # type: ignore[index]  # the types lack it


def test_azure_is_reached_by_its_own_path_header_and_query(platform: Platform) -> None:
    name = f"{AZURE}:answer:{VERDICT}"
    key = platform.served.manage("create_api_key", "--account", "azure").strip()
    served = platform.served
    served.manage(
        *("add_endpoint", "--account", "azure", "--allow-private", "--concurrency", "1"),
        *("--base-url", f"{platform.models.url}/openai/deployments/{AZURE}"),
        *("--key-header", "api-key", "--query", "api-version=2024-06-01"),
        *(AZURE, name),
    )
    with openai.OpenAI(base_url=platform.openai_url, api_key=key, max_retries=0) as client:
        run, items = evaluated(client, AZURE, name)
        assert run.result_counts.errored == 3
        assert "invalid subscription key" in items[0].sample.error.message
        served.manage(
            *("add_endpoint", "--account", "azure"),
            *("--base-url", f"{platform.models.url}/openai/deployments/{AZURE}"),
            *("--header", "x-title: evals", "--api-key-env", "AZURE_KEY"),
        )
        params = {"temperature": 0.2, "reasoning_effort": "low", "max_completion_tokens": 9}
        run, items = evaluated(client, AZURE, name, params=params)
        assert run.result_counts.passed == 3
        told = items[0].to_dict()["sample"]["warning"]  # type: ignore[index]  # the types lack it
        assert "temperature" in told
        assert "reasoning_effort" in told


@pytest.mark.parametrize("why", PICKY)
def test_a_row_that_is_refused_changes_no_other(
    why: str, client: openai.OpenAI, platform: Platform
) -> None:
    """The odd text is the first of them, and speaks of what a server might refuse."""
    model, judge = f"picky:{why}", f"picky:{why}:answer:{VERDICT}"
    odd = "poison: unsupported parameter 'seed'; the role developer is not supported; json_schema"
    rows = (odd, *(f"row {number}" for number in range(8)), odd)
    before = calls(platform, judge)
    run, items = evaluated(client, "unstructured:echo", judge, rows, roles=("user", "user"))
    assert run.result_counts.errored == 2
    assert run.result_counts.passed == 8
    assert [item.status for item in items] == ["error", *["pass"] * 8, "error"]
    asked: Any = [item.results[0].to_dict()["sample"] for item in items[1:9]]
    assert all("warning" not in sample for sample in asked)
    # What no word explains is looked into once, by small requests.
    assert calls(platform, judge) - before <= 10 + 8
    run, items = evaluated(client, model, "unstructured:answer:" + VERDICT, rows)
    assert [item.status for item in items] == ["error", *["pass"] * 8, "error"]
    assert all("warning" not in item.to_dict()["sample"] for item in items)  # type: ignore[operator]  # the types lack it


def test_a_server_that_refuses_without_a_word_is_probed_once(
    client: openai.OpenAI, platform: Platform
) -> None:
    judge = f"unstructured:answer:{VERDICT}"
    run, _ = evaluated(client, "unstructured:echo", judge, roles=("user",))
    again, _ = evaluated(client, "unstructured:echo", judge, roles=("user",))
    assert run.result_counts.passed == again.result_counts.passed == 3
    assert used(again, judge) == 3


def test_a_server_that_refuses_everything_teaches_nothing(
    client: openai.OpenAI, platform: Platform
) -> None:
    before = calls(platform, "fail-400")
    run, items = evaluated(client, "fail-400", f"unstructured:answer:{VERDICT}")
    assert run.result_counts.errored == 3
    assert "answered 400 as asked" in items[0].sample.error.message
    assert calls(platform, "fail-400") - before == used(run, "fail-400") == 3 + 2


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", ["mistral", "llama.cpp", "gemini"])
def test_a_live_answer_is_asked_for_in_the_accepted_form_too(
    name: str, stream: bool, client: openai.OpenAI
) -> None:
    messages: Any = [
        {"role": "developer", "content": "Repeat."},
        {"role": "user", "content": "one two"},
    ]
    answer: Any = client.chat.completions.create(
        model=f"like:{name}", messages=messages, seed=7, max_completion_tokens=9, stream=stream
    )
    if stream:
        parts = [chunk.choices[0].delta.content or "" for chunk in answer if chunk.choices]
        assert "".join(parts).endswith("one two")
    else:
        assert answer.choices[0].message.content.endswith("one two")
        assert "warning" in answer.to_dict()
