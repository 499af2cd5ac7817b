"""The demo's evaluation: which class a support ticket belongs to, asked of two built-in models."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from apps.evaluations.statistics import Comparison, Verdict, compare_rates, findings, rate
from evalplatform.demo.wire import Wire, WireError

TICKETS = Path(__file__).with_name("support_tickets.jsonl")
LEARNED = 100  # of the tickets are for the models to learn from, the rest for the test
DATASET = "support-tickets"
MODELS = (f"builtin/majority:{DATASET}", f"builtin/nearest:{DATASET}")
NAME = "Support ticket triage"
POLL_SECONDS = 0.1
BAR = 30

CRITERION = {
    "type": "string_check",
    "name": "right category",
    "input": "{{ sample.output_text }}",
    "reference": "{{ item.category }}",
    "operation": "eq",
}
TEMPLATE = [
    {"role": "developer", "content": "Name the category of the ticket, in one word."},
    {"role": "user", "content": "{{ item.text }}"},
]

Say = Callable[[str], None]


def tickets() -> list[dict[str, str]]:
    with TICKETS.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def tested_rows() -> bytes:
    """The tickets of the test as JSONL for an upload."""
    rows = ({"item": ticket} for ticket in tickets()[LEARNED:])
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def evaluation(wire: Wire) -> str:
    """The id of the demo's evaluation, created where an earlier demo has not done so."""
    for known in wire.pages("/evals", limit=100):
        if known["name"] == NAME:
            return known["id"]
    text = {"type": "string"}
    made = wire.call(
        "POST",
        "/evals",
        {
            "name": NAME,
            "data_source_config": {
                "type": "custom",
                "item_schema": {
                    "type": "object",
                    "properties": {"id": text, "text": text, "category": text},
                    "required": ["text", "category"],
                },
                "include_sample_schema": True,
            },
            "testing_criteria": [CRITERION],
        },
    )
    return made["id"]


def run(wire: Wire, eval_id: str, file_id: str, model: str, progress: "Progress") -> dict[str, Any]:
    """Run the evaluation on a model and wait until it is over. Raises WireError if it failed."""
    going = wire.call(
        "POST",
        f"/evals/{eval_id}/runs",
        {
            "name": model,
            "data_source": {
                "type": "completions",
                "model": model,
                "source": {"type": "file_id", "id": file_id},
                "input_messages": {"type": "template", "template": TEMPLATE},
            },
        },
    )
    total = len(tickets()) - LEARNED
    while going["status"] in {"queued", "in_progress"}:
        progress.show(model, going["result_counts"]["total"], total)
        time.sleep(POLL_SECONDS)
        going = wire.call("GET", f"/evals/{eval_id}/runs/{going['id']}")
    progress.show(model, going["result_counts"]["total"], total)
    progress.end()
    if going["status"] != "completed":
        reason = (going["error"] or {}).get("message", "no reason was given")
        raise WireError(f"The run of {model} is {going['status']}: {reason}")
    return going


def table(runs: list[dict[str, Any]]) -> Iterator[str]:
    """A line per model under a header, aligned."""
    rows = [("model", "n", "errored", "rate", "95 % interval")]
    for one in runs:
        counts = one["result_counts"]
        found = rate(counts["passed"], counts["passed"] + counts["failed"])
        rows.append(
            (
                one["model"],
                str(found.total),
                str(counts["errored"]),
                "–" if found.value is None else f"{found.value:.1%}",
                f"{found.low:.1%} to {found.high:.1%}",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for model, *rest in rows:
        cells = [text.rjust(width) for text, width in zip(rest, widths[1:], strict=True)]
        yield "  ".join([model.ljust(widths[0]), *cells])


def comparison(wire: Wire, eval_id: str, runs: list[dict[str, Any]]) -> str:
    """The second run against the first, ticket by ticket, in a sentence."""
    first, second = (_verdicts(wire, eval_id, one["id"]) for one in runs)
    pairs = [(first[item], second[item]) for item in first.keys() & second.keys()]
    compared: Comparison = compare_rates(
        both=pairs.count((True, True)),
        first_only=pairs.count((True, False)),
        second_only=pairs.count((False, True)),
        neither=pairs.count((False, False)),
    )
    [finding] = findings([compared])
    if compared.difference is None or compared.low is None or compared.high is None:
        return f"Nothing to compare: {Verdict.TOO_FEW_SAMPLES}."
    names = [one["model"].removeprefix("builtin/").partition(":")[0] for one in runs]
    return (
        f"{names[1]} against {names[0]}, {compared.pairs} tickets in pairs: "
        f"{compared.difference * 100:+.1f} points, 95 % interval {compared.low * 100:+.1f} to "
        f"{compared.high * 100:+.1f}, McNemar p = {compared.p_value:.2g}: {finding.verdict}."
    )


def _verdicts(wire: Wire, eval_id: str, run_id: str) -> dict[int, bool]:
    """By ticket, whether it passed; errored ones are in no pair."""
    path = f"/evals/{eval_id}/runs/{run_id}/output_items"
    return {
        item["datasource_item_id"]: item["status"] == "pass"
        for item in wire.pages(path, limit=100)
        if item["status"] in {"pass", "fail"}
    }


class Progress:
    """A bar that redraws itself on a terminal, and a line per run elsewhere."""

    def __init__(self, say: Say, *, is_terminal: bool) -> None:
        self._say = say
        self._is_terminal = is_terminal
        self._last = ""

    def show(self, model: str, done: int, total: int) -> None:
        filled = round(BAR * done / max(total, 1))
        self._last = f"  {model:34} [{'#' * filled}{' ' * (BAR - filled)}] {done}/{total}"
        if self._is_terminal:
            self._say(f"\r{self._last}")

    def end(self) -> None:
        self._say("\n" if self._is_terminal else f"{self._last}\n")
