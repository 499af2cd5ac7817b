"""Stored completions and responses as the source of a run's rows."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from apps.evaluations.models import Evaluation
from apps.inference.completion_rows import Selection
from apps.inference.models import StoredCompletion
from apps.strict_json import parse_json
from evalplatform.dialects.kit.fields import Array, Choice, Const, Number, Shape, Text, Whole
from evalplatform.dialects.openai.fields import Metadata
from evalplatform.dialects.openai.words import REASONING_EFFORTS

LAST_SECOND = 253_402_300_799  # of the year 9999
KINDS: dict[str, str] = {
    "stored_completions": StoredCompletion.Kind.CHAT,
    "responses": StoredCompletion.Kind.RESPONSES,
}


# No docstring: see Shape.
class StoredSource(Shape):
    metadata = Metadata(required=False, allow_null=True)
    model = Text(max_length=300, required=False, allow_null=True)
    created_after = Whole(
        min_value=0, max_value=LAST_SECOND, required=False, allow_null=True, help_text="Inclusive."
    )
    created_before = Whole(
        min_value=0, max_value=LAST_SECOND, required=False, allow_null=True, help_text="Inclusive."
    )
    limit = Whole(min_value=1, required=False, allow_null=True)


class StoredCompletionsSource(StoredSource):
    type = Const("stored_completions")


class ResponsesSource(StoredSource):
    type = Const("responses")
    instructions_search = Text(required=False, allow_null=True, allow_blank=True)
    reasoning_effort = Choice(choices=REASONING_EFFORTS, required=False, allow_null=True)
    temperature = Number(required=False, allow_null=True)
    top_p = Number(required=False, allow_null=True)
    users = Array(child=Text(), required=False, allow_null=True)
    tools = Array(child=Text(), required=False, allow_null=True, help_text="Names of functions.")


STORED_SOURCES: dict[str, type[Shape]] = {
    "stored_completions": StoredCompletionsSource,
    "responses": ResponsesSource,
}


def selection_of(evaluation: Evaluation, sent: Mapping[str, Any]) -> Selection:
    """Build the selection of a source; metadata that the eval itself asks for is required too."""
    config = parse_json(evaluation.spec).get("data_source_config") or {}
    pairs = [
        pair
        for metadata in (config.get("metadata"), sent.get("metadata"))
        for pair in (metadata or {}).items()
    ]
    return Selection(
        KINDS[sent["type"]],
        metadata=pairs,
        model=sent.get("model"),
        created_after=_time(sent.get("created_after")),
        # The second that is named is included to its end.
        created_before=_time(sent.get("created_before"), 999_999),
        instructions=sent.get("instructions_search"),
        fits=_fits(sent) if sent["type"] == "responses" else None,
        limit=sent.get("limit"),
    )


def _time(second: int | None, microsecond: int = 0) -> datetime | None:
    if second is None:
        return None
    return datetime.fromtimestamp(second, UTC).replace(microsecond=microsecond)


def _fits(sent: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], bool]:
    """Make the test whether a response was asked with the parameters that its source asks for."""
    # Of these a response tells 1 where nothing was said.
    numbers = [
        (name, sent[name]) for name in ("temperature", "top_p") if sent.get(name) is not None
    ]
    effort, users, tools = (sent.get(name) for name in ("reasoning_effort", "users", "tools"))

    def fits(params: Mapping[str, Any]) -> bool:
        names = [(tool.get("function") or {}).get("name") for tool in params.get("tools") or ()]
        return (
            all(params.get(name, 1) == value for name, value in numbers)
            and (effort is None or params.get("reasoning_effort") == effort)
            and (not users or params.get("user") in users)
            and (not tools or any(name in tools for name in names))
        )

    return fits
