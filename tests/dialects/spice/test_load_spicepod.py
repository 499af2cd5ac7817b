"""load_spicepod: a file's components into an account, all of them or nothing."""

import gzip
import io
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db.models import F

from apps.accounts.models import AuditEvent
from apps.accounts.roles import Role
from apps.datasets.models import Dataset, DatasetVersion, TestCase
from apps.datasets.reading import find_version, read_cases
from apps.datasets.services import archive_dataset
from apps.evaluations.engine.worker import Worker
from apps.evaluations.models import Evaluation, Result, Run
from apps.evaluations.services import declarations
from apps.evaluations.services.named_runs import find_by_name, start_run_by_name
from apps.inference.models import ServedModel
from evalplatform.dialects.spice import downloads as spice_downloads
from tests.factories import make_account, make_actor, make_dataset, make_endpoint

URL = "http://127.0.0.1:8680/v1"
OTHER_URL = "http://127.0.0.1:8681/v1"
ROWS = '{"input":"say b","ideal":"b"}\n{"input":"say c","ideal":"c","topic":"letters"}\n'


@pytest.fixture
def owner(db):
    return make_actor(account=make_account("Acme"))


@pytest.fixture
def endpoint(owner):
    return make_endpoint(owner, URL, models=["big"], aliases={"short": "upstream-big"})


def run(*words: str) -> tuple[str, str]:
    out, err = io.StringIO(), io.StringIO()
    call_command(*words, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


def dataset(name: str = "trivia", path: str = "trivia.jsonl", **members: Any) -> dict:
    return {"name": name, "from": f"file:{path}", **members}


def model(name: str, source: str = "big", **params: Any) -> dict:
    return {"name": name, "from": f"openai:{source}", "params": params}


def evaluation(name: str = "letters", dataset: str = "trivia", *scorers: str, **members) -> dict:
    return {"name": name, "dataset": dataset, "scorers": [*scorers], **members}


@pytest.fixture
def load(owner, tmp_path):
    """Load sections as a spicepod beside the files that are given."""
    (tmp_path / "trivia.jsonl").write_text(ROWS, encoding="utf-8")

    def load(*words: str, account: str = "Acme", files: dict | None = None, **sections: Any):
        for name, content in (files or {}).items():
            data = content if isinstance(content, bytes) else content.encode()
            (tmp_path / name).write_bytes(data)
        pod = tmp_path / "spicepod.yaml"
        pod.write_text(json.dumps(sections), encoding="utf-8")
        return run("load_spicepod", str(pod), "--account", account, *words)

    return load


def items(actor, name: str = "trivia", num: int | None = None) -> list[dict]:
    return [item for item, _ in read_cases(find_version(actor.account.pk, name, num))]


def assert_nothing_is_stored() -> None:
    assert not Dataset.objects.exists()
    assert not TestCase.objects.exists()
    assert not Evaluation.objects.exists()
    assert not ServedModel.objects.exclude(declared_from="").exists()
    actions = AuditEvent.objects.values_list("action", flat=True)
    assert not {"dataset.import", "model.declare", "evaluation.create"} & set(actions)


def test_every_component_is_stored_and_told_in_a_line(load, owner, endpoint):
    out, err = load(
        datasets=[dataset()],
        models=[model("referee", "big", system_prompt="Rate", openai_temperature=0.5)],
        embeddings=[{"name": "embed", "from": "openai:e5"}],
        evals=[evaluation("letters", "trivia", "match", "referee", "match", description="Easy")],
    )
    assert out.splitlines() == [
        "dataset 'trivia' created: 2 rows, version 1, read as JSONL, in UTF-8",
        f"model 'referee' created: 'big' at {URL}",
        f"embedding model 'embed' created: 'e5' at {URL}",
        "evaluation 'letters' created: the dataset 'trivia' by 'match', 'referee', 'match'",
    ]
    assert err == ""
    referee = ServedModel.objects.get(account=owner.account, name="referee")
    assert (referee.endpoint, referee.upstream_name, referee.kind) == (endpoint, "big", "chat")
    assert (referee.system_prompt, referee.prompt_is_template) == ("Rate", False)
    assert referee.params == '{"temperature":0.5}'
    assert ServedModel.objects.get(name="embed").kind == "embedding"
    letters = Evaluation.objects.get()
    assert (letters.call_name, letters.name, letters.description) == ("letters", "letters", "Easy")
    assert letters.dataset_name == "trivia"
    assert letters.read_scorers() == ["match", "referee", "match"]
    done = {"dataset.import", "model.declare", "evaluation.name"}
    assert done <= set(AuditEvent.objects.filter(user=owner.user).values_list("action", flat=True))


def test_rows_keep_all_their_columns_and_their_order(load, owner):
    load(datasets=[dataset()])
    assert items(owner) == [
        {"input": "say b", "ideal": "b"},
        {"input": "say c", "ideal": "c", "topic": "letters"},
    ]


def test_a_key_that_some_row_has_is_null_where_it_is_missing(load, owner):
    rows = '{"x":1}\n{"ideal":"b","x":2}\n{"x":3,"ideal":null}\n'
    load(datasets=[dataset()], files={"trivia.jsonl": rows})
    assert [json.dumps(item) for item in items(owner)] == [
        '{"x": 1, "ideal": null}',
        '{"ideal": "b", "x": 2}',
        '{"x": 3, "ideal": null}',
    ]


def test_values_of_any_type_and_rows_like_wrapped_ones_are_kept_as_they_are(load, owner):
    rows = [
        {"input": 5, "ideal": True},
        {"input": [{"role": "user", "content": "hi"}], "ideal": ["a", "b"]},
        {"input": "[1,2]", "ideal": "[]", "item": {"a": 1}, "sample": None},
    ]
    load(datasets=[dataset(path="rows.json")], files={"rows.json": json.dumps(rows)})
    assert items(owner) == rows


def test_a_row_that_looks_wrapped_is_an_item_itself(load, owner):
    load(datasets=[dataset()], files={"trivia.jsonl": '{"item":{"a":1}}\n'})
    assert items(owner) == [{"item": {"a": 1}}]


def test_cells_of_csv_are_text_and_a_header_alone_is_a_dataset_without_rows(load, owner):
    rows = "ideal,input,n\n05,true,1.50\n,,\n"
    out, _ = load(
        datasets=[dataset("cells", "cells.csv"), dataset("none", "none.csv")],
        files={"cells.csv": rows, "none.csv": "input,ideal\n"},
    )
    assert items(owner, "cells") == [
        {"ideal": "05", "input": "true", "n": "1.50"},
        {"ideal": "", "input": "", "n": ""},
    ]
    assert items(owner, "none") == []
    assert "dataset 'none' created: 0 rows, version 1" in out


def test_parquet_is_read_with_native_lists(load, owner):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [{"input": [{"role": "user", "content": "hi"}], "ideal": "x"}]
    out = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(rows), out)
    load(datasets=[dataset(path="rows.parquet")], files={"rows.parquet": out.getvalue()})
    assert items(owner) == rows


