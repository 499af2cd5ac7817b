"""Pack the machine's verdicts on one result into its own row, and read them again; pure.

A row per verdict would take ten times the room: most of it would be keys.
"""

from array import array
from collections.abc import Mapping, Sequence
from functools import lru_cache
from math import nan
from sys import byteorder
from typing import Any, NamedTuple

from apps.strict_json import dump_json, parse_json

# A letter for each criterion, in the order of the criteria: what (has a value, passed) means.
LETTERS: dict[tuple[bool, bool | None], str] = {
    (True, True): "p",
    (True, False): "f",
    (True, None): "s",
    (False, None): "e",
    # Only a history from elsewhere has a verdict without a value.
    (False, True): "P",
    (False, False): "F",
}
MEANINGS = {letter: meaning for meaning, letter in LETTERS.items()}
MISSING = "-"  # the criterion has said nothing

PASSED, FAILED, ERRORED = "pP", "fF", "ePF"


class Verdict(NamedTuple):
    """The verdict of a criterion's grader on a result.

    evidence: "" where it is made again when it is read. exchange: JSON of what a judge was asked
    and answered. notes: what else is to be said of the value, see `Mark`.
    """

    value: float | None
    passed: bool | None
    error_code: str = ""
    error_message: str = ""
    evidence: str = ""
    exchange: str | None = None
    notes: Mapping[str, Any] | None = None

    @property
    def is_errored(self) -> bool:
        return self.value is None and bool(self.error_code)


class Packed(NamedTuple):
    """The columns of a result that hold its verdicts; their names are those of the model.

    verdicts: a letter for each criterion. scores: JSON array of their values, "" where no value
    says more than its letter (1 for p, 0 for f). verdict_faults: JSON object from the criterion's
    index to [code, message], None without any. verdict_traces: likewise to [evidence, exchange]
    or [evidence, exchange, notes].
    """

    verdicts: str = ""
    scores: str = ""
    verdict_faults: str | None = None
    verdict_traces: str | None = None


NOTHING = Packed()
PLAIN_VALUES = {"p": 1.0, "f": 0.0}


def pack(verdicts: Sequence[Verdict | None], own_fault: tuple[str, str] | None = None) -> Packed:
    """Pack a verdict for each criterion, None where it has said nothing.

    own_fault: the result's own code and message, which its verdicts need not repeat.
    """
    letters: list[str] = []
    values: list[float | None] = []
    faults: dict[str, tuple[str, str]] = {}
    traces: list[str] = []
    for index, one in enumerate(verdicts):
        if one is None:
            letters.append(MISSING)
            values.append(None)
            continue
        letters.append(LETTERS[one.value is not None, one.passed])
        values.append(one.value)
        fault = (one.error_code, one.error_message)
        if one.error_code and not (one.value is None and fault == own_fault):
            faults[str(index)] = fault
        if one.evidence or one.exchange is not None or one.notes:
            notes = f",{dump_json(one.notes)}" if one.notes else ""
            traces.append(f'"{index}":[{dump_json(one.evidence)},{one.exchange or "null"}{notes}]')
    word = "".join(letters)
    plain = values == [PLAIN_VALUES.get(letter) for letter in word]
    return Packed(
        word,
        "" if plain else dump_json(values),
        dump_json(faults) if faults else None,
        f"{{{','.join(traces)}}}" if traces else None,
    )


def pack_plain(marks: Sequence[tuple[float | None, bool | None]]) -> Packed:
    """Pack what `pack` would of verdicts that are a value and passed, and nothing else."""
    word, is_plain = "", True
    for value, passed in marks:
        letter = LETTERS[value is not None, passed]
        word += letter
        is_plain = is_plain and value == PLAIN_VALUES.get(letter)
    return Packed(word, "" if is_plain else dump_json([value for value, _ in marks]))


def unpack(packed: Packed, own_fault: tuple[str, str] | None = None) -> list[Verdict | None]:
    """Read the verdicts that `pack` has packed, in the same order."""
    if own_fault is None and packed[1:] == NOTHING[1:]:
        return [*_plain_verdicts(packed.verdicts)]
    if packed.scores:
        values = parse_json(packed.scores)
    else:
        values = [PLAIN_VALUES.get(letter) for letter in packed.verdicts]
    faults = parse_json(packed.verdict_faults) if packed.verdict_faults else {}
    traces = parse_json(packed.verdict_traces) if packed.verdict_traces else {}
    verdicts: list[Verdict | None] = []
    for index, letter in enumerate(packed.verdicts):
        if letter == MISSING:
            verdicts.append(None)
            continue
        value = values[index]
        code, message = faults.get(str(index)) or ("", "")
        if value is None and not code and own_fault is not None:
            code, message = own_fault
        evidence, exchange, *notes = traces.get(str(index)) or ("", None)
        verdicts.append(
            Verdict(
                None if value is None else float(value),
                MEANINGS[letter][1],
                code,
                message,
                evidence,
                None if exchange is None else dump_json(exchange),
                notes[0] if notes else None,
            )
        )
    return verdicts


@lru_cache(maxsize=1_000)
def _plain_verdicts(letters: str) -> Sequence[Verdict | None]:
    """Read verdicts of which the letters say all, as those of most results do."""
    return [
        None if letter == MISSING else Verdict(PLAIN_VALUES.get(letter), MEANINGS[letter][1])
        for letter in letters
    ]


class PackedColumn(NamedTuple):
    """The verdicts of one criterion on many results, in their order.

    letters: one for each. numbers: their values as little-endian doubles, NaN where there is none;
    None where no value says more than its letter.
    """

    letters: str
    numbers: bytes | memoryview | None


def pack_columns(rows: Sequence[tuple[str, str]]) -> list[PackedColumn]:
    """Turn results, each with its `verdicts` and `scores`, into a column for each criterion.

    Results without any verdict, or with fewer than others, have MISSING in the rest.
    """
    width = max((len(word) for word, _ in rows), default=0)
    words = [word.ljust(width, MISSING) for word, _ in rows]
    values = [parse_json(scores) if scores else None for _, scores in rows]
    is_plain = not any(values)
    columns = []
    for index in range(width):
        letters = "".join([word[index] for word in words])
        if is_plain:
            columns.append(PackedColumn(letters, None))
            continue
        numbers = [
            scores[index] if scores and letter != MISSING else PLAIN_VALUES.get(letter)
            for letter, scores in zip(letters, values, strict=True)
        ]
        if numbers == [PLAIN_VALUES.get(letter) for letter in letters]:
            columns.append(PackedColumn(letters, None))
            continue
        doubles = array("d", [nan if number is None else number for number in numbers])
        if byteorder == "big":
            doubles.byteswap()
        columns.append(PackedColumn(letters, doubles.tobytes()))
    return columns
