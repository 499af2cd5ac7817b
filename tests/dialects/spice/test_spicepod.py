"""A spicepod is read as the contract's sections 9.1, 9.2 and 10.1 say, row by row."""

import io
import re

import pytest

from apps.errors import Invalid
from apps.evaluations.services.declarations import DeclaredEvaluation
from evalplatform.dialects.spice.components import MAX_COMPONENTS
from evalplatform.dialects.spice.spicepod import Spicepod, read_spicepod
from tests.served import ROOT

FILES = {
    "data/trivia.jsonl": b'{"input":"a","ideal":"b"}\n',
    "/srv/rows.csv": b"input,ideal\n",
    "rows.dat": b"input,ideal\n1,2\n",
    "rows.json": b"[]",
}

WHOLE = """
version: v1
kind: Spicepod
name: demo
evals:
  - name: general_knowledge
    description: Fifty easy questions      # optional
    dataset: trivia
    scorers: [match, levenshtein, referee, small_embed, match]
    dependsOn: [trivia]
datasets:
  - name: trivia
    from: file:data/trivia.jsonl     # relative to this file
models:
  - name: referee
    from: openai:some-chat-model
    params:
      parameterized_prompt: enabled
      openai_temperature: 0.1
      openai_seed: 7
      openai_stop: ["."]
      openai_user: "12"
      openai_response_format: '{"type":"json_object"}'
      system_prompt: |
        Reply: {{ actual }} Reference: {{ ideal }}
embeddings:
  - name: small_embed
    from: openai:some-embedding-model
"""


class Given:
    """The files above, and no address that gives anything."""

    def find(self, path: str):
        if path not in FILES:
            raise FileNotFoundError(2, "No such file or directory", path)
        return lambda: io.BytesIO(FILES[path])

    def fetch(self, url: str):
        raise AssertionError(url)


def read(text: str) -> Spicepod:
    return read_spicepod(text.encode(), Given())


def refusal(text: str) -> str:
    """Return why a text is refused, with an eval that uses all that it declares."""
    if text.startswith(("datasets", "models", "embeddings")):
        text += "\nevals:\n  - {name: uses, dataset: d, scorers: [m, x]}"
    with pytest.raises(Invalid) as refused:
        read(text)
    (message,) = refused.value.messages
    return message


def one_eval(**members: str) -> str:
    given = {"name": "e", "dataset": "d", "scorers": "[]"} | members
    return "evals:\n  - " + "\n    ".join(
        f"{key}: {value}" for key, value in given.items() if value
    )


def one_dataset(**members: str) -> str:
    given = {"name": "d", "from": "file:data/trivia.jsonl"} | members
    lines = "\n    ".join(f"{key}: {value}" for key, value in given.items() if value)
    return f"datasets:\n  - {lines}"


def one_model(params: str = "", **members: str) -> str:
    given = {"name": "m", "from": "openai:gpt"} | members
    lines = "\n    ".join(f"{key}: {value}" for key, value in given.items() if value)
    return f"models:\n  - {lines}\n" + (f"    params: {params}" if params else "")


def test_a_whole_spicepod_in_any_order_of_its_sections():
    pod = read(WHOLE)
    assert pod.warnings == ()
    (dataset,) = pod.declarations.datasets
    assert (dataset.name, dataset.nullable) == ("trivia", ("input", "ideal"))
    assert (dataset.file.label, dataset.file.options.format) == ("data/trivia.jsonl", "")
    assert list(dataset.file.rows()) == [{"input": "a", "ideal": "b"}]
    referee, embedding = pod.declarations.models
    assert (referee.name, referee.source, referee.kind) == ("referee", "some-chat-model", "chat")
    assert referee.system_prompt == "Reply: {{ actual }} Reference: {{ ideal }}\n"
    assert referee.prompt_is_template
    assert referee.params == {
        "temperature": 0.1,
        "seed": 7,
        "stop": ["."],
        "user": "12",
        "response_format": {"type": "json_object"},
    }
    assert (embedding.name, embedding.source) == ("small_embed", "some-embedding-model")
    assert embedding.kind == "embedding"
    assert pod.declarations.evaluations == (
        DeclaredEvaluation(
            "general_knowledge",
            "trivia",
            ("match", "levenshtein", "referee", "small_embed", "match"),
            "Fifty easy questions",
        ),
    )


def test_json_is_yaml_too():
    pod = read('{"evals": [{"name": "\\ud83c\\udf88", "dataset": "d", "scorers": []}]}')
    assert pod.declarations.evaluations == (DeclaredEvaluation("🎈", "d", ()),)


