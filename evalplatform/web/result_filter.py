"""Narrow the results of a run by state or by one criterion, and offer the tabs that do so."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from django.http import QueryDict

from apps.evaluations.models import Criterion, Result, Run
from apps.evaluations.reports import (
    VERDICTS,
    Summary,
    Wanted,
    read_results,
)
from evalplatform.templatetags.formats import result_word
from evalplatform.web.paging import (
    Finder,
    Order,
    Place,
    finder,
)

ORDER = Order(Result, ("id",))
STATE, CRITERION, ROW = "state", "criterion", "row"


@dataclass(frozen=True)
class ResultFilter:
    """A choice of results: those in a state, of the whole result or by one criterion's verdict.

    number: the criterion's number from 1 on, as the query string has it; 0 without one.
    """

    run: Run
    state: str = ""
    number: int = 0
    criterion: Criterion | None = None

    @classmethod
    def of(cls, run: Run, criteria: Sequence[Criterion], query: QueryDict) -> "ResultFilter":
        state = query.get(STATE, "")
        if state not in Result.State.values:
            state = ""
        numbers = {str(number): number for number in range(1, len(criteria) + 1)}
        number = numbers.get(query.get(CRITERION, ""))
        if number is None or state not in {"", *VERDICTS}:
            return cls(run, state)
        return cls(run, state, number, criteria[number - 1])

    @property
    def words(self) -> str:
        """The filter as it reads after "those", empty without one."""
        if not self.state:
            return ""
        word = "without a verdict" if self.state == Result.State.UNJUDGED else self.state
        return f"{word} by {self.criterion.name}" if self.criterion else word

    @property
    def without_criterion(self) -> str:
        return replace(self, number=0, criterion=None).query

    @property
    def query(self) -> str:
        """The query string that leads back to this filter."""
        return self.with_state(self.state)

    def with_state(self, state: str) -> str:
        words = {STATE: state, CRITERION: self.number or ""}
        return f"?{urlencode({name: value for name, value in words.items() if value})}"

    def finder(self) -> Finder[Result]:
        if not self.state:
            return self._find_any
        if self.criterion is not None:
            return self._find_by_criterion
        return finder(Result.objects.of_run(self.run).filter(state=self.state), ORDER)

    def _find_any(self, place: Place | None, *, backwards: bool, limit: int) -> list[Result]:
        key = None if place is None else place[0] + (-1 if backwards else 1)
        return read_results(self.run, key, limit, descending=backwards)

    def _find_by_criterion(
        self, place: Place | None, *, backwards: bool, limit: int
    ) -> list[Result]:
        assert self.criterion is not None
        wanted = Wanted(self.run, self.criterion, self.state)
        return wanted.find(place[0] if place else None, backwards=backwards, limit=limit)


@dataclass(frozen=True)
class Tab:
    """A filter to choose. count: how many results it leaves."""

    label: str
    count: int
    query: str
    is_chosen: bool


def tabs_of(report: Summary, narrowed: ResultFilter) -> Iterator[Tab]:
    """Yield the tabs of a report; a state that no result has gets none where most runs lack it."""
    counts: Any = report.counts
    criterion = next((one for one in report.criteria if one.criterion == narrowed.criterion), None)
    yield Tab("All", counts.done, narrowed.with_state(""), not narrowed.state)
    for state in Result.State:
        if criterion is not None and state not in VERDICTS:
            continue
        count = getattr(criterion or counts, state.value)
        # Most runs judge every result: the word would only be in the way.
        if count or state != Result.State.UNJUDGED:
            yield Tab(
                result_word(state), count, narrowed.with_state(state), narrowed.state == state
            )
