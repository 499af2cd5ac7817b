"""A grader that kills whoever reads one text."""

import os
from dataclasses import dataclass

from apps.grading.graders.base import Mark, PlainGrader
from apps.grading.samples import Sample


@dataclass(frozen=True)
class Deadly(PlainGrader):
    """Kills the process that grades an item with `deadly_text`; passes all others."""

    kind = "deadly"

    deadly_text: str

    def templates(self) -> tuple[str, ...]:
        return ()

    def mark(self, sample: Sample) -> Mark:
        if sample.item["text"] == self.deadly_text:
            os._exit(9)
        return Mark(1.0, True)
