"""Read saved evals as evaluations of the core."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID, uuid4

from apps.datasets.models import NAME_LENGTH
from apps.evaluations.services.saved_history import SavedCriterion, SavedEvaluation
from evalplatform.dialects.openai.evals.criteria import NAMELESS, own_criterion, renamed
from evalplatform.dialects.openai.history.saved_values import (
    array_of,
    criterion_key,
    id_of,
    object_of,
    own_id,
    string_of,
    time_of,
)
from evalplatform.dialects.openai.ids import EVAL_ID


def saved_evaluation(sent: Mapping[str, Any], also_named: Sequence[str]) -> SavedEvaluation:
    """Read a saved eval.

    also_named: criteria that its runs and items name; those that the eval lacks are added, of
    unknown kind. Raises Unusable.
    """
    config = object_of(sent.get("data_source_config"))
    properties = object_of(object_of(config.get("schema")).get("properties"))
    schema = properties.get("item", config.get("item_schema"))
    kind = config.get("type", "custom")
    spec = {}
    if kind != "custom":
        kept = {"type": str(kind), "metadata": object_of(config.get("metadata"))}
        spec, schema = {"data_source_config": kept}, {}
    sent_criteria = [_criterion(one) for one in array_of(sent.get("testing_criteria"))]
    criteria = [*{one.key: one for one in reversed(sent_criteria)}.values()][
        ::-1
    ]  # the first of twins
    known = {one.key for one in criteria} | {one.name for one in criteria}
    criteria += [
        SavedCriterion(key, NAMELESS, _name_in(key)[:NAME_LENGTH])
        for key in also_named
        if key not in known
    ]
    name = id_of(sent)
    return SavedEvaluation(
        imported_id=name,
        own_id=own_id(EVAL_ID, name),
        name=string_of(sent.get("name")) or f"Imported {name}",
        created_at=time_of(sent),
        metadata=object_of(sent.get("metadata")),
        item_schema=object_of(schema),
        has_sample="sample" in properties or kind != "custom",
        spec=spec,
        criteria=criteria,
    )


def _criterion(sent: Any) -> SavedCriterion:
    sent = object_of(sent)
    name = string_of(sent.get("name"))
    key = criterion_key(sent.get("id")) or f"{name[:NAME_LENGTH]}-{uuid4()}"
    left_out = {"type", "name", "id"}
    # Each is added again where a criterion is shown.
    left_out |= {
        extra
        for extra in ("grdr_id", "inactive_at", "sampling_params")
        if sent.get(extra, 0) is None
    }
    settings = {field: value for field, value in sent.items() if field not in left_out}
    # One of ours that was exported as one of the vendor's becomes itself again.
    kind, settings = own_criterion(sent) or (string_of(sent.get("type")) or NAMELESS, settings)
    return SavedCriterion(
        key=key,
        kind=kind[:40],
        name=(name or _name_in(key))[:NAME_LENGTH],
        settings=renamed(kind, settings),
    )


def _name_in(key: str) -> str:
    """Return the name in a criterion's id, which is <name>-<uuid>."""
    try:
        UUID(key[-36:])
    except ValueError:
        return key
    return key[:-37] or key