@pytest.mark.parametrize("text", ["{}", "evals:\n", "name: x", "evals: []\nmodels: ~"])
def test_a_spicepod_may_declare_nothing(text):
    declared = read(text).declarations
    assert (declared.datasets, declared.models, declared.evaluations) == ((), (), ())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("evals: [", "The spicepod cannot be read: line 2: "),
        ("", "A spicepod is a mapping of sections"),
        ("- a", "A spicepod is a mapping of sections"),
        ("views:\n  - name: v\n    sql: select 1", "line 3: views[0] 'v': the view cannot be"),
        ("views:\n  - name: v", "line 2: views[0] 'v': sql is missing"),
        ("evals: {a: b}", "line 1: evals must be a list"),
        ("evals:\n  - just text", "line 2: evals[0]: a component is a mapping"),
        ("models:\n  - ref: models/x", "line 2: models[0]: ref is not supported"),
        (one_eval(name=""), "line 2: evals[0]: name is missing"),
        (one_eval(name="~"), "evals[0]: name is missing"),
        (one_eval(name="''"), "line 2: evals[0]: name must have 1 to 200 characters, not 0"),
        (one_eval(name="x" * 201), "name must have 1 to 200 characters, not 201"),
        (one_eval(name="[a]"), "evals[0]: name must be a text"),
        (one_eval(name="a/b"), "line 2: evals[0] 'a/b': a name in an address"),
        (one_eval(name='"a\\nb"'), r"evals[0] 'a\nb': a name in an address"),
        (one_eval(name='"a\\x85b"'), "a name in an address"),
        (one_eval(name="eval_" + "0a" * 16), "that is an id"),
        (one_eval(dataset=""), "evals[0] 'e': dataset is missing"),
        (one_eval(dataset="x" * 201), "dataset must have 1 to 200 characters"),
        (one_eval(scorers=""), "evals[0] 'e': scorers is missing"),
        (one_eval(scorers="~"), "scorers is missing"),
        (one_eval(scorers="match"), "line 4: evals[0] 'e': scorers must be a list"),
        (one_eval(scorers="[match, {a: b}]"), "a scorer is a name"),
        (one_eval(scorers="[~]"), "a scorer is a name"),
        (
            one_eval() + "\n  - {name: e, dataset: d, scorers: []}",
            "line 5: evals[1] 'e': the name is that of evals[0] 'e' too",
        ),
        (one_dataset(name=""), "datasets[0]: name is missing"),
        (one_dataset(name="x" * 201), "name must have 1 to 200 characters"),
        (one_dataset() + "\n  - {name: d, from: file:rows.json}", "that of datasets[0] 'd' too"),
        (one_dataset(**{"from": ""}), "datasets[0] 'd': from is missing"),
        (one_dataset(**{"from": "s3://bucket/x.csv"}), "line 3: datasets[0] 'd': from must be"),
        (one_dataset(**{"from": "'file:'"}), "from must be file:<path>"),
        (one_dataset(**{"from": "file:none.csv"}), "none.csv: No such file or directory"),
        (one_dataset(**{"from": "file:rows.dat"}), "the ending of 'rows.dat' tells no format"),
        (one_dataset(params="{file_format: avro}"), "file_format must be one of jsonl, json, csv"),
        (one_dataset(params="[a]"), "params must be a mapping"),
        (one_model(name=""), "models[0]: name is missing"),
        (one_model(**{"from": ""}), "models[0] 'm': from is missing"),
        (one_model(**{"from": "anthropic:claude"}), "the provider 'anthropic' is not supported"),
        (one_model(**{"from": "openai"}), "from must be openai:<id>"),
        (one_model(**{"from": "'openai:'"}), "from must be openai:<id>"),
        (one_model() + "\n  - {name: m, from: openai:x}", "that of models[0] 'm' too"),
        (
            one_model() + "\nembeddings: [{name: m, from: openai:x}]",
            "embeddings[0] 'm': the name is that of models[0] 'm' too",
        ),
        (one_model("{parameterized_prompt: yes}"), "must be enabled or disabled"),
        (one_model("{openai_response_format: json}"), "params.openai_response_format is not JSON"),
        (one_model("{openai_response_format: '[1]'}"), "must be an object"),
        (one_model("{openai_response_format: [1]}"), "must be an object"),
        ("embeddings: [{name: x}]", "embeddings[0] 'x': from is missing"),
        ("embeddings: [{name: x, from: file:y}]", "the provider 'file' is not supported"),
    ],
)
def test_what_cannot_be_loaded_is_refused_with_its_line_and_component(text, reason):
    assert reason in refusal(text)


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("runtime: {auth: x}", "line 1: the section 'runtime' is ignored"),
        ("kind: Deployment", "line 1: kind is 'Deployment', not 'Spicepod'"),
        (one_dataset(acceleration="{enabled: true}"), "datasets[0] 'd': acceleration is ignored"),
        (one_dataset(params="{csv_delimiter: ;}"), "params.csv_delimiter is ignored"),
        (one_eval(threshold="1"), "line 5: evals[0] 'e': threshold is ignored"),
        (one_model("{spice_tools: auto}"), "models[0] 'm': params.spice_tools is ignored"),
        (one_model("{openai_api_key: hidden}"), "params.openai_api_key is ignored: the endpoint"),
        (one_model("{openai_stream: true}"), "params.openai_stream is ignored"),
        (one_model("{openai_model: other}"), "params.openai_model is ignored"),
        ("embeddings: [{name: x, from: openai:y, params: {a: b}}]", "params.a is ignored"),
    ],
)
def test_what_is_ignored_is_warned_of(text, warning):
    (told,) = read(text).warnings
    assert warning in told
    assert "hidden" not in told


