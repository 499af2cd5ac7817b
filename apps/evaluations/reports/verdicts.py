"""Find the results of a run to which a criterion gave a certain verdict."""

from collections.abc import Iterator
from dataclasses import dataclass

from django.db.models import F

from apps.evaluations import packing, tally
from apps.evaluations.models import MOST_REPEATS, Criterion, Result, Run, key_of, row_in
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
        letters, _ = VERDICTS[self.state]
        row = None if key is None else row_in(key)
        for first_row, stop_row in self.spans(row, backwards=backwards):
            first = key_of(self.run.number, first_row)
            stop = key_of(self.run.number, stop_row - 1) + MOST_REPEATS
            if key is not None:
                first, stop = (first, min(stop, key)) if backwards else (max(first, key + 1), stop)
            # One bound on each side: of two lower ones SQLite searches by the wrong one.
            results = Result.objects.filter(pk__gte=first, pk__lt=stop)
            results = results.judged(self.criterion.position, letters)
            found += results.order_by(order)[: limit - len(found)]
            if len(found) >= limit:
                break
        return found
