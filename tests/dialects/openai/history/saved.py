"""An eval, a run and its items as people saved them, and the command that imports them."""

import io
import json
from pathlib import Path
from typing import Any

from django.core.management import call_command

from tests.dialects.openai.caller import (
    STRING_CHECK,
    Caller,
    line_of,
)

EVAL_ID = "eval_68a1b2c3d4e5f60718293a4b5c6d7e8f"
RUN_ID = "evalrun_68a1b2c3d4e5f60718293a4b5c6d7e90"
CRITERION_ID = "same-0b1e5f0c-53c3-4b52-a9a7-4d5f6b7c8d9e"
EVAL: dict[str, Any] = {
    "object": "eval",
    "id": EVAL_ID,
    "name": "Tickets of old",
    "created_at": 1_740_000_000,
    "data_source_config": {
        "type": "custom",
        "schema": {
            "type": "object",
            "properties": {"item": {"type": "object", "properties": {"label": {}}}},
            "required": ["item"],
        },
        "max_items": None,
    },
    "testing_criteria": [
        {
            **STRING_CHECK,
            "input": "{{ item.answer }}",
            "id": CRITERION_ID,
            "grdr_id": None,
            "inactive_at": None,
        }
    ],
    "metadata": {"team": "support"},
}
RUN: dict[str, Any] = {
    "object": "eval.run",
    "id": RUN_ID,
    "eval_id": EVAL_ID,
    "status": "completed",
    "model": "gpt-4.1",
    "name": "Night run",
    "created_at": 1_740_000_100,
    "report_url": "https://platform.example/evaluations/x",
    "result_counts": {"total": 3, "errored": 1, "failed": 1, "passed": 1},
    "per_model_usage": [
        {
            "model_name": "gpt-4.1",
            "invocation_count": 3,
            "prompt_tokens": 30,
            "completion_tokens": 9,
            "total_tokens": 39,
            "cached_tokens": 1,
        }
    ],
    "per_testing_criteria_results": [line_of(CRITERION_ID, 1, 1, 1)],
    "data_source": {"type": "jsonl", "source": {"type": "file_id", "id": "file-abc"}},
    "error": None,
    "metadata": {},
    "shared_with_openai": False,
}
USAGE = {"total_tokens": 13, "completion_tokens": 3, "prompt_tokens": 10, "cached_tokens": 0}
SAMPLE = {
    "input": [{"role": "user", "content": "Which?"}],
    "output": [{"role": "assistant", "content": "billing"}],
    "finish_reason": "stop",
    "model": "gpt-4.1-2025-04-14",
    "usage": USAGE,
    "error": None,
    "temperature": 0.5,
    "top_p": 1.0,
    "seed": 42,
    "max_completion_tokens": None,
}


def item(index: int, status: str = "pass", **fields: Any) -> dict[str, Any]:
    passed = status == "pass"
    verdict = {
        "name": CRITERION_ID,
        "type": "string_check",
        "score": float(passed),
        "passed": passed,
    }
    if status == "error":
        verdict["error"] = {"code": "model_timeout", "message": "Too late."}
    return {
        "object": "eval.run.output_item",
        "id": f"outputitem_{index:032x}",
        "run_id": RUN_ID,
        "eval_id": EVAL_ID,
        "created_at": 1_740_000_200 + index,
        "status": status,
        "datasource_item_id": index,
        "datasource_item": {"answer": "billing", "label": "billing" if index == 0 else "x"},
        "results": [{**verdict, "sample": None}],
        "sample": SAMPLE,
        **fields,
    }


ITEMS = [item(0), item(1, "fail"), item(2, "error")]


def page(*objects: Any) -> dict[str, Any]:
    return {"object": "list", "data": [*objects], "has_more": False}


def save(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")


def run(*words: str) -> tuple[str, str]:
    out, err = io.StringIO(), io.StringIO()
    call_command(*words, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


def take_in(caller: Caller, path: Path, *words: str) -> tuple[str, str]:
    assert caller.actor.account is not None
    return run("import_openai_export", str(path), "--account", caller.actor.account.name, *words)