def test_an_absolute_path_and_another_ending_are_read(load, owner, tmp_path):
    (tmp_path / "rows.txt").write_text(ROWS, encoding="utf-8")
    path = str(tmp_path / "rows.txt")
    load(datasets=[dataset(path=path, params={"file_format": "jsonl"})])
    assert len(items(owner)) == 2


NAMES = ("with  two spaces", "a,b", 'say "hi"', "two\nlines", " 🎈 ", "x" * 200)


@pytest.mark.parametrize("name", NAMES)
def test_a_dataset_is_found_by_the_very_name_it_was_given(load, owner, name):
    out, err = load(datasets=[dataset(name)], evals=[evaluation("e", name)])
    assert len(out.splitlines()) == 2
    assert err == ""
    assert find_version(owner.account.pk, name).dataset.name == name
    load(datasets=[dataset(name)])
    assert Dataset.objects.count() == 1


def test_loading_again_replaces_what_has_the_name_and_removes_nothing(load, owner, endpoint):
    load(
        datasets=[dataset()],
        models=[model("judge", "big", system_prompt="Rate", openai_seed=1)],
        evals=[evaluation("letters", "trivia", "match", description="Old"), evaluation("kept")],
    )
    out, err = load(
        datasets=[dataset()],
        models=[model("judge", "other")],
        evals=[evaluation("letters", "words", "includes")],
        files={"trivia.jsonl": '{"input":"x","ideal":"y"}'},
    )
    assert "dataset 'trivia' replaced: 1 row, version 2" in out
    assert f"model 'judge' replaced: 'other' at {URL}" in out
    assert "evaluation 'letters' replaced" in out
    assert "there is no dataset 'words'" in err
    assert items(owner) == [{"input": "x", "ideal": "y"}]
    assert len(items(owner, num=1)) == 2
    judge = ServedModel.objects.get(name="judge")
    assert (judge.upstream_name, judge.system_prompt, judge.params) == ("other", "", "{}")
    assert Dataset.objects.count() == 1
    assert set(Evaluation.objects.values_list("call_name", flat=True)) == {"letters", "kept"}
    letters = Evaluation.objects.get(call_name="letters")
    assert (letters.description, letters.read_scorers()) == ("", ["includes"])


