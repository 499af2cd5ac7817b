"""export_run and import_openai_export: what people saved comes back with its ids and verdicts."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError

from apps.evaluations.models import Evaluation, Result, Run
from apps.evaluations.reports import VERDICTS, Wanted, read_criteria
from apps.evaluations.services.criteria import change_criteria
from apps.evaluations.services.evaluations import NewCriterion
from apps.evaluations.services.regrades import differing_verdicts
from apps.evaluations.services.runs import delete_run
from evalplatform.dialects.kit import parquet
from tests.dialects.openai.caller import (
    ROWS,
    STRING_CHECK,
    TEXT_SIMILARITY,
    Caller,
    chat_body,
    run_body,
    work,
)
from tests.dialects.openai.history.saved import (
    CRITERION_ID,
    EVAL,
    EVAL_ID,
    ITEMS,
    RUN,
    RUN_ID,
    SAMPLE,
    item,
    page,
    run,
    save,
    take_in,
)
from tests.factories import make_account, make_actor
from tests.judgements import judgements


def seen(caller: Caller, eval_id: str, run_id: str) -> tuple[Any, Any, list[Any]]:
    """An eval, a run and its items as the API shows them, but for what an address tells."""
    status, shown_eval = caller.get(f"/evals/{eval_id}")
    assert status == 200, shown_eval
    status, shown_run = caller.get(f"/evals/{eval_id}/runs/{run_id}")
    assert status == 200, shown_run
    status, items = caller.get(f"/evals/{eval_id}/runs/{run_id}/output_items", limit=100)
    assert status == 200, items
    shown_eval.pop("updated_at")
    shown_run.pop("report_url")
    return shown_eval, shown_run, items["data"]


@pytest.fixture
def caller(db: Any) -> Caller:
    return Caller(make_actor(account=make_account("Acme")))


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "body",
    [
        run_body(properties={"stage": "nightly"}, evaluation_level="turn"),
        chat_body(sampling_params={"temperature": 0.5}),
    ],
)
def test_an_exported_run_reads_the_same_in_the_account_it_is_imported_into(body, tmp_path):
    here, there = Caller(), Caller()
    created = here.new_eval(testing_criteria=[STRING_CHECK, TEXT_SIMILARITY])
    started = here.new_run(created["id"], {**body, "metadata": {"a": "b"}})
    work()
    run("export_run", started["id"], "--format", "folder", "--output", str(tmp_path / "run"))
    before = seen(here, created["id"], started["id"])
    out, err = take_in(there, tmp_path / "run")
    assert err == ""
    assert out == "Imported 1 evals, 1 runs, 3 output items.\n"
    assert seen(there, created["id"], started["id"]) == before
    assert [one["status"] for one in before[2]].count("error") == before[1]["result_counts"][
        "errored"
    ]
    old, new = Run.objects.order_by("imported_id")
    assert {old.imported_id, new.imported_id} == {None, started["id"]}
    assert json.loads(old.tally).keys() == json.loads(new.tally).keys()
    verdicts = [
        [
            (one.value, one.passed, one.evidence, one.error_code, one.error_message, one.exchange)
            for one in judgements(run_of)
        ]
        for run_of in (old, new)
    ]
    assert verdicts[0] == verdicts[1]
    assert verdicts[0]
    for state in VERDICTS:
        found = [
            [result.row_index for result in one.find(None, backwards=False, limit=100)]
            for of in (old, new)
            for one in [Wanted(of, criterion, state) for criterion in read_criteria(of)]
        ]
        assert found[:2] == found[2:]


@pytest.mark.django_db(transaction=True)
def test_an_export_of_its_own_is_known_to_the_account_it_came_from(tmp_path):
    caller = Caller()
    created = caller.new_eval()
    started = caller.new_run(created["id"])
    work()
    run("export_run", started["id"], "--format", "folder", "--output", str(tmp_path / "run"))
    out, _ = take_in(caller, tmp_path / "run")
    assert out.endswith("Here already: 1 evals, 1 runs.\n")
    assert (Evaluation.objects.count(), Run.objects.count()) == (1, 1)


@pytest.mark.django_db(transaction=True)
def test_tables_have_a_row_a_result_and_a_summary_beside(tmp_path):
    caller = Caller()
    created = caller.new_eval(testing_criteria=[STRING_CHECK, STRING_CHECK])
    started = caller.new_run(created["id"])
    work()
    pk = str(Run.objects.get().pk)
    out, _ = run("export_run", pk, "--output", "-")
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["item"] for line in lines] == [row["item"] for row in ROWS]
    assert [line["state"] for line in lines] == ["passed", "failed", "errored"]
    assert lines[0]["same.score"] == lines[0]["same 2.score"] == 1.0
    assert lines[1]["same.passed"] is False
    assert "billing" in lines[1]["same.evidence"]
    assert lines[2]["same.error"].startswith("invalid_variable_error: ")
    for kind in ("csv", "parquet"):
        path = tmp_path / f"run.{kind}"
        run("export_run", started["id"], "--format", kind, "--output", str(path))
        told = json.loads((tmp_path / "run.summary.json").read_text())
        (first, _) = told["criteria"]
        assert (first["scored"], first["mean"], first["standard_error"]) == (2, 0.5, 0.5)
        assert told["results"]["errored"] == 1
    with (tmp_path / "run.csv").open(newline="") as file:
        records = list(csv.DictReader(file))
    assert [record["state"] for record in records] == ["passed", "failed", "errored"]
    assert json.loads(records[0]["item"]) == ROWS[0]["item"]
    table = parquet.pyarrow.parquet.read_table(tmp_path / "run.parquet")
    assert table.column("same.passed").to_pylist() == [True, False, None]
    assert table.column_names == list(lines[0])


@pytest.mark.django_db(transaction=True)
def test_without_pyarrow_parquet_says_what_to_install(tmp_path, monkeypatch):
    caller = Caller()
    started = caller.new_run(caller.new_eval()["id"])
    monkeypatch.setattr(parquet, "pyarrow", None)
    path = str(tmp_path / "run.parquet")
    with pytest.raises(CommandError, match=r"evalplatform\[parquet\]"):
        run("export_run", started["id"], "--format", "parquet", "--output", path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.django_db(transaction=True)
def test_a_run_is_exported_with_the_criteria_it_ran_with_and_finds_them_again(tmp_path):
    here, there = Caller(), Caller()
    created = here.new_eval()
    started = here.new_run(created["id"])
    work()
    run("export_run", started["id"], "--format", "folder", "--output", str(tmp_path / "first"))
    before = seen(here, created["id"], started["id"])
    criteria = [NewCriterion("string_check", "other", {**STRING_CHECK, "reference": "x"})]
    change_criteria(here.actor, Evaluation.objects.get(), criteria)
    path = tmp_path / "run"
    run("export_run", started["id"], "--format", "folder", "--output", str(path))
    for name in ("eval.json", "output_items.jsonl"):
        assert without_times(path / name) == without_times(tmp_path / "first" / name)
    _, err = take_in(there, path)
    assert err == ""
    assert seen(there, created["id"], started["id"]) == before
    # Here its eval has other criteria by now, and still those of the run.
    delete_run(here.actor, Run.objects.get(imported_id=None))
    _, err = take_in(here, path)
    assert err == ""
    assert seen(here, created["id"], started["id"])[1:] == before[1:]


def without_times(path: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for line in lines:
        line.pop("updated_at", None)
    return lines


def test_what_is_no_run_or_no_export_is_refused(caller, tmp_path):
    with pytest.raises(CommandError, match="no id of a run"):
        run("export_run", "täglich", "--output", "-")
    with pytest.raises(CommandError, match="There is no run"):
        run("export_run", RUN_ID, "--output", "-")
    save(tmp_path / "old" / "run.json", RUN)
    take_in(caller, tmp_path / "old")
    save(tmp_path / "mine" / "thesis.txt", "…")
    with pytest.raises(CommandError, match="no export of a run"):
        run("export_run", RUN_ID, "--format", "folder", "--output", str(tmp_path / "mine"))


SHAPES: dict[str, dict[str, Any]] = {
    "single objects": {
        "eval.json": EVAL,
        "run.json": RUN,
        **{f"items/{one['id']}.json": one for one in ITEMS},
    },
    "list pages": {"e.json": page(EVAL), "r.json": page(RUN), "i.json": page(*reversed(ITEMS))},
    "arrays": {"e.json": [EVAL], "r.json": [RUN], "i.json": ITEMS},
    "lines": {"all.jsonl": "\n".join(json.dumps(one) for one in [*ITEMS, RUN, EVAL])},
    "lines of pages in .json": {
        "all.json": "\n".join(json.dumps(page(one)) for one in [*ITEMS, RUN, EVAL])
    },
    "one object of everything": {"all.json": {"eval": EVAL, "runs": [RUN], "items": page(*ITEMS)}},
    "overlapping pages": {
        "1.json": page(EVAL, RUN, *ITEMS[:2]),
        "2.json": page(*ITEMS[1:]),
        "deep/er/eval.json": EVAL,
    },
}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_in_which_objects_were_saved_is_read(caller, tmp_path, shape):
    for name, value in SHAPES[shape].items():
        save(tmp_path / name, value)
    out, err = take_in(caller, tmp_path)
    assert (out, err) == ("Imported 1 evals, 1 runs, 3 output items.\n", "")
    shown_eval, shown_run, items = seen(caller, EVAL_ID, RUN_ID)
    assert shown_eval == EVAL
    told = {key: value for key, value in RUN.items() if key != "report_url"}
    assert shown_run == told
    assert items == ITEMS


def test_old_ids_are_found_everywhere_on_the_wire(caller, tmp_path):
    evals = [
        {**EVAL, "id": f"{EVAL_ID[:-1]}{n}", "created_at": 1_740_000_000 + n} for n in range(3)
    ]
    runs = [
        {**RUN, "id": f"{RUN_ID[:-1]}{n}", "eval_id": evals[0]["id"], "created_at": 5 + n}
        for n in range(3)
    ]
    items = [{**one, "run_id": runs[0]["id"], "eval_id": evals[0]["id"]} for one in ITEMS]
    save(tmp_path / "all.json", [*evals, *runs, *items])
    take_in(caller, tmp_path)
    first = f"/evals/{evals[0]['id']}"
    for path, objects in (
        ("/evals", evals),
        (f"{first}/runs", runs),
        (f"{first}/runs/{runs[0]['id']}/output_items", items),
    ):
        status, listed = caller.get(path, after=objects[0]["id"], limit=1)
        assert status == 200, listed
        assert [one["id"] for one in listed["data"]] == [objects[1]["id"]]
        assert (listed["first_id"], listed["has_more"]) == (objects[1]["id"], True)
        status, one = caller.get(f"{path}/{objects[2]['id']}")
        assert (status, one["id"]) == (200, objects[2]["id"])
        assert caller.get(f"{path}/{objects[2]['id'][:-2]}%00")[0] == 404
    assert Caller().get(first)[0] == 404
    _, answer = caller.post(first, {"name": "Renamed"})
    assert (answer["id"], answer["name"]) == (evals[0]["id"], "Renamed")
    _, started = caller.post(f"{first}/runs", run_body())
    assert started["eval_id"] == evals[0]["id"]
    assert caller.delete(f"{first}/runs/{runs[0]['id']}") == (
        200,
        {"object": "eval.run.deleted", "deleted": True, "run_id": runs[0]["id"]},
    )
    assert caller.delete(first)[1]["eval_id"] == evals[0]["id"]
    assert caller.get(first)[0] == 404


def test_importing_twice_changes_nothing_and_what_was_deleted_comes_again(caller, tmp_path):
    save(tmp_path / "all.json", [EVAL, RUN, *ITEMS])
    take_in(caller, tmp_path)
    out, _ = take_in(caller, tmp_path)
    assert out.endswith("Here already: 1 evals, 1 runs.\n")
    assert (Evaluation.objects.count(), Run.objects.count(), Result.objects.count()) == (1, 1, 3)
    caller.delete(f"/evals/{EVAL_ID}/runs/{RUN_ID}")
    out, _ = take_in(caller, tmp_path)
    assert out.startswith("Imported 0 evals, 1 runs, 3 output items.\n")
    caller.delete(f"/evals/{EVAL_ID}")
    out, _ = take_in(caller, tmp_path)
    assert out == "Imported 1 evals, 1 runs, 3 output items.\n"
    assert seen(caller, EVAL_ID, RUN_ID)[2] == ITEMS


def test_a_dry_run_stores_nothing(caller, tmp_path):
    save(tmp_path / "all.json", [EVAL, RUN, *ITEMS])
    out, _ = take_in(caller, tmp_path, "--dry-run")
    assert out == "Would import 1 evals, 1 runs, 3 output items.\n"
    assert not Evaluation.objects.exists()


def test_broken_and_foreign_files_are_named_and_the_rest_comes_in(caller, tmp_path):
    save(tmp_path / "all.json", page(EVAL, RUN))
    save(tmp_path / "cut.json", json.dumps(page(*ITEMS))[:-40])
    lines = "\n".join(json.dumps(one) for one in ITEMS)
    save(tmp_path / "cut.jsonl", lines[:-10])
    save(tmp_path / "empty.json", "")
    save(tmp_path / "foreign.json", {"name": "package", "version": "1.0"})
    save(tmp_path / "nothing.json", page())
    save(tmp_path / "notes.txt", "eval")
    save(tmp_path / "no-id.json", {"object": "eval", "name": "nameless"})
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00{")
    out, err = take_in(caller, tmp_path)
    assert out == "Imported 1 evals, 1 runs, 2 output items.\n"
    for start in (
        "binary.json: is cut off or no JSON: ",
        "cut.json: is cut off or no JSON: ",
        "cut.jsonl, line 3: is cut off or no JSON: ",
        "empty.json: is empty.",
        "eval: was passed over: its id is missing",
        "foreign.json: holds no eval, run or output item.",
        "notes.txt: is neither .json nor .jsonl",
        f"{RUN_ID} came without 1 of its 3 output items; its counts are kept.",
    ):
        assert any(line.startswith(start) for line in err.splitlines()), (start, err)
    assert "nothing.json" not in err
    _, shown, items = seen(caller, EVAL_ID, RUN_ID)
    assert shown["result_counts"] == RUN["result_counts"]
    assert items == ITEMS[:2]


@pytest.mark.parametrize("name", ["", "foreign.json", "cut.json"])
def test_where_nothing_is_found_the_command_fails(caller, tmp_path, name):
    if name:
        save(tmp_path / name, '{"object": "ev' if name == "cut.json" else {"a": [1, {"b": 2}]})
    with pytest.raises(CommandError, match="Nothing was imported"):
        take_in(caller, tmp_path)
    with pytest.raises(CommandError, match="no file or directory"):
        take_in(caller, tmp_path / "nowhere")


def test_a_run_without_its_items_keeps_its_counts_and_says_so(caller, tmp_path):
    save(tmp_path / "all.json", [EVAL, RUN])
    _, err = take_in(caller, tmp_path)
    assert err == (
        f"{RUN_ID} came without its 3 output items, which were not saved; its counts are kept.\n"
    )
    _, shown, items = seen(caller, EVAL_ID, RUN_ID)
    assert shown["result_counts"] == RUN["result_counts"]
    assert shown["per_model_usage"] == RUN["per_model_usage"]
    assert shown["per_testing_criteria_results"] == RUN["per_testing_criteria_results"]
    assert items == []


def test_items_alone_make_their_run_and_their_eval(caller, tmp_path):
    save(tmp_path / "items.json", ITEMS)
    out, err = take_in(caller, tmp_path)
    assert out == "Imported 1 evals, 1 runs, 3 output items.\n"
    assert f"{RUN_ID} was not saved itself" in err
    assert f"{EVAL_ID} was not saved itself" in err
    shown_eval, shown, items = seen(caller, EVAL_ID, RUN_ID)
    assert shown["result_counts"] == RUN["result_counts"]
    assert shown["per_testing_criteria_results"] == RUN["per_testing_criteria_results"]
    [criterion] = shown_eval["testing_criteria"]
    for shown_item in items:
        # A name does not tell the kind.
        assert shown_item["results"][0].pop("type") == criterion["type"]
        shown_item["results"][0]["type"] = "string_check"
    assert items == ITEMS
    assert criterion["id"] == CRITERION_ID
    # What is known by name only can be read and cannot be run.
    status, answer = caller.post(f"/evals/{EVAL_ID}/runs", run_body())
    assert (status, "cannot be run here" in answer["error"]["message"]) == (400, True)


def test_criteria_that_cannot_be_run_here_are_kept_as_they_came(caller, tmp_path):
    strange = {
        **EVAL["testing_criteria"][0],
        "type": "label_model",
        "model": "gpt-5-nobody-has",
        "input": [{"type": "message", "role": "user", "content": "{{ item.label }}"}],
        "labels": ["a", "b"],
        "passing_labels": ["a"],
        "sampling_params": None,
    }
    unknown = {"type": "oracle", "name": "o", "id": "o-1", "grdr_id": None, "inactive_at": None}
    saved = {**EVAL, "testing_criteria": [strange, {**unknown, "depth": {"of": [1, 2]}}]}
    save(tmp_path / "all.json", [saved, RUN, *ITEMS])
    take_in(caller, tmp_path)
    shown_eval, _, items = seen(caller, EVAL_ID, RUN_ID)
    assert shown_eval["testing_criteria"] == saved["testing_criteria"]
    assert [one["results"][0] for one in items] == [
        {**one["results"][0], "type": "label_model"} for one in ITEMS
    ]
    status, _ = caller.post(f"/evals/{EVAL_ID}/runs", run_body())
    assert status == 400
    _, err = take_in(Caller(), tmp_path, "--regrade")
    assert f"{RUN_ID} is not graded again: " in err


def test_gaps_and_repeats_of_rows_and_items_without_an_index_come_in(caller, tmp_path):
    far = item(5_000)
    again = item(5_000, "fail", id="outputitem_again")
    lost = item(7, id="outputitem_lost", datasource_item={"label": "last"})
    del lost["datasource_item_id"]
    save(tmp_path / "all.json", [EVAL, {**RUN, "result_counts": None}, ITEMS[1], again, far, lost])
    take_in(caller, tmp_path)
    _, shown, items = seen(caller, EVAL_ID, RUN_ID)
    assert [one["id"] for one in items] == [
        ITEMS[1]["id"],
        "outputitem_again",
        far["id"],
        "outputitem_lost",
    ]
    assert [one["datasource_item_id"] for one in items] == [1, 5_000, 5_000, 5_001]
    assert items[3]["datasource_item"] == {"label": "last"}
    assert shown["result_counts"] == {"total": 4, "errored": 0, "failed": 2, "passed": 2}


def test_a_judges_exchange_and_a_run_that_failed_come_back(caller, tmp_path):
    judged = item(0)
    judged["results"][0]["sample"] = {**SAMPLE, "error": {"code": "c", "message": "m"}}
    source = {"type": "file_content", "content": [{"item": {"q": 1}}, {"item": {"q": 2}}]}
    failed = {
        **RUN,
        "status": "failed",
        "error": {"code": "quota", "message": "No more."},
        "data_source": {"type": "jsonl", "source": source},
        "result_counts": {"total": 1, "errored": 0, "failed": 0, "passed": 1},
    }
    judged["datasource_item"] = {"q": 1}
    save(tmp_path / "all.json", [EVAL, failed, judged])
    take_in(caller, tmp_path)
    _, shown, items = seen(caller, EVAL_ID, RUN_ID)
    assert items == [judged]
    assert (shown["status"], shown["error"]) == ("failed", failed["error"])
    assert shown["data_source"] == failed["data_source"]


@pytest.mark.django_db(transaction=True)
def test_a_run_that_never_ended_is_canceled_and_none_is_worked_on(tmp_path):
    caller = Caller()
    save(tmp_path / "all.json", [EVAL, {**RUN, "status": "in_progress"}, *ITEMS])
    _, err = take_in(caller, tmp_path)
    assert f'{RUN_ID} came without its status, "in_progress"' in err
    work()
    _, shown, items = seen(caller, EVAL_ID, RUN_ID)
    assert (shown["status"], items) == ("canceled", ITEMS)


@pytest.mark.django_db(transaction=True)
def test_grading_again_tells_how_many_verdicts_differ(tmp_path):
    caller = Caller()
    save(tmp_path / "all.json", [EVAL, RUN, *ITEMS])
    out, err = take_in(caller, tmp_path, "--regrade")
    assert err == ""
    assert f"{RUN_ID} is graded again as evalrun_" in out
    work()
    old, new = Run.objects.order_by("created_at")
    assert new.state == Run.State.COMPLETED
    # The third had no verdict, and fails now.
    assert differing_verdicts(old, new) == (1, 3)


def test_a_run_of_many_items_comes_in_whole_and_its_pages_join(caller, tmp_path):
    items = [item(n, "pass" if n % 3 else "fail") for n in range(2_600)]
    counts = {"total": 2_600, "errored": 0, "failed": 867, "passed": 1_733}
    save(tmp_path / "run.json", [EVAL, {**RUN, "result_counts": counts}])
    save(tmp_path / "items.jsonl", "\n".join(json.dumps(one) for one in items))
    _, err = take_in(caller, tmp_path)
    assert err == ""
    path, got, after = f"/evals/{EVAL_ID}/runs/{RUN_ID}/output_items", [], {}
    while True:
        _, listed = caller.get(path, limit=100, **after)
        got += listed["data"]
        if not listed["has_more"]:
            break
        after = {"after": listed["last_id"]}
    assert got == items
