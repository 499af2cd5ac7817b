"""Read saved output items as results of the core."""

from collections.abc import Callable, Mapping
from typing import Any

from apps.evaluations.models import MOST_ROWS, Result
from apps.evaluations.services.saved_history import SavedResult, SavedScore
from apps.grading.graders.python_code import FAULTS_WITH_SCORE
from evalplatform.dialects.openai.history.saved_values import (
    CODE_LENGTH,
    EXTRAS,
    array_of,
    criterion_key,
    number_of,
    object_of,
    string_of,
    time_of,
)
from evalplatform.dialects.openai.words import ITEM_STATUS

SHOWN_PARAMS = {
    "temperature": 1.0,
    "top_p": 1.0,
    "seed": None,
    "max_completion_tokens": None,
    "max_completions_tokens": None,
    "reasoning_effort": None,
}
NOTES = ("clamped_from", "warning")  # what is said of a score beside it
ITEM_STATES = {status: state for state, status in reversed(ITEM_STATUS.items())}


def row_index(item: Mapping[str, Any]) -> int | None:
    """Return the index of an item's row, None where it has none that can be stored."""
    index = item.get("datasource_item_id")
    return index if type(index) is int and 0 <= index < MOST_ROWS else None


def saved_result(
    sent: Mapping[str, Any], index: int, criteria: Mapping[str, str], model: str
) -> SavedResult:
    """Read a saved output item.

    criteria: as in `saved_run`. model: the run's; an answer names its own only where it differs.
    """
    extras = object_of(sent.get(EXTRAS))
    shown = object_of(sent.get("sample"))
    error = object_of(shown.get("error"))
    scores = [_score(one, criteria) for one in map(object_of, array_of(sent.get("results")))]
    state = extras.get("state")
    if state not in Result.State.values:
        state = ITEM_STATES.get(string_of(sent.get("status")), Result.State.ERRORED)
    sample, exchange = _answer(shown, model)
    if extras:
        sample, exchange = extras.get("sample"), _with_params(extras.get("exchange"), exchange)
        sample = sample if isinstance(sample, dict) else None
    row_sample = extras.get("row_sample")
    item_id = sent.get("id")
    return SavedResult(
        imported_id=item_id if isinstance(item_id, str) else None,
        row_index=index,
        item=object_of(sent.get("datasource_item")),
        row_sample=row_sample if isinstance(row_sample, dict) else None,
        state=str(state),
        sample=sample,
        exchange=exchange,
        error_code=string_of(error.get("code"))[:CODE_LENGTH],
        error_message=string_of(error.get("message")),
        created_at=time_of(sent),
        # A criterion has one verdict on a result.
        scores=list({score.key: score for score in scores if score is not None}.values()),
    )


def _score(sent: Mapping[str, Any], criteria: Mapping[str, str]) -> SavedScore | None:
    extras = object_of(sent.get(EXTRAS))
    name = criterion_key(sent.get("name"))
    error, verdict = object_of(sent.get("error")), extras if "value" in extras else sent
    value = number_of(extras["value"] if verdict is extras else sent.get("score"))
    passed = verdict.get("passed") if isinstance(verdict.get("passed"), bool) else None
    code, message = string_of(error.get("code")), string_of(error.get("message"))
    if value is None or (error and verdict is sent and code not in FAULTS_WITH_SCORE):
        value, passed = None, None
        code, message = code or "not_judged", message or "There is no verdict."
    sample, exchange = _answer(object_of(sent.get("sample")), "")
    judgement = {**(exchange or {}), **(sample or {})} or None
    if judgement is not None and (judge_error := _fault(object_of(sent.get("sample")))):
        judgement["error"] = judge_error
    if EXTRAS in sent:
        judgement = _exchange(extras.get("exchange")) or None
    return SavedScore(
        key=criteria.get(name, name),
        value=value,
        passed=passed,
        evidence=string_of(extras.get("evidence")),
        error_code=code[:CODE_LENGTH],
        error_message=message,
        exchange=judgement,
        notes={name: sent[name] for name in NOTES if name in sent} or None,
    )


def _with_params(exchange: Any, shown: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return an exchange as it was stored, with the parameters that the item shows.

    The exchange itself is stored without them where they are the run's.
    """
    params = {"params": shown["params"]} if shown and "params" in shown else {}
    return {**_exchange(exchange), **params} or None


def _exchange(value: Any) -> dict[str, Any]:
    """Return an exchange of our own export, without values of a shape that is not stored."""
    read: dict[str, Callable[[Any], Any]] = {
        "input": lambda asked: [one for one in array_of(asked) if isinstance(one, dict)],
        "usage": object_of,
        "params": object_of,
        "error": lambda _: _fault(value),
    }
    return {name: read.get(name, lambda one: one)(kept) for name, kept in object_of(value).items()}


def _fault(sent: Mapping[str, Any]) -> dict[str, str] | None:
    error = object_of(sent.get("error"))
    fault = {name: string_of(error.get(name)) for name in ("code", "message")}
    return fault if any(fault.values()) else None


def _answer(
    shown: Mapping[str, Any], model: str
) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Return a sample as graders see it, and the exchange; None and None of an empty one."""
    messages = [one for one in array_of(shown.get("output")) if isinstance(one, dict)]
    answered_by = string_of(shown.get("model"))
    sample: dict[str, Any] = {}
    if answered_by not in {"", model}:
        sample["model"] = answered_by
    if messages:
        reason = string_of(shown.get("finish_reason"))
        sample = {
            "model": answered_by,
            "choices": [
                {"index": index, "message": message, "finish_reason": reason}
                for index, message in enumerate(messages)
            ],
            "output_text": string_of(messages[0].get("content")),
        }
        if calls := messages[0].get("tool_calls"):
            sample["output_tools"] = calls
    exchange: dict[str, Any] = {}
    if asked := [one for one in array_of(shown.get("input")) if isinstance(one, dict)]:
        exchange["input"] = asked
    usage = object_of(shown.get("usage"))
    if any(type(count) is int and count for count in usage.values()):
        exchange["usage"] = usage
    params = {
        name: shown[name] for name, usual in SHOWN_PARAMS.items() if shown.get(name, usual) != usual
    }
    if params:
        exchange["params"] = params
    return sample or None, exchange or None
