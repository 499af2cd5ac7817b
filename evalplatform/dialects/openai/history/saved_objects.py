"""The vendor's objects as they were saved, in the words of the core."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from django.utils import timezone
from rest_framework.exceptions import ValidationError as FieldError

from apps.datasets.models import NAME_LENGTH
from apps.evaluations.models import Result, Run
from apps.evaluations.services.rescue import (
    SavedCriterion,
    SavedEvaluation,
    SavedResult,
    SavedRun,
    SavedScore,
)
from apps.text import quoted
from evalplatform.dialects.openai.evals.criteria import own_criterion
from evalplatform.dialects.openai.ids import EVAL_ID, RUN_ID, KeptId
from evalplatform.dialects.openai.words import ITEM_STATUS, RUN_STATE

# Under this key our own export keeps what the vendor's shape has no place for.
EXTRAS = "evalplatform"
SHOWN_PARAMS = {
    "temperature": 1.0,
    "top_p": 1.0,
    "seed": None,
    "max_completion_tokens": None,
    "max_completions_tokens": None,
    "reasoning_effort": None,
}
USAGE = ("invocation_count", "prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens")
ITEM_STATES = {status: state for state, status in reversed(ITEM_STATUS.items())}
CODE_LENGTH = 60
LARGEST_INDEX = 2**53
LARGEST_VALUE = 1e100  # as of scores that are made here


class Unusable(ValueError):
    """An object that lacks what nothing can stand in for."""


def id_of(sent: Mapping[str, Any], key: str = "id") -> str:
    """The object's id. Raises Unusable for one that no path of ours can carry."""
    value = sent.get(key)
    if not isinstance(value, str) or KeptId.KEPT.fullmatch(value) is None:
        raise Unusable(f"its {key} is missing or no id")
    return value


def row_index(item: Mapping[str, Any]) -> int | None:
    index = item.get("datasource_item_id")
    return index if type(index) is int and 0 <= index < LARGEST_INDEX else None


def own_id(field: KeptId, name: str) -> UUID | None:
    try:
        return field.to_internal_value(name)
    except FieldError:
        return None


# --- evals ---------------------------------------------------------------------------------------


def saved_evaluation(sent: Mapping[str, Any], also_named: Sequence[str]) -> SavedEvaluation:
    """also_named: criteria that runs tell of; those the eval lacks are added, of unknown kind."""
    config = _mapping(sent.get("data_source_config"))
    properties = _mapping(_mapping(config.get("schema")).get("properties"))
    schema = properties.get("item", config.get("item_schema"))
    kind = config.get("type", "custom")
    spec = {}
    if kind != "custom":
        kept = {"type": str(kind), "metadata": _mapping(config.get("metadata"))}
        spec, schema = {"data_source_config": kept}, {}
    told = [_criterion(one) for one in _list(sent.get("testing_criteria"))]
    criteria = [*{one.key: one for one in reversed(told)}.values()][::-1]  # the first of twins
    known = {one.key for one in criteria} | {one.name for one in criteria}
    criteria += [
        SavedCriterion(key, "unknown", _name_in(key)[:NAME_LENGTH])
        for key in also_named
        if key not in known
    ]
    name = id_of(sent)
    return SavedEvaluation(
        imported_id=name,
        own_id=own_id(EVAL_ID, name),
        name=_text(sent.get("name")) or f"Imported {name}",
        created_at=_time(sent),
        metadata=_mapping(sent.get("metadata")),
        item_schema=_mapping(schema),
        has_sample="sample" in properties or kind != "custom",
        spec=spec,
        criteria=criteria,
    )


def _criterion(sent: Any) -> SavedCriterion:
    sent = _mapping(sent)
    name = _text(sent.get("name"))
    key = criterion_key(sent.get("id")) or f"{name[:NAME_LENGTH]}-{uuid4()}"
    left_out = {"type", "name", "id"}
    # Each is added again where a criterion is shown.
    left_out |= {
        extra
        for extra in ("grdr_id", "inactive_at", "sampling_params")
        if sent.get(extra, 0) is None
    }
    told = {field: value for field, value in sent.items() if field not in left_out}
    # One of ours that was exported as one of the vendor's becomes itself again.
    kind, settings = own_criterion(sent) or (_text(sent.get("type")) or "unknown", told)
    return SavedCriterion(
        key=key,
        kind=kind[:40],
        name=(name or _name_in(key))[:NAME_LENGTH],
        settings=settings,
    )