@pytest.mark.django_db(transaction=True)
def test_a_run_keeps_the_rows_it_began_with(load, owner):
    load(datasets=[dataset()], evals=[evaluation("letters", "trivia", "includes")])
    letters = find_by_name(owner, "letters")
    assert letters is not None
    begun = start_run_by_name(owner, letters, model="builtin/echo")
    load(
        datasets=[dataset()],
        evals=[evaluation("letters", "trivia", "match")],
        files={"trivia.jsonl": '{"input":"q","ideal":"q"}\n'},
    )
    letters = find_by_name(owner, "letters")
    assert letters is not None
    later = start_run_by_name(owner, letters, model="builtin/echo")
    Worker().run()
    begun.refresh_from_db()
    later.refresh_from_db()
    assert begun.state == later.state == Run.State.COMPLETED
    assert Result.objects.of_run(begun).count() == 2
    assert Result.objects.of_run(later).count() == 1
    assert Run.objects.filter(evaluation=letters).count() == 2


def test_what_is_not_there_yet_is_warned_of_and_an_eval_may_come_before_its_dataset(load, endpoint):
    _, err = load(
        evals=[evaluation("letters", "trivia", "match", "big", "nobody", "nobody")],
        acceleration={"enabled": True},
    )
    assert err.splitlines() == [
        "warning: the section 'acceleration' is ignored",
        "warning: evaluation 'letters': there is no dataset 'trivia' yet, and a run is refused "
        "without it",
        "warning: evaluation 'letters': there is no scorer 'nobody', and a run fails without it",
    ]
    _, err = load(evals=[evaluation("letters", "trivia", "match")], datasets=[dataset()])
    assert err == ""


def test_a_model_is_reached_where_its_id_is_registered_or_at_the_oldest_endpoint(load, owner):
    make_endpoint(owner, "http://127.0.0.1:8682/v1", models=["gone"])
    disabled = ServedModel.objects.get(name="gone").endpoint
    disabled.disabled_at = disabled.created_at
    disabled.save()
    first = make_endpoint(owner, URL, models=["a"])
    second = make_endpoint(owner, OTHER_URL, models=["b"], aliases={"c": "upstream-c"})
    names = {"one": "b", "two": "c", "three": "unheard-of", "four": "gone", "five": "a:b/c"}
    load(models=[model(name, source) for name, source in names.items()])
    declared = ServedModel.objects.exclude(declared_from="")
    assert {row.name: (row.endpoint, row.upstream_name) for row in declared} == {
        "one": (second, "b"),
        "two": (second, "upstream-c"),
        "three": (first, "unheard-of"),
        "four": (first, "gone"),
        "five": (first, "a:b/c"),
    }


def test_a_registered_model_takes_on_what_is_declared_and_stays_where_it_is(load, owner, endpoint):
    for loaded in (1, 2):
        out, err = load(models=[model("short", "short", system_prompt="Be brief")])
        short = ServedModel.objects.get(name="short")
        assert (short.endpoint, short.upstream_name) == (endpoint, "upstream-big")
        assert short.system_prompt == "Be brief"
        assert f"model 'short' replaced: 'upstream-big' at {URL}" in out
        assert ("was registered already" in err) == (loaded == 1)
    assert ServedModel.objects.filter(name="short").count() == 1


def test_a_declared_id_is_the_servers_whatever_else_is_declared_by_that_name(load, endpoint):
    pod = {"models": [model("a", "b"), model("b", "big")]}
    for _ in range(2):
        load(**pod)
        a = ServedModel.objects.get(name="a")
        assert (a.upstream_name, a.endpoint) == ("b", endpoint)
    load(models=[model("a", "a")])
    assert ServedModel.objects.get(name="a").upstream_name == ""


