"""Run the demo as a client of OpenAI's dialect: upload, create, run, wait and compare over HTTP."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from apps.grading.statistics import Finding, compare_rates, findings, rate
from evalplatform.demo.client import Client, Refused

MODELS = ("builtin/majority:support-tickets", "builtin/nearest:support-tickets")
NAMES = {MODELS[0]: "The largest category", MODELS[1]: "The nearest ticket's category"}
FILENAME = "support-tickets-to-sort.jsonl"
# By this a second demo finds what the first one created.
MARK = {"made_by": "manage.py demo"}
ITEM_SCHEMA = {
    "type": "object",
    "properties": {"text": {"type": "string"}, "category": {"type": "string"}},
    "required": ["text", "category"],
}
CRITERION = {
    "type": "string_check",
    "name": "right category",
    "input": "{{ sample.output_text }}",
    "reference": "{{ item.category }}",
    "operation": "eq",
}
PROMPT = "Sort this ticket into its category. Answer with the category alone."
POLL_SECONDS = 0.1
STILL_SECONDS = 90.0

Progress = Callable[[str, int, int], None]  # a model, and how many of how many are done


@dataclass(frozen=True)
class FinishedRun:
    """A finished run as the API returned it. rows: each row's index and its status."""

    model: str
    run: Mapping[str, Any]
    rows: Mapping[int, str]


def go(client: Client, lines: Sequence[bytes], progress: Progress) -> list[FinishedRun]:
    """Ask every model about every ticket. Raises Refused."""
    file_id = _file(client, lines)
    eval_id = _eval(client)
    return [_run(client, eval_id, file_id, model, len(lines), progress) for model in MODELS]


def _file(client: Client, lines: Sequence[bytes]) -> str:
    content = b"".join(b'{"item": %b}\n' % line for line in lines)
    for file in client.each("files", purpose="evals"):
        if (file["filename"], file["bytes"]) == (FILENAME, len(content)):
            return file["id"]
    return client.upload(FILENAME, content, "evals")["id"]


def _eval(client: Client) -> str:
    for found in client.each("evals", limit=100):
        if found["metadata"] == MARK:
            return found["id"]
    body = {
        "name": "Support ticket triage",
        "metadata": MARK,
        "data_source_config": {
            "type": "custom",
            "item_schema": ITEM_SCHEMA,
            "include_sample_schema": True,
        },
        "testing_criteria": [CRITERION],
    }
    return client.post("evals", body)["id"]


def _run(
    client: Client, eval_id: str, file_id: str, model: str, total: int, progress: Progress
) -> FinishedRun:
    messages = [
        {"role": "system", "content": PROMPT},
        {"role": "user", "content": "{{ item.text }}"},
    ]
    data_source = {
        "type": "completions",
        "model": model,
        "source": {"type": "file_id", "id": file_id},
        "input_messages": {"type": "template", "template": messages},
    }
    run = client.post(f"evals/{eval_id}/runs", {"name": NAMES[model], "data_source": data_source})
    path = f"evals/{eval_id}/runs/{run['id']}"
    done, moved_at = 0, time.monotonic()
    while run["status"] in {"queued", "in_progress"}:
        time.sleep(POLL_SECONDS)
        run = client.get(path)
        now = time.monotonic()
        if run["result_counts"]["total"] != done:
            done, moved_at = run["result_counts"]["total"], now
        if now - moved_at > STILL_SECONDS:
            raise Refused(f"The run of {model} stands still at {done} of {total}.")
        progress(model, done, total)
    if run["status"] != "completed":
        reason = (run["error"] or {}).get("message", "no reason given")
        raise Refused(f"The run of {model} is {run['status']}: {reason}")
    items = client.each(f"{path}/output_items", limit=100)
    return FinishedRun(model, run, {item["datasource_item_id"]: item["status"] for item in items})


def table(finished: Sequence[FinishedRun]) -> list[str]:
    """Lay the runs out in columns, a line for each below a header."""
    rows = [("model", "n", "errored", "rate", "95 % interval"), *map(_row, finished)]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return [
        "  ".join(
            text.rjust(width) if column in {1, 2, 3} else text.ljust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _row(finished: FinishedRun) -> tuple[str, str, str, str, str]:
    counts = finished.run["result_counts"]
    passes = rate(counts["passed"], counts["passed"] + counts["failed"])
    value = "–" if passes.value is None else f"{passes.value:.1%}"
    interval = f"{passes.low:.1%} to {passes.high:.1%}"
    return (finished.model, str(passes.total), str(counts["errored"]), value, interval)


def compare(first: FinishedRun, second: FinishedRun) -> Finding:
    """Compare the second run with the first, ticket by ticket, without what errored in either."""
    shared = first.rows.keys() & second.rows.keys()
    pairs = Counter((first.rows[row], second.rows[row]) for row in shared)
    comparison = compare_rates(
        both=pairs["pass", "pass"],
        first_only=pairs["pass", "fail"],
        second_only=pairs["fail", "pass"],
        neither=pairs["fail", "fail"],
    )
    return findings([comparison])[0]


def sentence(first: FinishedRun, second: FinishedRun) -> str:
    """Say in words what `compare` found."""
    finding = compare(first, second)
    found = finding.comparison
    if found.difference is None or found.low is None or found.high is None:
        return "No ticket was judged in both runs, so nothing can be compared."
    p = found.p_value
    p_text = "no p" if p is None else "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
    return (
        f"{second.model} against {first.model}, ticket by ticket:\n"
        f"{found.difference * 100:+.1f} points "
        f"(95 % interval {found.low * 100:+.1f} to {found.high * 100:+.1f}), "
        f"{found.test} {p_text}, {found.pairs} pairs: {finding.conclusion}."
    )
