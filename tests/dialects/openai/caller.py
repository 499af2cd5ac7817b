"""A caller that speaks to /v1 with a key of its own account, and bodies that are in order."""

import json
import time
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from django.test import Client, override_settings

from apps.accounts.models import Actor
from apps.datasets.models import File
from apps.evaluations.engine.sweep import sweep_runs
from apps.evaluations.engine.worker import Worker
from apps.evaluations.models import Criterion, Evaluation, Run
from tests.factories import make_actor, make_key
from tests.patience import patience

STRING_CHECK = {
    "type": "string_check",
    "name": "same",
    "input": "{{ item.answer }}",
    "reference": "{{ item.label }}",
    "operation": "eq",
}
TEXT_SIMILARITY = {
    "type": "text_similarity",
    "name": "near",
    "input": "{{ item.answer }}",
    "reference": "{{ item.label }}",
    "evaluation_metric": "bleu",
    "pass_threshold": 0.5,
}
ECHOED = {**STRING_CHECK, "input": "{{ sample.output_text }}"}
EVAL = {
    "name": "Tickets",
    "metadata": {"team": "support"},
    "data_source_config": {
        "type": "custom",
        "item_schema": {
            "type": "object",
            "properties": {"answer": {"type": "string"}, "label": {"type": "string"}},
        },
        "include_sample_schema": True,
    },
    "testing_criteria": [STRING_CHECK],
}
ROWS = [
    {"item": {"answer": "billing", "label": "billing"}},
    {"item": {"answer": "fault", "label": "billing"}},
    {"item": {"label": "closing"}},
]
ZERO = {"total": 0, "errored": 0, "failed": 0, "passed": 0}
# What a completions source shows besides what was sent.
NOTHING = {"provider_credentials": None, "modalities": None, "sampling_params": None}


def line_of(
    criterion_id: str, passed: int, failed: int, errored: int, index: int = 0
) -> dict[str, Any]:
    """A criterion's line in `per_testing_criteria_results`."""
    counts = {"passed": passed, "failed": failed, "errored": errored}
    return {
        "testing_criteria": criterion_id,
        **counts,
        "testing_criteria_index": index,
        "result_counts": {**counts, "total": passed + failed + errored},
    }


def run_body(rows: Any = ROWS, **fields: Any) -> dict[str, Any]:
    """Make a jsonl run over rows that are sent along."""
    source = {"type": "file_content", "content": rows}
    return {"data_source": {"type": "jsonl", "source": source}, **fields}


def chat_body(model: str = "builtin/echo", **fields: Any) -> dict[str, Any]:
    """Make a completions run over the same rows."""
    message = {"role": "user", "content": "{{ item.label }}", "type": "message"}
    return {
        "data_source": {
            "type": "completions",
            "model": model,
            "source": {"type": "file_content", "content": ROWS},
            "input_messages": {"type": "template", "template": [message]},
            **fields,
        }
    }


class Caller:
    """One account's key. Answers are (status, JSON)."""

    def __init__(self, actor: Actor | None = None, **key: Any) -> None:
        self.actor = actor or make_actor()
        _, self.secret = make_key(self.actor, **key)
        self.client = Client(headers={"authorization": f"Bearer {self.secret}"})

    def get(self, path: str, **query: Any) -> tuple[int, Any]:
        response = self.client.get(f"/v1{path}", query)
        return response.status_code, response.json()

    def post(self, path: str, body: Any = None) -> tuple[int, Any]:
        return self.send(path, json.dumps({} if body is None else body).encode())

    def send(self, path: str, body: bytes) -> tuple[int, Any]:
        response = self.client.post(f"/v1{path}", body, content_type="application/json")
        return response.status_code, response.json()

    def delete(self, path: str) -> tuple[int, Any]:
        response = self.client.delete(f"/v1{path}")
        return response.status_code, response.json()

    def upload(self, content: Any, **fields: Any) -> tuple[int, Any]:
        response = self.client.post("/v1/files", {"purpose": "evals", "file": content, **fields})
        return response.status_code, response.json()

    def over(
        self, body: Mapping[str, Any], *criteria: Mapping[str, Any]
    ) -> tuple[dict[str, Any], list[Any]]:
        """Return the run of a new eval when it has ended, and its items."""
        eval_id = self.new_eval(testing_criteria=criteria or [STRING_CHECK])["id"]
        where = f"/evals/{eval_id}/runs/{self.new_run(eval_id, body)['id']}"
        work()
        return self.get(where)[1], self.get(f"{where}/output_items")[1]["data"]

    def new_eval(self, **fields: Any) -> dict[str, Any]:
        status, answer = self.post("/evals", {**deepcopy(EVAL), **fields})
        assert status == 201, answer
        return answer

    def new_completion(self) -> dict[str, Any]:
        message = {"role": "user", "content": "Hello"}
        body = {"model": "builtin/echo", "messages": [message], "store": True}
        status, answer = self.post("/chat/completions", body)
        assert status == 200, answer
        return answer

    def new_run(self, eval_id: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        status, answer = self.post(f"/evals/{eval_id}/runs", body or run_body())
        assert status == 201, answer
        return answer


def work() -> None:
    """Finish every run, in this process; on a busy machine a worker may leave before it is done."""
    ends_at = time.monotonic() + patience(60)
    with override_settings(ENGINE_LINGER_SECONDS=0.1, ENGINE_LOOK_SECONDS=0.05):
        while Worker().run() or sweep_runs() or Run.objects.exclude(state__in=Run.FINAL).exists():
            assert time.monotonic() < ends_at, "there are runs that do not end"


def stored() -> list[int]:
    """Count the rows; a refusal leaves the counts as they are."""
    return [model.objects.count() for model in (Evaluation, Criterion, Run, File)]
