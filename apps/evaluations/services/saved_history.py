"""Evaluations, runs and results as they were saved elsewhere."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID


@dataclass(frozen=True, slots=True)
class SavedCriterion:
    """A criterion as it was; its kind may be one that nobody here can run."""

    key: str
    kind: str
    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SavedEvaluation:
    """An evaluation as it was saved. imported_id: its id there. own_id: its key, if ours."""

    imported_id: str
    own_id: UUID | None
    name: str
    created_at: datetime
    metadata: Mapping[str, str]
    item_schema: dict[str, Any]
    has_sample: bool
    spec: Mapping[str, Any]
    criteria: Sequence[SavedCriterion]


@dataclass(frozen=True, slots=True)
class SavedScore:
    key: str
    value: float | None
    passed: bool | None
    evidence: str = ""
    error_code: str = ""
    error_message: str = ""
    exchange: Mapping[str, Any] | None = None
    notes: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class SavedResult:
    """A result as it was saved. row_sample: the answer that was recorded in the row itself."""

    imported_id: str | None
    row_index: int
    item: Mapping[str, Any]
    row_sample: Mapping[str, Any] | None
    state: str
    sample: Mapping[str, Any] | None
    exchange: Mapping[str, Any] | None
    error_code: str
    error_message: str
    created_at: datetime
    scores: Sequence[SavedScore]


@dataclass(frozen=True, slots=True)
class SavedRun:
    """counts: results by state; None to count them. criteria: key -> passed, failed, errored.

    usage: model -> calls, prompt, completion, total and cached tokens. rows: those of the source
    where they were saved with the run. shows_rows: are they shown as part of it?
    """

    imported_id: str
    own_id: UUID | None
    evaluation_id: str
    name: str
    created_at: datetime
    model: str
    metadata: Mapping[str, str]
    spec: Mapping[str, Any]
    state: str
    error_code: str
    error_message: str
    counts: Mapping[str, int] | None
    criteria: Mapping[str, tuple[int, int, int]]
    usage: Mapping[str, Sequence[int]]
    rows: Sequence[Mapping[str, Any]]
    shows_rows: bool
