"""Estimate the calls and the cost of a run before it starts, by runs like it or by its rows."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from apps.accounts.models import Actor
from apps.accounts.roles import Action
from apps.clients import is_built_in
from apps.evaluations.costs import PriceList, money_of
from apps.evaluations.engine.row_places import rows_at
from apps.evaluations.models import Run
from apps.evaluations.services.criteria import check_criteria_of
from apps.evaluations.services.evaluations import NewCriterion
from apps.evaluations.tally import CALLS, COMPLETION, PROMPT, Tally
from apps.evaluations.targets import Recorded, Target, answering_target
from apps.grading.graders import read_grader
from apps.grading.graders.base import InvalidSetting, JudgeGrader
from apps.inference.served_models import find_judges, with_present_prices
from apps.strict_json import dump_json

SAMPLE = 20  # rows that are looked at
HISTORY = 5  # runs of the same evaluation, the newest
CHARACTERS = 4  # a token, in English
ANSWER_TOKENS = 1_000  # at most, where no limit is set: a guess


@dataclass(frozen=True)
class Asked:
    """The estimate of a model. Tokens, and their cost with six digits: the least and the most.

    is_measured: told from what it took in earlier runs of the evaluation. cost None: its price is
    not known.
    """

    model: str
    is_judging: bool
    calls: int
    prompt_tokens: tuple[int, int]
    completion_tokens: tuple[int, int]
    cost: tuple[Decimal, Decimal] | None
    is_measured: bool


@dataclass(frozen=True)
class Estimate:
    """The estimate of a run of so many items; retries of failed calls are left out."""

    items: int
    models: Sequence[Asked] = field(default_factory=list)

    @property
    def calls(self) -> int:
        return sum(one.calls for one in self.models)

    @property
    def cost(self) -> tuple[Decimal, Decimal] | None:
        """The least and the most; None where a price is not known."""
        costs = [one.cost for one in self.models if one.cost is not None]
        if len(costs) < len(self.models):
            return None
        zero = Decimal(0)
        return sum((low for low, _ in costs), zero), sum((high for _, high in costs), zero)

    @property
    def is_measured(self) -> bool:
        return all(one.is_measured for one in self.models)

    @property
    def basis(self) -> str:
        """The sentence that tells how the estimate was made."""
        if self.is_measured:
            return "From what the same models took in earlier runs of this evaluation."
        return (
            f"From the first {SAMPLE} rows, a token for every {CHARACTERS} characters; how long "
            f"replies are is not known before, at most {ANSWER_TOKENS:,} tokens unless a limit is "
            "set."
        )


def estimate_retry(actor: Actor, run: Run) -> Estimate:
    """Estimate a retry of what is errored or missing in a finished run."""
    actor.require(Action.READ, run.account)
    kept = run.passed_count + run.failed_count + run.unjudged_count
    stored = with_present_prices(run.account_id, run.read_target())
    graders = _criteria_of(run, run.criteria_version) if "judges" in stored else []
    return _estimate(run, answering_target(run), stored, graders, run.total_count - kept)


def estimate_regrade(
    actor: Actor, run: Run, *, criteria: Sequence[NewCriterion] | None = None
) -> Estimate:
    """Estimate grading a finished run's answers by these criteria, or by the present ones.

    Raises UnknownModel and Invalid as regrade_run does.
    """
    actor.require(Action.READ, run.account)
    if criteria is None:
        graders = _criteria_of(run, run.evaluation.criteria_version)
    else:
        checked = check_criteria_of(run.evaluation, criteria)
        graders = list(zip([one.settings for one in criteria], checked, strict=True))
    judges = find_judges(run.account_id, [grader for _, grader in graders])
    return _estimate(run, Recorded(), judges, graders, run.total_count)


Criteria = Sequence[tuple[Mapping[str, Any], Any]]


def _criteria_of(run: Run, version: int) -> Criteria:
    criteria = []
    for one in run.evaluation.criteria.filter(version=version):
        settings = one.read_settings()
        try:
            criteria.append((settings, read_grader(one.kind, settings)))
        except InvalidSetting:  # imported, and not understood here: it asks nobody
            continue
    return criteria


def _estimate(
    run: Run, target: Target, addresses: Mapping[str, Any], criteria: Criteria, items: int
) -> Estimate:
    """Estimate what the target and the judges at these addresses, as a run keeps them, take."""
    judges = addresses.get("judges", {})
    if all(map(is_built_in, [*judges.values(), *target.addresses])):
        return Estimate(items)
    history = _history(run)
    rows = list(rows_at(run, range(min(SAMPLE, run.row_count))).values())
    prices = PriceList.of(addresses)
    asked = []
    for address in target.addresses:
        if is_built_in(address):
            continue
        limit = target.reply_limit or ANSWER_TOKENS
        prompt = _mean(target.prompt_characters(row) for row in rows)
        asked.append(_asked(address["model"], False, items, prompt, limit, history, prices))
    for settings, grader in criteria:
        judge = judges.get(grader.model) if isinstance(grader, JudgeGrader) else None
        if judge is None or is_built_in(judge):
            continue
        name = judge["model"]
        shown = _mean(len(dump_json(row.item)) + len(dump_json(row.sample or {})) for row in rows)
        prompt = len(dump_json({**settings})) + shown
        asked.append(_asked(name, True, items, prompt, ANSWER_TOKENS, history, prices))
    return Estimate(items, asked)


def _asked(
    model: str,
    is_judging: bool,
    items: int,
    characters: float,
    limit: int,
    history: Mapping[tuple[str, bool], Sequence[Sequence[int]]],
    prices: PriceList,
) -> Asked:
    past = history.get((model, is_judging), ())
    if past:
        prompts = [sums[PROMPT] / sums[CALLS] for sums in past]
        replies = [sums[COMPLETION] / sums[CALLS] for sums in past]
    else:
        prompts, replies = [characters / CHARACTERS], [1, limit]
    prompt = round(items * min(prompts)), round(items * max(prompts))
    reply = round(items * min(replies)), round(items * max(replies))
    costs = [
        prices.cost(model, [items, tokens, said], judging=is_judging)
        for tokens, said in zip(prompt, reply, strict=True)
    ]
    low, high = (None if cost is None else money_of(cost) for cost in costs)
    cost = None if low is None or high is None else (low, high)
    return Asked(model, is_judging, items, prompt, reply, cost, bool(past))


def _history(run: Run) -> dict[tuple[str, bool], list[Sequence[int]]]:
    """Read each model's sums in the newest finished runs, apart for answers and judgements."""
    runs = Run.objects.present().filter(evaluation=run.evaluation_id, state=Run.State.COMPLETED)
    found: dict[tuple[str, bool], list[Sequence[int]]] = {}
    newest = runs.order_by("-created_at", "-id").values_list("tally", flat=True)[:HISTORY]
    for tally in map(Tally.load, newest):
        for models, is_judging in ((tally.answering(), False), (tally.judging, True)):
            for model, sums in models.items():
                if sums[CALLS] and sums[PROMPT]:
                    found.setdefault((model, is_judging), []).append(sums)
    return found


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed) if listed else 0.0