def test_a_declared_name_that_is_registered_again_leads_where_it_was_registered(
    load, owner, endpoint
):
    make_endpoint(owner, OTHER_URL, models=["other"])
    load(models=[model("b", "elsewhere", system_prompt="Rate")])
    second = make_endpoint(owner, URL, models=["b"])
    _, err = load(models=[model("judge", "b"), model("b", "b")])
    assert "model 'b' was registered already" in err
    for name, upstream in (("judge", "b"), ("b", "")):
        row = ServedModel.objects.get(name=name)
        assert (row.endpoint, row.upstream_name) == (second, upstream)


@pytest.mark.parametrize("prompt", ["{{ ideal", "{% include 'x' %}", "{{ ideal.__class__() }}"])
def test_a_prompt_that_is_no_template_is_warned_of_where_it_should_be_one(load, endpoint, prompt):
    _, err = load(models=[model("m", system_prompt=prompt, parameterized_prompt="enabled")])
    assert "model 'm': its prompt is no template" in err
    assert load(models=[model("m", system_prompt=prompt)])[1] == ""


@pytest.mark.parametrize(
    ("sections", "reason"),
    [
        ({"models": [model("match")]}, "the name of a built-in scorer"),
        ({"models": [model("json_match")]}, "the name of a built-in scorer"),
        ({"models": [model("levenshtein")]}, "the name of a built-in scorer"),
        ({"embeddings": [model("includes")]}, "the name of a built-in scorer"),
        ({"embeddings": [model("fuzzy_match")]}, "the name of a built-in scorer"),
        ({"models": [model("builtin/mine")]}, "builtin/… are built in"),
        ({"models": [model("mine", "builtin/echo")]}, "builtin/… are built in"),
        ({"embeddings": [model("big")]}, "the account has it as a model of the kind chat"),
        ({"models": [model("m"), model("m")]}, "that of models[1] 'm' too"),
        ({"models": [model("m")], "embeddings": [model("m")]}, "that of models[1] 'm' too"),
        ({"models": [{"name": "m", "from": "anthropic:x"}]}, "provider 'anthropic'"),
        ({"views": [{"name": "v"}]}, "views[0] 'v': sql is missing"),
        ({"views": [{"name": "v", "sql": "SELECT 1"}]}, "it selects from no dataset"),
        ({"evals": [{"name": "e", "scorers": []}]}, "dataset is missing"),
        ({"datasets": [dataset(path="none.jsonl")]}, "none.jsonl: No such file or directory"),
        ({"datasets": [dataset(path=".", params={"file_format": "csv"})]}, "is not a file"),
        ({"datasets": [dataset(path="bad.jsonl")]}, "The dataset 'trivia': bad.jsonl: line 2:"),
        ({"datasets": [dataset(path="bad.csv")]}, "bad.csv: line 3: 1 cells under a header of 2"),
        ({"datasets": [dataset(path="bad.json")]}, "bad.json: row 1: Expecting value"),
        ({"datasets": [dataset(path="bad.parquet")]}, "bad.parquet: not readable as Parquet"),
        ({"datasets": [dataset(path="bad.xlsx")]}, "bad.xlsx: not readable as a workbook"),
        ({"datasets": [dataset(path="bad.dat")]}, "tells no format"),
    ],
)
def test_what_is_refused_leaves_nothing_behind(load, owner, endpoint, sections, reason):
    files = {
        "bad.jsonl": '{"input":"a"}\nnot json\n',
        "bad.csv": "a,b\n1,2\n3\n",
        "bad.json": "[x]",
        "bad.parquet": "no",
        "bad.xlsx": "x",
    }
    good = {"datasets": [dataset("first")], "models": [model("good")]}
    for section, entries in sections.items():
        good[section] = [*good.get(section, []), *entries]
    scorers = [one["name"] for one in (*good["models"], *good.get("embeddings", []))]
    good["evals"] = [
        *(evaluation(f"of {one['name']}", one["name"], *scorers) for one in good["datasets"]),
        *good.get("evals", []),
    ]
    with pytest.raises(CommandError) as refused:
        load(files=files, **good)
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)
    assert_nothing_is_stored()


