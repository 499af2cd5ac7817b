"""import_openai_export over odd files and objects: named or mended, never a crash."""

import json
from collections.abc import Iterator
from copy import deepcopy
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest

from apps.evaluations.models import Result, Run
from evalplatform.dialects.openai.history.saved_values import EXTRAS
from tests.dialects.openai.caller import Caller
from tests.dialects.openai.history.saved import CRITERION_ID, EVAL, RUN, item, take_in
from tests.factories import make_account, make_actor

Place = tuple[str | int, ...]
ODD: dict[str, Any] = {
    "nothing": None,
    "true": True,
    "huge": 10**400,
    "vast": 1e308,
    "text": "x",
    "long": "é" * 20_000,
    "array of nothing": [None],
    "object of objects": {"a": {"object": "eval"}},
}
ITEM = item(
    0,
    results=[
        {
            "name": CRITERION_ID,
            "score": 1.0,
            "passed": True,
            "sample": {"input": [{"role": "user", "content": "Judge"}], "output": []},
            "error": {"code": "c", "message": "m"},
            EXTRAS: {"value": 0.5, "passed": True, "evidence": "e", "exchange": {"input": []}},
        }
    ],
    **{EXTRAS: {"state": "passed", "sample": {"a": 1}, "exchange": {}, "row_sample": {}}},
)


def places(value: Any, at: Place = ()) -> Iterator[Place]:
    if at:
        yield at
    if not isinstance(value, dict | list):
        return
    inner = enumerate(value) if isinstance(value, list) else value.items()
    for key, one in inner:
        yield from places(one, (*at, key))


def with_oddity(value: Any, at: Place | None, odd: Any, **ids: str) -> Any:
    """Copy a saved object with ids of its own and, unless an id stands there, `odd` in place."""
    changed = deepcopy(value)
    changed.update(ids)
    if at is not None and at[0] not in ids:
        *way, last = at
        within = changed
        for key in way:
            within = within[key]
        within[last] = odd
    return changed


def sets_of(odd: Any) -> Iterator[list[dict[str, Any]]]:
    ways = [places(EVAL), places(RUN), places(ITEM)]
    for number, (of_eval, of_run, of_item) in enumerate(zip_longest(*ways)):
        eval_id, run_id = f"eval_{number:032x}", f"evalrun_{number:032x}"
        yield [
            with_oddity(EVAL, of_eval, odd, id=eval_id),
            with_oddity(RUN, of_run, odd, id=run_id, eval_id=eval_id),
            with_oddity(
                ITEM, of_item, odd, id=f"outputitem_{number:032x}", run_id=run_id, eval_id=eval_id
            ),
        ]


@pytest.fixture
def caller(db: Any) -> Caller:
    return Caller(make_actor(account=make_account("Acme")))


@pytest.mark.slow
@pytest.mark.parametrize("what", ODD)
def test_whatever_stands_in_a_field_the_rest_comes_in_and_reads(
    what: str, caller: Caller, tmp_path: Path
) -> None:
    saved = [*sets_of(ODD[what])]
    lines = [json.dumps(one) for objects in saved for one in objects]
    (tmp_path / "all.jsonl").write_text("\n".join(lines))
    out, err = take_in(caller, tmp_path)
    assert out.startswith("Imported "), err
    # An object that lost its `object` is passed over, and its stand-in takes its place.
    assert Run.objects.count() >= len(saved) - 1
    assert Result.objects.count() >= len(saved) - 3
    assert max(map(len, err.splitlines())) < 700
    assert caller.get("/evals", limit=100)[0] == 200
    for run in Run.objects.select_related("evaluation"):
        # An eval and a run look alone as they do in their lists.
        runs = f"/evals/{run.evaluation.imported_id}/runs"
        for path in (runs, f"{runs}/{run.imported_id}/output_items"):
            assert caller.get(path)[0] == 200, path


WHOLE = json.dumps([EVAL, RUN, ITEM])
FILES: dict[str, tuple[bytes, str]] = {
    "utf-16.json": (WHOLE.encode("utf-16"), "is cut off or no JSON: "),
    "latin-1.json": (WHOLE.replace("Tickets", "Größe").encode("latin-1"), "is cut off or no JSON"),
    "nul.json": (WHOLE.replace("Tickets", "a\\u0000b").encode(), "is cut off or no JSON: "),
    "surrogate.json": (WHOLE.replace("Tickets", "\\ud800").encode(), "is cut off or no JSON: "),
    "nan.json": (WHOLE.replace("1.0", "NaN").encode(), "is cut off or no JSON: "),
    "deep.json": (b"[" * 100_000, "is cut off or no JSON: "),
    "zip.json": (b"PK\x03\x04" + bytes(range(256)), "is cut off or no JSON: "),
    "zip.jsonl": (b"PK\x03\x04" + bytes(range(256)), "is cut off or no JSON: "),
    "blanks.jsonl": (b"\n \n\n", "holds no eval, run or output item."),
    "number.json": (b"5", "holds no eval, run or output item."),
    "too-deep-inside.json": (
        json.dumps([[[[[[EVAL]]]]]]).encode(),
        "holds no eval, run or output item.",
    ),
    "cut.json": (WHOLE[:-1].encode(), "is cut off or no JSON: "),
    "page.html": (b"<html>", "is neither .json nor .jsonl; it was not read."),
}


def test_a_folder_of_junk_is_named_file_by_file_and_what_is_whole_comes_in(
    caller: Caller, tmp_path: Path
) -> None:
    for name, (content, _) in FILES.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "whole.json").write_bytes(b"\xef\xbb\xbf" + WHOLE.encode())
    (tmp_path / ".hidden.json").write_text("{")
    (tmp_path / "round").symlink_to(tmp_path)
    (tmp_path / "nowhere.json").symlink_to(tmp_path / "gone.json")
    (tmp_path / "folder.json").mkdir()
    out, err = take_in(caller, tmp_path)
    assert out == "Imported 1 evals, 1 runs, 1 output items.\n"
    lines = err.splitlines()
    for name, (_, message) in FILES.items():
        assert any(line.startswith(name) and message in line for line in lines), (name, err)
    others = [line for line in lines if not line.startswith(tuple(FILES))]
    assert others == [f"{RUN['id']} came without 2 of its 3 output items; its counts are kept."]


def test_of_objects_with_one_id_the_first_is_taken(caller: Caller, tmp_path: Path) -> None:
    [criterion] = EVAL["testing_criteria"]
    twins = [criterion, {**criterion, "name": "twin"}]
    objects = [
        {**EVAL, "testing_criteria": twins},
        {**EVAL, "name": "Another"},
        RUN,
        {**RUN, "name": "Another"},
        item(0),
        item(0, "fail"),
        {**item(0, "fail"), "id": "outputitem_twin"},
    ]
    (tmp_path / "all.json").write_text(json.dumps(objects))
    out, err = take_in(caller, tmp_path)
    assert out == "Imported 1 evals, 1 runs, 2 output items.\n", err
    _, shown = caller.get(f"/evals/{EVAL['id']}")
    assert shown["name"] == EVAL["name"]
    assert len(shown["testing_criteria"]) == 1
    _, listed = caller.get(f"/evals/{EVAL['id']}/runs/{RUN['id']}/output_items")
    # Two items of one row are answers to it.
    assert [(one["datasource_item_id"], one["status"]) for one in listed["data"]] == [
        (0, "pass"),
        (0, "fail"),
    ]
