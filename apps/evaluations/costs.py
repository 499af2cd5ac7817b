"""Compute what calls cost, exactly: tokens times the prices that a run kept when it began."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from functools import cached_property
from typing import Any, Self

from apps.clients.builtin import is_built_in
from apps.evaluations.tally import COMPLETION, PROMPT, Tally

# Money is counted in whole picos, 10^-12 of the currency: what a token costs, at a price that has
# six digits and is for a million of them, is a whole number of picos.
PICO_DIGITS = 12
MICRO = 10**6  # picos
SHOWN = Decimal("0.000001")


def picos_of(money: Decimal) -> int:
    return int(money.scaleb(PICO_DIGITS))


def money_of(picos: int) -> Decimal:
    """Turn picos into an amount with six digits after the point."""
    return Decimal(picos).scaleb(-PICO_DIGITS).quantize(SHOWN, ROUND_HALF_UP)


def shown_money(money: Decimal) -> str:
    """Show an amount with two digits after the point, or more where they say something."""
    text = f"{money_of(picos_of(money)):,f}".rstrip("0")
    whole, _, digits = text.partition(".")
    return f"{whole}.{digits:0<2}"


@dataclass(frozen=True)
class Prices:
    """The prices of a token in picos, None where no price is set."""

    prompt: int | None = None
    completion: int | None = None

    @classmethod
    def of(cls, address: Mapping[str, Any]) -> Self:
        """Read the prices beside a model's address; what is built in costs nothing."""
        if is_built_in(address):
            return cls(0, 0)
        kept = address.get("prices") or {}
        return cls(*(_per_token(kept.get(name)) for name in ("prompt", "completion")))

    def cost(self, counts: Sequence[int]) -> int | None:
        """Picos for a model's sums as a tally has them; None where a price that it takes is
        missing. Cached tokens cost what others do, and a call whose server counts no tokens
        nothing.
        """
        if self.prompt is None and self.completion is None:
            return None
        cost = 0
        for price, tokens in ((self.prompt, counts[PROMPT]), (self.completion, counts[COMPLETION])):
            if price is None and tokens:
                return None
            cost += (price or 0) * tokens
        return cost


def _per_token(price: str | None) -> int | None:
    return None if price is None else int(Decimal(price).scaleb(6))


UNPRICED = Prices()


@dataclass(frozen=True)
class Cost:
    """Money in picos, beside the models whose price is not known and whose cost is missing."""

    picos: int = 0
    unknown: frozenset[str] = frozenset()

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.picos + other.picos, self.unknown | other.unknown)

    @property
    def amount(self) -> Decimal:
        """The known part, with six digits after the point."""
        return money_of(self.picos)

    @property
    def is_known(self) -> bool:
        return not self.unknown

    @property
    def is_wholly_unknown(self) -> bool:
        return bool(self.unknown) and not self.picos


NOTHING = Cost()


@dataclass(frozen=True)
class PriceList:
    """The prices of those who answer in a run, and of those who judge, by their names."""

    answers: Mapping[str, Prices] = field(default_factory=dict)
    judges: Mapping[str, Prices] = field(default_factory=dict)

    @classmethod
    def of(cls, target: Mapping[str, Any]) -> Self:
        """Read a run's target as it is stored, with `judges` beside it."""
        answers = {target["model"]: Prices.of(target)} if target.get("model") else {}
        judges = {one["model"]: Prices.of(one) for one in target.get("judges", {}).values()}
        return cls(answers, judges)

    @cached_property
    def is_free(self) -> bool:
        """True when no model has a price above nothing."""
        every = (*self.answers.values(), *self.judges.values())
        return not any(price.prompt or price.completion for price in every)

    @property
    def unpriced(self) -> list[str]:
        """The names of the models without any price."""
        both = {**self.answers, **self.judges}
        return sorted(name for name, price in both.items() if price == UNPRICED)

    def cost(self, model: str, counts: Sequence[int], *, judging: bool) -> int | None:
        return (self.judges if judging else self.answers).get(model, UNPRICED).cost(counts)

    def known(self, tally: Tally) -> int:
        """Sum up all calls in picos, as far as prices are known."""
        return self.of_answers(tally).picos + self.of_judges(tally).picos

    def of_answers(self, tally: Tally) -> Cost:
        return self._sum(tally.answering(), judging=False)

    def of_judges(self, tally: Tally) -> Cost:
        return self._sum(tally.judging, judging=True)

    def _sum(self, models: Mapping[str, Sequence[int]], *, judging: bool) -> Cost:
        costs = {model: self.cost(model, sums, judging=judging) for model, sums in models.items()}
        known = sum(cost for cost in costs.values() if cost is not None)
        return Cost(known, frozenset(model for model, cost in costs.items() if cost is None))


NO_PRICES = PriceList()