def test_without_an_endpoint_a_model_is_refused_with_how_to_add_one(load):
    with pytest.raises(CommandError, match=r"manage\.py add_endpoint"):
        load(models=[model("m")], evals=[evaluation("letters", "trivia", "m")])


@pytest.mark.parametrize(
    ("sections", "reason"),
    [
        ({"datasets": [{"name": "lake", "from": "s3://bucket/rows.parquet"}]}, "from must be file"),
        ({"datasets": [dataset("lake", "none.jsonl")]}, "none.jsonl: No such file or directory"),
        ({"datasets": [dataset("lake", "bad.jsonl")]}, "bad.jsonl: line 2: "),
        ({"datasets": [dataset("lake", "late.csv")]}, "late.csv: line 1004: 1 cells under"),
        ({"datasets": [dataset("lake", "rows.dat")]}, "tells no format"),
        ({"models": [{"name": "m", "from": "anthropic:claude"}]}, "provider 'anthropic' is not"),
        ({"models": [model("builtin/mine")]}, "builtin/… are built in"),
        ({"models": [model("match")]}, "the name of a built-in scorer"),
        ({"embeddings": [{"name": "e", "from": "file:models/e"}]}, "provider 'file' is not"),
    ],
)
def test_what_no_eval_uses_is_left_out_with_a_warning(load, owner, endpoint, sections, reason):
    files = {"bad.jsonl": '{"input": "a"}\nnot json\n', "late.csv": "a,b\n" * 1_003 + "3\n"}
    good = {"datasets": [dataset()], "models": [model("good")], "evals": [evaluation()]}
    for section, entries in sections.items():
        good[section] = [*entries, *good.get(section, [])]
    if "match" in str(sections):
        good["evals"] = [evaluation("letters", "trivia", "includes")]
    out, err = load(files=files, **good)
    [warning] = err.splitlines()
    assert reason in warning
    assert warning.endswith("it is left out, since nothing that is declared uses it")
    assert [line.split(" created")[0] for line in out.splitlines()] == [
        "dataset 'trivia'",
        "model 'good'",
        "evaluation 'letters'",
    ]
    assert [one.name for one in Dataset.objects.all()] == ["trivia"]
    assert TestCase.objects.count() == 2


def test_a_dataset_in_a_state_that_takes_no_rows_refuses_nothing_where_no_eval_uses_it(load, owner):
    make_dataset(owner, name="drafted")
    _, err = load(datasets=[dataset("drafted"), dataset()], evals=[evaluation()])
    assert "drafted has changes that no version holds: freeze it: it is left out" in err
    assert len(items(owner)) == 2
    with pytest.raises(CommandError, match="drafted has changes"):
        load(datasets=[dataset("drafted")], evals=[evaluation("e", "drafted")])