def criterion_key(value: Any) -> str:
    """A criterion's id wherever it stands, as much of it as is stored."""
    return _text(value)[: NAME_LENGTH + 40]


def _name_in(key: str) -> str:
    """The name in a criterion's id, which is <name>-<uuid>."""
    try:
        UUID(key[-36:])
    except ValueError:
        return key
    return key[:-37] or key


# --- runs ----------------------------------------------------------------------------------------


def saved_run(sent: Mapping[str, Any], criteria: Mapping[str, str]) -> tuple[SavedRun, list[str]]:
    """criteria: what results may call a criterion -> its key. Second: what cannot be carried."""
    lost = []
    status = sent.get("status")
    state = RUN_STATE.get(status, "") if isinstance(status, str) else ""
    if state not in Run.FINAL:
        lost.append(f"its status, {quoted(status)}: what never ended there is canceled here")
        state = Run.State.CANCELED
    data_source = _mapping(sent.get("data_source"))
    source = _mapping(data_source.get("source"))
    rows = _list(source.get("content")) if source.get("type") == "file_content" else []
    if not all(isinstance(row, dict) and isinstance(row.get("item"), dict) for row in rows):
        lost.append("the rows in its data source, which are no rows")
        rows = []
    spec = {}
    if data_source and not (_text(data_source.get("type")) and _text(source.get("type"))):
        lost.append("its data source, which is none")
    elif source:
        if "content" in source:
            source = {**source, "content": []}
        spec = {"data_source": {**data_source, "source": source}}
    error = _mapping(sent.get("error"))
    name = id_of(sent)
    saved = SavedRun(
        imported_id=name,
        own_id=own_id(RUN_ID, name),
        evaluation_id=id_of(sent, "eval_id"),
        name=_text(sent.get("name")) or f"Imported {name}",
        created_at=_time(sent),
        model=_text(sent.get("model")),
        metadata=_mapping(sent.get("metadata")),
        spec=spec,
        state=state,
        error_code=_text(error.get("code"))[:CODE_LENGTH],
        error_message=_text(error.get("message")),
        counts=_counts(sent.get("result_counts")),
        criteria={
            criteria.get(key, key): (
                _count(one, "passed"),
                _count(one, "failed"),
                _count(one, "errored"),
            )
            for one in map(_mapping, _list(sent.get("per_testing_criteria_results")))
            if (key := criterion_key(one.get("testing_criteria")))
        },
        usage={
            _text(one.get("model_name")): [_count(one, field) for field in USAGE]
            for one in map(_mapping, _list(sent.get("per_model_usage")))
        },
        rows=rows,
        shows_rows=not spec or source.get("type") == "file_content",
    )
    return saved, lost


def criteria_named(run: Mapping[str, Any]) -> Iterator[str]:
    for one in map(_mapping, _list(run.get("per_testing_criteria_results"))):
        if key := criterion_key(one.get("testing_criteria")):
            yield key


def _counts(sent: Any) -> dict[str, int] | None:
    if not isinstance(sent, dict):
        return None
    counts = {name: _count(sent, name) for name in ("passed", "failed", "errored")}
    counts["unjudged"] = max(0, _count(sent, "total") - sum(counts.values()))
    return counts


def _count(sent: Mapping[str, Any], key: str) -> int:
    value = sent.get(key)
    return value if type(value) is int and 0 <= value < LARGEST_INDEX else 0


# --- output items --------------------------------------------------------------------------------


def saved_result(
    sent: Mapping[str, Any], index: int, criteria: Mapping[str, str], model: str
) -> SavedResult:
    """criteria: as in `saved_run`. model: the run's, shown where an answer names none."""
    extras = _mapping(sent.get(EXTRAS))
    shown = _mapping(sent.get("sample"))
    error = _mapping(shown.get("error"))
    scores = [_score(one, criteria) for one in map(_mapping, _list(sent.get("results")))]
    state = extras.get("state")
    if state not in Result.State.values:
        state = ITEM_STATES.get(_text(sent.get("status")), Result.State.ERRORED)
    sample, exchange = _answer(shown, model)
    if extras:
        sample, exchange = extras.get("sample"), _told_params(extras.get("exchange"), exchange)
        sample = sample if isinstance(sample, dict) else None
    row_sample = extras.get("row_sample")
    item_id = sent.get("id")
    return SavedResult(
        imported_id=item_id if isinstance(item_id, str) else None,
        row_index=index,
        item=_mapping(sent.get("datasource_item")),
        row_sample=row_sample if isinstance(row_sample, dict) else None,
        state=str(state),
        sample=sample,
        exchange=exchange,
        error_code=_text(error.get("code"))[:CODE_LENGTH],
        error_message=_text(error.get("message")),
        created_at=_time(sent),
        # A criterion has one verdict on a result.
        scores=list({score.key: score for score in scores if score is not None}.values()),
    )


