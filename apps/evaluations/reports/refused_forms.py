"""Tell which forms of a run's requests its model servers refuse."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from apps.clients import is_built_in
from apps.clients.quirks import adapt, sentence
from apps.evaluations.models import Run
from apps.evaluations.targets import target_of_run
from apps.inference.models import LearnedQuirk


@dataclass(frozen=True)
class RefusedForms:
    """A model of a run, and a sentence on each form of request that its server refuses."""

    model: str
    sentences: list[str]


def refused_forms(run: Run) -> list[RefusedForms]:
    """Return the models whose servers refuse something of this run's requests.

    Of a target the prompt tells what it meets. Of judges, and of prompts that are in the rows,
    everything is told that was known when the run ended.
    """
    target = run.read_target()
    addresses = [target, *target.get("judges", {}).values()]
    asked = [one for one in addresses if one.get("endpoint") and not is_built_in(one)]
    known: dict[tuple[UUID, str], list[str]] = {}
    rows = LearnedQuirk.objects.filter(endpoint__in={one["endpoint"] for one in asked})
    if run.finished_at is not None:
        rows = rows.filter(learned_at__lte=run.finished_at)
    for row in rows if asked else ():
        known.setdefault((row.endpoint_id, row.model), []).append(row.quirk)
    found: dict[str, list[str]] = {}
    for address in asked:
        upstream = address.get("upstream") or address["model"]
        quirks = known.get((UUID(address["endpoint"]), upstream), [])
        told = _met(run, quirks) if address is target else [sentence(one) for one in quirks]
        if told:
            found.setdefault(address["model"], told)
    return [RefusedForms(model, told) for model, told in found.items()]


def _met(run: Run, quirks: list[str]) -> list[str]:
    prompt = target_of_run(run).prompt
    if prompt is None or prompt.messages is None:
        return [sentence(quirk) for quirk in quirks]
    request: Mapping[str, Any] = {**prompt.params, "messages": list(prompt.messages)}
    return adapt(request, quirks)[1]