NAMES = ("with space", "a,b", 'say "hi"', "two\nlines", "🎈 fête", "007", "no", "2024-01-01", "a/b")


@pytest.mark.parametrize("name", NAMES)
def test_a_dataset_may_have_any_name_and_an_eval_names_it(name):
    written = '"' + name.replace('"', '\\"').replace("\n", "\\n") + '"'
    pod = read(one_dataset(name=written) + "\n" + one_eval(dataset=written))
    assert pod.declarations.datasets[0].name == name
    assert pod.declarations.evaluations[0].dataset_name == name


@pytest.mark.parametrize("name", ["007", "no", "2024-01-01", "1.50", "true", "12:30"])
def test_a_name_that_yaml_takes_for_something_else_is_text_as_written(name):
    pod = read(one_eval(name=name, dataset=name, scorers=f"[{name}]"))
    assert pod.declarations.evaluations == (DeclaredEvaluation(name, name, (name,)),)


@pytest.mark.parametrize("name", ["eval_x", "e" * 200, "👨‍👩‍👧", "a+b %20", "naïve", "."])
def test_an_eval_may_have_any_name_that_an_address_can_hold(name):
    assert read(one_eval(name=f"'{name}'")).declarations.evaluations[0].name == name


@pytest.mark.parametrize(
    ("origin", "params", "path", "format_name"),
    [
        ("file:data/trivia.jsonl", "", "data/trivia.jsonl", ""),
        ("file://data/trivia.jsonl", "", "data/trivia.jsonl", ""),
        ("file:///srv/rows.csv", "", "/srv/rows.csv", ""),
        ("file:/srv/rows.csv", "", "/srv/rows.csv", ""),
        ("file:rows.json", "", "rows.json", ""),
        ("file:rows.dat", "{file_format: csv}", "rows.dat", "csv"),
        ("file:rows.json", "{file_format: JSONL}", "rows.json", "jsonl"),
    ],
)
def test_a_file_is_found_by_its_path_and_read_in_its_format(origin, params, path, format_name):
    (dataset,) = read(one_dataset(**{"from": origin, "params": params})).declarations.datasets
    assert (dataset.file.label, dataset.file.options.format) == (path, format_name)


def test_params_without_a_value_set_nothing():
    (model,) = read(one_model("{openai_temperature: , system_prompt: ~}")).declarations.models
    assert (model.params, model.system_prompt, model.prompt_is_template) == ({}, "", False)


def test_a_prompt_is_a_template_only_where_that_is_enabled():
    (model,) = read(one_model("{system_prompt: 'x', parameterized_prompt: disabled}")
                    ).declarations.models  # fmt: skip
    assert (model.system_prompt, model.prompt_is_template) == ("x", False)


def test_the_number_of_components_is_bounded():
    entries = "\n".join(
        f"  - {{name: e{number}, dataset: d, scorers: []}}" for number in range(MAX_COMPONENTS + 1)
    )
    assert "may have 500 components" in refusal(f"evals:\n{entries}")


def test_the_spicepod_of_the_readme_is_read_without_warnings():
    (shown,) = re.findall(r"^```yaml\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)

    class Anything(Given):
        def find(self, path: str):
            return io.BytesIO

    pod = read_spicepod(shown.encode(), Anything())
    assert pod.warnings == ()
    assert len(pod.declarations.evaluations) == 1