def test_the_vendors_own_eval_is_loaded_without_an_endpoint(load, owner):
    """A view of the simplest form, and a model to be asked that no eval names."""
    out, err = load(
        datasets=[dataset("tetris")],
        views=[{"name": "small_tetris", "sql": "SELECT * FROM tetris LIMIT 1\n"}],
        evals=[evaluation("tetris", "small_tetris", "match")],
        models=[model("my_model", "gpt-4o-mini", openai_api_key="${ secrets:KEY }")],
    )
    assert "dataset 'small_tetris' created: 1 row, version 1" in out
    assert "No endpoint of the account could serve 'gpt-4o-mini'" in err
    assert "KEY" not in err
    assert items(owner, "small_tetris") == [{"input": "say b", "ideal": "b"}]
    assert len(items(owner, "tetris")) == 2


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        ("SELECT ideal, input FROM trivia", [("ideal", "input")] * 2),
        ("select input, ideal, topic from TRIVIA", [("input", "ideal", "topic")] * 2),
        ('SELECT * FROM "trivia" LIMIT 9', [("input", "ideal"), ("input", "ideal", "topic")]),
        ("SELECT * FROM trivia LIMIT 0;", []),
    ],
)
def test_a_view_shows_columns_or_the_first_rows_of_a_dataset(load, owner, sql, rows):
    load(datasets=[dataset()], views=[{"name": "v", "sql": sql}], evals=[evaluation("e", "v")])
    assert [tuple(row) for row in items(owner, "v")] == rows


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("SELECT count(*) FROM trivia", "the expression 'COUNT(*)'"),
        ("SELECT input AS q FROM trivia", "the expression 'input AS q'"),
        ("SELECT DISTINCT input FROM trivia", "its SQL has DISTINCT"),
        ("SELECT * FROM trivia WHERE input = 'a'", "its SQL has WHERE"),
        ("SELECT * FROM trivia ORDER BY input", "its SQL has ORDER"),
        ("SELECT * FROM trivia LIMIT 5 OFFSET 2", "its SQL has OFFSET"),
        ("SELECT * FROM trivia LIMIT 2 + 3", "its LIMIT is no whole number"),
        ("SELECT * FROM trivia, trivia", "its SQL has JOINS"),
        ("SELECT * FROM trivia AS t", "its SQL has ALIAS"),
        ("SELECT * FROM (SELECT * FROM trivia)", "it selects from no dataset"),
        ("WITH a AS (SELECT 1) SELECT * FROM a", "its SQL has WITH"),
        ("SELECT * FROM trivia UNION SELECT * FROM trivia", "no single SELECT"),
        ("SELECT * FROM trivia; DROP TABLE trivia", "no single SELECT"),
        ("DELETE FROM trivia", "no single SELECT"),
        ("SELEKT * FROM trivia", "its SQL cannot be read"),
        ("(" * 5_000, "its SQL cannot be read"),
        ("SELECT " + "a, " * 5_000 + "a FROM trivia", "longer than 10,000 characters"),
        ("SELECT input, input FROM trivia", "names a column twice"),
        ("SELECT * FROM runtime.task_history", "'runtime.task_history' is no dataset of this"),
        ("SELECT * FROM v", "'v' is no dataset of this file"),
        ("SELECT nothing FROM trivia", "trivia.jsonl has no column 'nothing'"),
    ],
)
def test_any_other_sql_refuses_the_file(load, sql, reason):
    with pytest.raises(CommandError) as refused:
        load(datasets=[dataset()], views=[{"name": "v", "sql": sql}], evals=[evaluation("e", "v")])
    assert reason in str(refused.value)
    assert_nothing_is_stored()


class Site(ThreadingHTTPServer):
    """A web server of some paths: bytes, or where a path leads."""

    daemon_threads = True

    def __init__(self, paths: dict[str, bytes | str]) -> None:
        asked = self.asked = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                found = paths.get(self.path)
                self.send_response(404 if found is None else 302 if type(found) is str else 200)
                if isinstance(found, str):
                    self.send_header("location", found)
                self.end_headers()
                if isinstance(found, bytes):
                    self.wfile.write(found)

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@pytest.fixture
def site():
    rows = ROWS.encode()
    paths = {
        "/rows.jsonl": rows,
        "/rows.csv.gz": gzip.compress(b"input;ideal\na;b\n"),
        "/raw/rows.jsonl": "/rows.jsonl",
        "/round.jsonl": "/round.jsonl",
        "/large.jsonl": rows * 1_000,
    }
    with Site(paths) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def fetched(url: str, name: str = "trivia") -> dict:
    return {"name": name, "from": url}


@pytest.mark.parametrize("path", ["/rows.jsonl", "/raw/rows.jsonl", "/rows.csv.gz"])
def test_a_dataset_is_fetched_from_its_address(load, owner, site, monkeypatch, path):
    serve_as_https(monkeypatch, site)
    out, err = load(datasets=[fetched(f"https://data.example{path}")], evals=[evaluation()])
    assert err == ""
    assert "dataset 'trivia' created: " in out
    assert items(owner)[0].keys() == {"input", "ideal"}
    assert len(site.asked) == (2 if path.startswith("/raw") else 1)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/none.jsonl", "the server answered 404"),
        ("/round.jsonl", "redirected more than 5 times"),
        ("/large.jsonl", "larger than the limit of 50,000 bytes"),
    ],
)
def test_what_cannot_be_fetched_is_told(load, site, monkeypatch, settings, path, reason):
    settings.MAX_UPLOAD_BYTES = 50_000
    serve_as_https(monkeypatch, site)
    url = f"https://data.example{path}"
    with pytest.raises(CommandError) as refused:
        load(datasets=[fetched(url)], evals=[evaluation()])
    assert f"The dataset 'trivia': {url}: " in str(refused.value)
    assert reason in str(refused.value)
    assert_nothing_is_stored()
    _, err = load(datasets=[fetched(url, "unused"), dataset()], evals=[evaluation()])
    assert reason in err


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("https://127.0.0.1:1/rows.jsonl", "the address is not public"),
        ("https://[::1]:1/rows.jsonl", "the address is not public"),
        ("https://169.254.169.254/latest/rows.json", "the address is not public"),
        ("https://user:secret@data.example/rows.jsonl", "must not hold a user name"),
        ("https:///rows.jsonl", "must name a host"),
    ],
)
def test_an_address_of_a_private_network_is_never_asked(load, address, reason):
    with pytest.raises(CommandError) as refused:
        load(datasets=[fetched(address)], evals=[evaluation()])
    assert reason in str(refused.value)


