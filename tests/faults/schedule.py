"""Draw by a seed what is done to a system, and when; the same seed draws the same."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from tests.faults.injuries import INJURIES

FEWEST, MOST = 2, 4
LONGEST_PAUSE_SECONDS = 3.0
BEFORE_SHARE = 0.25  # of the schedules begin by hurting a system that idles


@dataclass(frozen=True)
class Fault:
    """One injury, `pause` seconds after the one before is over; it lasts `seconds`, if it lasts.

    before: it happens before the runs are started.
    """

    kind: str
    pause: float
    seconds: float
    before: bool = False

    def __str__(self) -> str:
        lasts = f" {self.seconds:.1f} s" if INJURIES[self.kind].longest else ""
        return f"{self.kind}{lasts}{' before' if self.before else f' after {self.pause:.1f}'}"


def schedule(seed: int, kinds: Sequence[str]) -> list[Fault]:
    """The faults of one run, of these kinds; those before the runs first."""
    choose = random.Random(seed)
    faults = []
    for number in range(choose.randint(FEWEST, MOST)):
        kind = choose.choice(kinds)
        shortest, longest = INJURIES[kind].shortest, INJURIES[kind].longest
        faults.append(
            Fault(
                kind,
                pause=round(choose.uniform(0, LONGEST_PAUSE_SECONDS), 2),
                seconds=round(choose.uniform(shortest, longest), 2),
                before=number == 0 and choose.random() < BEFORE_SHARE,
            )
        )
    return faults