def _score(sent: Mapping[str, Any], criteria: Mapping[str, str]) -> SavedScore | None:
    extras = _mapping(sent.get(EXTRAS))
    name = criterion_key(sent.get("name"))
    error, told = _mapping(sent.get("error")), extras if "value" in extras else sent
    value = _number(extras["value"] if told is extras else sent.get("score"))
    passed = told.get("passed") if isinstance(told.get("passed"), bool) else None
    code, message = _text(error.get("code")), _text(error.get("message"))
    if value is None or (error and told is sent):
        value, passed = None, None
        code, message = code or "not_judged", message or "There is no verdict."
    sample, exchange = _answer(_mapping(sent.get("sample")), "")
    judgement = {**(exchange or {}), **(sample or {})} or None
    if judgement is not None and (judge_error := _fault(_mapping(sent.get("sample")))):
        judgement["error"] = judge_error
    if EXTRAS in sent:
        judgement = _exchange(extras.get("exchange")) or None
    return SavedScore(
        key=criteria.get(name, name),
        value=value,
        passed=passed,
        evidence=_text(extras.get("evidence")),
        error_code=code[:CODE_LENGTH],
        error_message=message,
        exchange=judgement,
    )


def _told_params(exchange: Any, shown: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """An exchange as it was stored; parameters are the run's there, and only shown with items."""
    told = {"params": shown["params"]} if shown and "params" in shown else {}
    return {**_exchange(exchange), **told} or None


def _exchange(value: Any) -> dict[str, Any]:
    """An exchange of our own export, without what does not have the shape it is stored in."""
    read: dict[str, Callable[[Any], Any]] = {
        "input": lambda asked: [one for one in _list(asked) if isinstance(one, dict)],
        "usage": _mapping,
        "params": _mapping,
        "error": lambda _: _fault(value),
    }
    return {name: read.get(name, lambda one: one)(kept) for name, kept in _mapping(value).items()}


def _fault(sent: Mapping[str, Any]) -> dict[str, str] | None:
    error = _mapping(sent.get("error"))
    fault = {name: _text(error.get(name)) for name in ("code", "message")}
    return fault if any(fault.values()) else None


def _answer(
    shown: Mapping[str, Any], model: str
) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """A sample as graders see it, and how it was asked for; of an empty one None and None."""
    messages = [one for one in _list(shown.get("output")) if isinstance(one, dict)]
    answered_by = _text(shown.get("model"))
    sample: dict[str, Any] = {}
    if answered_by not in {"", model}:
        sample["model"] = answered_by
    if messages:
        reason = _text(shown.get("finish_reason"))
        sample = {
            "model": answered_by,
            "choices": [
                {"index": place, "message": message, "finish_reason": reason}
                for place, message in enumerate(messages)
            ],
            "output_text": _text(messages[0].get("content")),
        }
        if calls := messages[0].get("tool_calls"):
            sample["output_tools"] = calls
    exchange: dict[str, Any] = {}
    if asked := [one for one in _list(shown.get("input")) if isinstance(one, dict)]:
        exchange["input"] = asked
    usage = _mapping(shown.get("usage"))
    if any(type(count) is int and count for count in usage.values()):
        exchange["usage"] = usage
    params = {
        name: shown[name] for name, usual in SHOWN_PARAMS.items() if shown.get(name, usual) != usual
    }
    if params:
        exchange["params"] = params
    return sample or None, exchange or None


# --- values --------------------------------------------------------------------------------------


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _number(value: Any) -> float | None:
    """The value as a score that can be counted with; None when it is none."""
    if type(value) not in {int, float} or not abs(value) <= LARGEST_VALUE:
        return None
    return float(value)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _time(sent: Mapping[str, Any]) -> datetime:
    seconds = sent.get("created_at")
    if type(seconds) in {int, float}:
        try:
            return datetime.fromtimestamp(seconds, UTC)  # type: ignore[arg-type]
        except (OverflowError, ValueError, OSError):
            pass
    return timezone.now()