def serve_as_https(monkeypatch, site) -> None:
    """Route https://data.example to the site, which has no certificate."""
    real = spice_downloads.download

    def through(url: str, *args: Any, **given: Any) -> None:
        real(url.replace("https://data.example", site.url), *args, **given)

    monkeypatch.setattr(spice_downloads, "download", through)
    monkeypatch.setattr(spice_downloads, "ALLOW_PRIVATE", True)


def test_a_failure_in_the_last_component_leaves_nothing_behind(load, owner, endpoint, monkeypatch):
    real = declarations.name_evaluation

    def failing(actor, *, call_name, **given):
        if call_name == "last":
            raise RuntimeError("the database went away")
        return real(actor, call_name=call_name, **given)

    monkeypatch.setattr(declarations, "name_evaluation", failing)
    sections = {
        "datasets": [dataset(), dataset("again")],
        "models": [model("judge")],
        "evals": [evaluation("first"), evaluation("last")],
    }
    with pytest.raises(RuntimeError):
        load(**sections)
    assert_nothing_is_stored()
    monkeypatch.undo()
    load(**sections)
    assert Evaluation.objects.count() == 2


def test_a_failed_load_leaves_an_older_dataset_as_it_was(load, owner):
    load(datasets=[dataset()])
    with pytest.raises(CommandError):
        load(
            datasets=[dataset(path="new.jsonl"), dataset("other", "bad.jsonl")],
            evals=[evaluation("e", "other")],
            files={"new.jsonl": '{"a":1}', "bad.jsonl": "x"},
        )
    assert len(items(owner)) == 2
    kept = Dataset.objects.get()
    assert (kept.latest_num, kept.import_token, kept.next_position) == (1, None, 2)
    assert TestCase.objects.count() == 2
    load(datasets=[dataset()])


def test_nothing_is_seen_of_a_dataset_while_the_next_one_is_read(load, owner, monkeypatch):
    seen = []
    real = declarations.begin_import

    def watched(actor, *, into):
        seen.append(DatasetVersion.objects.count())
        seen.append(Dataset.objects.present().count())
        return real(actor, into=into)

    monkeypatch.setattr(declarations, "begin_import", watched)
    load(datasets=[dataset(), dataset("again"), dataset("third")])
    assert seen == [0] * 6
    assert Dataset.objects.present().count() == 3


def test_a_fill_that_waits_for_the_others_keeps_its_lease(load, owner, monkeypatch):
    monkeypatch.setattr("apps.datasets.bulk_insert.RENEW_SECONDS", 0)
    monkeypatch.setattr(declarations, "LOOK_ROWS", 1)
    leases = []
    real = declarations.Fill.keep

    def watched(fill):
        Dataset.objects.filter(pk=fill.dataset.pk).update(import_until=F("created_at"))
        real(fill)
        leases.append(
            Dataset.objects.get(pk=fill.dataset.pk).import_until > owner.account.created_at
        )

    monkeypatch.setattr(declarations.Fill, "keep", watched)
    load(datasets=[dataset(), dataset("again")])
    assert leases
    assert all(leases)
    assert Dataset.objects.present().count() == 2


