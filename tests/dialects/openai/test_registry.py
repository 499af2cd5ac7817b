"""load_openai_evals: a registry of openai/evals becomes evaluations with their graders."""

import json
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from apps.datasets.models import Dataset, TestCase
from apps.evaluations.models import Criterion, Evaluation, Run
from apps.evaluations.reports import summary
from apps.evaluations.services.named_runs import find_by_name, start_run_by_name
from tests.dialects.openai.caller import Caller, work
from tests.factories import make_account, make_actor, make_endpoint
from tests.model_server import ModelServer

BASIC = """
{name}:
  id: {name}.s1.v0
  description: About {name}.
  metrics: [accuracy]
{name}.s1.v0:
  class: evals.elsuite.{kind}
  args:
    samples_jsonl: {name}/samples.jsonl
"""
JUDGED = "modelgraded.classify:ModelBasedClassify"
CLOSED = r"""
prompt: |-
  [Task]: {input}
  [Submission]: {completion} as {{"a": 1}}
  [Criterion]: {criteria}
choice_strings: 'YN'
choice_scores:
  "Y": 1.0
  "N": 0.0
input_outputs:
  input: "completion"
"""

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def owner(db: Any) -> Any:
    return make_actor(account=make_account("Acme"))


class Folder:
    """A registry in the making."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("evals", "data", "modelgraded"):
            (root / "evals" / "registry" / name).mkdir(parents=True)

    def write(self, path: str, text: str) -> None:
        place = self.root / "evals" / "registry" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")

    def add(self, name: str, kind: str, rows: list[dict[str, Any]], more: str = "") -> None:
        self.write(f"evals/{name}.yaml", BASIC.format(name=name, kind=kind) + more)
        self.write(f"data/{name}/samples.jsonl", "".join(json.dumps(row) + "\n" for row in rows))

    def load(self, capsys: Any, *words: str) -> tuple[list[str], list[str]]:
        capsys.readouterr()
        call_command("load_openai_evals", str(self.root), "--account", "Acme", *words)
        told = capsys.readouterr()
        return told.out.splitlines(), told.err.splitlines()


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def run(actor: Any, name: str, model: str = "builtin/echo") -> dict[str, float | None]:
    """Run by name, and give the mean of each criterion."""
    evaluation = find_by_name(actor, name)
    assert evaluation is not None
    started = start_run_by_name(actor, evaluation, model=model)
    work()
    report = summary(Run.objects.get(pk=started.pk))
    assert (report.run.state, report.run.error_message) == ("completed", "")
    return {line.criterion.name: line.total / line.scored for line in report.criteria}


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": "Answer."}, {"role": "user", "content": text}]


@pytest.mark.parametrize(
    ("kind", "more", "rows", "mean"),
    [
        (
            "basic.match:Match",
            "",
            # builtin/echo says the last message again; a reply need only begin with an ideal.
            [
                {"input": user("Rome, of course"), "ideal": "Rome"},
                {"input": user("Rome"), "ideal": ["Paris", "Rome"]},
                {"input": "In Rome", "ideal": "Rome"},
                {"input": user("Oslo"), "ideal": ["Paris", "Rome"]},
            ],
            0.5,
        ),
        (
            "basic.includes:Includes",
            "",
            [
                {"input": user("In Rome"), "ideal": ["Paris", "Rome"]},
                {"input": user("In rome"), "ideal": "Rome"},
            ],
            0.5,
        ),
        (
            "basic.includes:Includes",
            "    ignore_case: true\n",
            [
                {"input": user("In ROME"), "ideal": ["Paris", "Rome"]},
                {"input": user("Oslo"), "ideal": "Rome"},
            ],
            0.5,
        ),
        (
            "basic.fuzzy_match:FuzzyMatch",
            "",
            [
                {"input": user("The Rome!"), "ideal": ["Paris", "rome"]},
                {"input": user("Oslo"), "ideal": ["Rome"]},
            ],
            0.5,
        ),
        (
            "basic.json_match.JsonMatch",
            "",
            [
                {"input": user('{"a": 1.0}'), "ideal": ['{"a": 1}']},
                {"input": user("[1, 2]"), "ideal": "[1,2]"},
                {"input": user("Oslo"), "ideal": "Oslo"},
            ],
            2 / 3,
        ),
    ],
)
def test_an_eval_is_run_by_its_name_and_gives_its_verdicts(
    owner: Any,
    folder: Folder,
    capsys: Any,
    kind: str,
    more: str,
    rows: list[dict[str, Any]],
    mean: float,
):
    folder.add("capitals", kind, rows, more)
    out, err = folder.load(capsys)
    assert err == []
    assert out[-1] == "1 loaded, 0 not."
    evaluation = Evaluation.objects.get()
    assert (evaluation.call_name, evaluation.description) == ("capitals", "About capitals.")
    [value] = run(owner, "capitals").values()
    assert value == pytest.approx(mean)


def test_its_clients_see_it_with_its_graders_and_run_its_file(
    owner: Any, folder: Folder, capsys: Any
):
    rows = [{"input": user("Rome it is"), "ideal": ["Rome"]}, {"input": user("x"), "ideal": "y"}]
    folder.add("capitals", "basic.match:Match", rows)
    out, _ = folder.load(capsys, "--files")
    caller = Caller(owner)
    _, listed = caller.get("/evals")
    [shown] = listed["data"]
    [file] = caller.get("/files")[1]["data"]
    assert out[0] == (f"capitals loaded: 2 rows, by match, {shown['id']}, {file['id']}")
    [criterion] = shown["testing_criteria"]
    assert (criterion["type"], criterion["prefix"]) == ("match", True)
    source = {
        "type": "completions",
        "model": "builtin/echo",
        "source": {"type": "file_id", "id": file["id"]},
        "input_messages": {"type": "item_reference", "item_reference": "item.input"},
    }
    status, made = caller.post(f"/evals/{shown['id']}/runs", {"data_source": source})
    assert status == 201, made
    work()
    _, made = caller.get(f"/evals/{shown['id']}/runs/{made['id']}")
    assert made["result_counts"] == {"total": 2, "errored": 0, "failed": 1, "passed": 1}


def test_examples_come_before_the_last_message(owner: Any, folder: Folder, capsys: Any):
    more = "    num_few_shot: 1\n    few_shot_jsonl: capitals/few.jsonl\n"
    folder.add("capitals", "basic.match:Match", [{"input": user("Rome"), "ideal": "R"}], more)
    shots = [{"sample": [{"role": "user", "content": str(number)}]} for number in range(3)]
    folder.write("data/capitals/few.jsonl", "\n".join(map(json.dumps, shots)))
    folder.load(capsys)
    item = json.loads(TestCase.objects.get().item)
    assert [one["content"] for one in item["input"]] == ["Answer.", "0", "Rome"]


def test_a_judge_gets_its_prompt_and_counts_the_right_choices(
    owner: Any, folder: Folder, capsys: Any, server: ModelServer
):
    judge = 'answer:{"steps": [], "result": "Y"}'
    make_endpoint(owner, server.base_url, models=[judge])
    folder.write("modelgraded/closedqa.yaml", CLOSED)
    more = (
        "    modelgraded_spec: closedqa\n    modelgraded_spec_args:\n"
        "      criteria:\n        brief: 'Is it brief?'\n        kind: 'Is it kind?'\n"
    )
    folder.add("jokes", JUDGED, [{"input": user("Tell one"), "ideal": "x"}], more)
    _, err = folder.load(capsys, "--judge", judge)
    assert err == []
    assert run(owner, "jokes") == {"brief": 1.0, "kind": 1.0}
    brief, _ = Criterion.objects.order_by("position")
    [message] = brief.read_settings()["input"]
    assert message["content"] == (
        "[Task]: {{ item.input_text }}\n"
        '[Submission]: {{ sample.output_text }} as {"a": 1}\n'
        "[Criterion]: Is it brief?"
    )
    item = json.loads(TestCase.objects.get().item)
    assert item["input_text"] == "System: Answer.\nUser: Tell one"
    assert (brief.read_settings()["labels"], brief.read_settings()["passing_labels"]) == (
        ["Y", "N"],
        ["Y"],
    )


def test_what_cannot_be_loaded_is_named_with_the_reason_and_the_rest_is_loaded(
    owner: Any, folder: Folder, capsys: Any
):
    good = [{"input": "x", "ideal": "x"}]
    folder.add("good", "basic.match:Match", good)
    folder.add("own", "solvers.Own:Own", good)
    folder.add("missing", "basic.match:Match", good)
    (folder.root / "evals/registry/data/missing/samples.jsonl").unlink()
    folder.add("pointer", "basic.match:Match", good)
    folder.write("data/pointer/samples.jsonl", "version https://git-lfs.github.com/spec/v1\n")
    folder.add("broken", "basic.match:Match", good)
    folder.write("data/broken/samples.jsonl", '{"input": "x", "ideal": "x"}\n{oops\n')
    folder.add("bare", "basic.match:Match", [{"input": "x"}])
    folder.add("many", "basic.json_match:JsonMatch", [{"input": "x", "ideal": ["1", "2"]}])
    folder.add("away", "basic.match:Match", good)
    away = BASIC.format(name="away", kind="basic.match:Match")
    url = "https://elsewhere.example/x.jsonl"
    folder.write("evals/away.yaml", away.replace("away/samples.jsonl", url))
    folder.add("outside", "basic.match:Match", good)
    outside = BASIC.format(name="outside", kind="basic.match:Match")
    path = "../../../../etc/passwd"
    folder.write("evals/outside.yaml", outside.replace("outside/samples.jsonl", path))
    folder.write("modelgraded/fact.yaml", CLOSED.replace("choice_scores", "other"))
    folder.add("fact", JUDGED, good, "    modelgraded_spec: fact\n")
    folder.write("modelgraded/closedqa.yaml", CLOSED)
    folder.add("closed", JUDGED, good, "    modelgraded_spec: closedqa\n")
    folder.write("evals/unreadable.yaml", "a: [")
    folder.write("evals/lost.yaml", "lost:\n  id: nothing.v0\n")
    out, err = folder.load(capsys)
    reasons = dict(line.split(" is not loaded: ") for line in err)
    expected = {
        "own": "its class evals.elsuite.solvers.Own:Own is a program of its own",
        "missing": "missing/samples.jsonl: No such file or directory",
        "pointer": "fetch it with git lfs pull",
        "broken": "broken/samples.jsonl: line 2: ",
        "bare": "row 1 of its data has no 'ideal'",
        "many": "a row has several ideals",
        "away": "its rows lie elsewhere",
        "outside": "is not below the registry's data",
        "fact": "does not say which of its choices are right",
        "closed": "a model judges it: name one with --judge",
        "evals/unreadable.yaml": "cannot be read",
        "lost": "its id 'nothing.v0' is no eval with a class",
    }
    assert reasons.keys() == expected.keys()
    for name, words in expected.items():
        assert words in reasons[name], name
    assert [line.split()[0] for line in out] == ["good", "1"]
    assert out[-1] == "1 loaded, 12 not."
    assert [one.name for one in Dataset.objects.all()] == ["good"]
    assert Evaluation.objects.get().call_name == "good"


def test_loading_again_replaces_and_a_dry_run_stores_nothing(
    owner: Any, folder: Folder, capsys: Any
):
    folder.add("capitals", "basic.match:Match", [{"input": "x", "ideal": "x"}])
    folder.add("others", "basic.match:Match", [{"input": "x", "ideal": "x"}])
    out, _ = folder.load(capsys, "--dry-run")
    assert out[0] == "capitals would be loaded: 1 row, by match"
    assert not Dataset.objects.exists()
    folder.load(capsys, "--only", "capitals")
    folder.add("capitals", "basic.includes:Includes", [{"input": "x", "ideal": "x"}] * 2)
    folder.load(capsys, "--only", "capitals")
    evaluation = Evaluation.objects.get()
    assert [one.kind for one in evaluation.criteria_of(evaluation.criteria_version)] == ["includes"]
    dataset = Dataset.objects.get()
    assert (dataset.latest_num, dataset.case_count) == (2, 2)


def test_a_folder_without_a_registry_is_refused(owner: Any, tmp_path: Path):
    with pytest.raises(CommandError, match="has no folder evals with YAML files"):
        call_command("load_openai_evals", str(tmp_path), "--account", "Acme")
