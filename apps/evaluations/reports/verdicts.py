"""Find the results of a run to which a criterion gave a certain verdict."""

from collections.abc import Iterator
from dataclasses import dataclass

from django.db.models import F

from apps.evaluations import packing, tally
from apps.evaluations.models import Criterion, Result, Run, row_in
from apps.evaluations.models.results import ResultQuerySet
from apps.evaluations.tally import Tally

# State -> the letters of the verdicts that mean it, and where a tally counts them. No verdict
# alone leaves a result unjudged, so nobody looks for that by criterion.
VERDICTS: dict[str, tuple[str, int]] = {
    Result.State.PASSED: (packing.PASSED, tally.PASSED),
    Result.State.FAILED: (packing.FAILED, tally.FAILED),
    Result.State.ERRORED: (packing.ERRORED, tally.ERRORED),
}


@dataclass(frozen=True)
class Wanted:
    """The results of a run to which a criterion gave the verdict `state`, a key of VERDICTS."""

    run: Run
    criterion: Criterion
    state: str

    def results(self) -> ResultQuerySet:
        letters, _ = VERDICTS[self.state]
        return Result.objects.of_run(self.run).judged(self.criterion.position, letters)

    def spans(self, row: int | None, *, backwards: bool) -> Iterator[tuple[int, int]]:
        """Yield the ranges of rows, from `row` on or back, that hold such results; nearest first.

        They are told by the sums of shards: a rare verdict would else be looked for in the
        scores of the whole run. A range is (first row, the row after its last).
        """
        shards = self.run.shards.order_by("-first_row" if backwards else "first_row")
        if row is not None and backwards:
            shards = shards.filter(first_row__lte=row)
        elif row is not None:
            shards = shards.filter(first_row__gt=row - F("row_count"))
        _, counter = VERDICTS[self.state]
        fields = shards.values_list("first_row", "row_count", "tally")
        # In small pieces: whoever has enough reads no further.
        for first_row, row_count, text in fields.iterator(chunk_size=200):
            sums = Tally.load(text).criteria.get(self.criterion.pk.hex)
            if sums and sums[counter]:
                yield first_row, first_row + row_count

    def find(self, key: int | None, *, backwards: bool, limit: int) -> list[Result]:
        """Return the first results after the one of this key, or the last before it; nearest first.

        key: None begins at the first, or at the last.
        """
        found: list[Result] = []
        order = "-pk" if backwards else "pk"
        results = self.results().order_by(order)
        if key is not None:
            results = results.filter(**{"pk__lt" if backwards else "pk__gt": key})
        row = None if key is None else row_in(key)
        for first, stop in self.spans(row, backwards=backwards):
            found += results.in_rows(self.run, first, stop)[: limit - len(found)]
            if len(found) >= limit:
                break
        return found