def test_a_dry_run_tells_the_same_and_stores_nothing(load, owner, endpoint):
    pod = {
        "datasets": [dataset(), dataset("none", "none.csv")],
        "models": [model("judge", "big", system_prompt="x")],
        "evals": [evaluation("letters", "trivia", "judge", "nobody")],
        "files": {"none.csv": "a\n"},
    }
    out, err = load("--dry-run", **pod)
    assert_nothing_is_stored()
    assert [line.partition(":")[0] for line in out.splitlines()] == [
        "dataset 'trivia' would be created",
        "dataset 'none' would be created",
        "model 'judge' would be created",
        "evaluation 'letters' would be created",
    ]
    real, real_err = load(**pod)
    assert real == out.replace("would be ", "")
    assert real_err == err
    before = Dataset.objects.get(name="trivia").latest_num
    assert "dataset 'trivia' would be replaced: 2 rows, version 2" in load("--dry-run", **pod)[0]
    assert Dataset.objects.get(name="trivia").latest_num == before
    files = {"trivia.jsonl": "broken"}
    with pytest.raises(CommandError, match="line 1"):
        load("--dry-run", datasets=[dataset()], evals=[evaluation()], files=files)


def test_accounts_have_names_of_their_own(load, owner, endpoint):
    other = make_actor(account=make_account("Other"))
    make_endpoint(other, OTHER_URL, models=["big"])
    pod = {
        "datasets": [dataset()],
        "models": [model("judge")],
        "evals": [evaluation("letters", "trivia", "judge")],
    }
    load(**pod)
    out, _ = load(account="Other", **pod)
    assert "replaced" not in out
    assert OTHER_URL in out
    assert URL not in out
    for kind in (Dataset, Evaluation, ServedModel):
        ours = kind.objects.filter(account=owner.account, **_named(kind))
        theirs = kind.objects.filter(account=other.account, **_named(kind))
        assert len(ours) == len(theirs) == 1
    load(account="Other", datasets=[dataset()], files={"trivia.jsonl": '{"input":"x"}'})
    assert len(items(owner)) == 2


def _named(kind: type) -> dict[str, str]:
    named = {Dataset: ("name", "trivia"), Evaluation: ("call_name", "letters")}
    return dict([named.get(kind, ("name", "judge"))])


def test_another_accounts_dataset_and_model_are_not_known(load, owner):
    other = make_actor(account=make_account("Other"))
    make_endpoint(other, OTHER_URL, models=["theirs"])
    load(account="Other", datasets=[dataset()])
    _, err = load(evals=[evaluation("letters", "trivia", "theirs")])
    assert "there is no dataset 'trivia' yet" in err
    assert "there is no scorer 'theirs'" in err


def test_an_archived_dataset_stays_and_a_new_one_takes_the_name(load, owner):
    load(datasets=[dataset()])
    archive_dataset(owner, Dataset.objects.get())
    out, _ = load(datasets=[dataset()])
    assert "dataset 'trivia' created" in out
    assert Dataset.objects.count() == 2


def test_a_dataset_that_cannot_be_replaced_is_refused(load, owner):
    make_dataset(owner, name="trivia")
    with pytest.raises(CommandError, match="changes that no version holds"):
        load(datasets=[dataset("fine"), dataset()], evals=[evaluation()])
    make_dataset(owner, name="trivia")
    with pytest.raises(CommandError, match="Several datasets are named"):
        load(datasets=[dataset()], evals=[evaluation()])
    assert not Dataset.objects.filter(name="fine").exists()


def test_who_may_not_edit_may_not_load_and_models_need_more(load, owner, endpoint):
    for role, pod, allowed in (
        (Role.VIEWER, {"evals": [evaluation()]}, False),
        (Role.EDITOR, {"evals": [evaluation()], "datasets": [dataset()]}, True),
        (Role.EDITOR, {"models": [model("judge")]}, False),
        (Role.ADMIN, {"models": [model("judge")]}, True),
    ):
        member = make_actor(role, account=owner.account)
        if allowed:
            load("--email", member.user.email, **pod)
        else:
            with pytest.raises(CommandError, match="does not allow"):
                load("--email", member.user.email, **pod)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["none.yaml", "--account", "Acme"], "none.yaml: No such file"),
        ([".", "--account", "Acme"], "Is a directory"),
        (["pod", "--account", "Nobody"], "no account named 'Nobody'"),
    ],
)
def test_a_missing_file_or_account_is_refused(owner, words, reason, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("pod").write_text("{}", encoding="utf-8")
    with pytest.raises(CommandError, match=reason):
        run("load_spicepod", *words)


def test_an_empty_spicepod_is_no_error(load):
    assert load() == ("Nothing is declared.\n", "")
