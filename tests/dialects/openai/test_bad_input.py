"""Every field of every body, walked from the schema: what is wrong is refused by its path."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import include, path
from drf_spectacular.generators import SchemaGenerator

from apps.datasets.models import File
from tests.dialects.openai.caller import (
    EVAL,
    ROWS,
    STRING_CHECK,
    TEXT_SIMILARITY,
    Caller,
    chat_body,
    run_body,
    stored,
)

pytestmark = pytest.mark.once("a body is refused before a database is asked for more than the key")

Path = tuple[str | int, ...]
MISSING = object()
WRONG_TYPES: dict[str, list[Any]] = {
    "string": [5, 0.5, True, [], {}],
    "integer": ["1", 1.5, True, [], {}],
    "number": ["1", True, [], {}],
    "boolean": ["true", 1, [], {}],
    "array": [5, "x", True, {}],
    "object": [5, "x", True, []],
}

JUDGE_MESSAGES = [
    {
        "role": "developer",
        "type": "message",
        "content": [
            {"type": "input_text", "text": "{{ item.answer }}"},
            {"type": "input_image", "image_url": "{{ item.label }}", "detail": "low"},
            {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
            {"type": "output_text", "text": "so"},
            "and so on",
        ],
    },
    {"role": "user", "content": {"type": "input_text", "text": "{{ item.answer }}"}},
    {"role": "user", "content": "{{ item.answer }}"},
]
PYTHON = {
    "type": "python",
    "name": "code",
    "source": "def grade(sample, item): return 1",
    "image_tag": "2025-05-08",
    "pass_threshold": 0.5,
}
LABEL_MODEL = {
    "type": "label_model",
    "name": "label",
    "model": "m",
    "input": JUDGE_MESSAGES,
    "labels": ["good", "bad"],
    "passing_labels": ["good"],
}
SCORE_MODEL = {
    "type": "score_model",
    "name": "score",
    "model": "m",
    "input": JUDGE_MESSAGES,
    "range": [0, 1],
    "pass_threshold": 0.5,
    "sampling_params": {
        "max_completions_tokens": 10,
        "reasoning_effort": "low",
        "seed": 1,
        "temperature": 0,
        "top_p": 1,
    },
}
SIDES = {"input": "{{ item.answer }}", "reference": "{{ item.label }}", "choices": False}
OUR_OWN: list[dict[str, Any]] = [
    *(
        {"type": kind, "name": kind, **SIDES}
        for kind in ("match", "includes", "fuzzy_match", "json_match")
    ),
    {"type": "levenshtein", "name": "near", **SIDES, "pass_threshold": 0.5},
    {"type": "embedding_distance", "name": "far", "model": "e", **SIDES, "pass_threshold": 0.5},
    {
        "type": "prompt_judge",
        "name": "judge",
        "model": "m",
        "prompt": "Rate {{ actual }}.",
        "is_template": True,
        "params": {"temperature": 0},
        "input": "{{ item.answer }}",
        "actual": "{{ item.answer }}",
        "ideal": "{{ item.label }}",
        "choices": False,
        "pass_threshold": 0.5,
    },
]
FUNCTION = {"name": "f", "description": "d", "parameters": {"type": "object"}, "strict": True}
PARAMS = {
    "reasoning_effort": "low",
    "temperature": 0.5,
    "top_p": 1,
    "seed": 7,
    "max_completion_tokens": 10,
    "max_completions_tokens": 10,
    "response_format": {
        "type": "json_schema",
        "json_schema": {"name": "n", "description": "d", "schema": {}, "strict": True},
    },
    "tools": [{"type": "function", "function": FUNCTION}],
}
TIMES = {"created_after": 1, "created_before": 2, "limit": 3}
FLAT_FORMATS: list[dict[str, Any]] = [
    {"type": "json_schema", "name": "n", "schema": {}, "description": "d", "strict": True},
    {"type": "json_object"},
    {"type": "text"},
]
FLAT_TOOL = {"type": "function", **FUNCTION}
RESPONSE_INPUT = [
    *(message | {"type": "message"} for message in JUDGE_MESSAGES),
    {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "c", "output": "3"},
    {"type": "reasoning"},
]
BODIES: dict[tuple[str, str], list[dict[str, Any]]] = {
    ("/v1/evals", "EvalCreateRequest"): [
        {**EVAL, "share_with_openai": False},
        *(
            {**EVAL, "testing_criteria": [STRING_CHECK, criterion]}
            for criterion in (TEXT_SIMILARITY, PYTHON, LABEL_MODEL, SCORE_MODEL, *OUR_OWN)
        ),
        *(
            {**EVAL, "data_source_config": {"type": kind, "metadata": {"usecase": "chat"}}}
            for kind in ("logs", "stored_completions")
        ),
    ],
    ("/v1/evals/{eval_id}", "EvalUpdateRequest"): [{"name": "New", "metadata": {"a": "b"}}],
    ("/v1/evals/{eval_id}/runs", "RunCreateRequest"): [
        run_body(
            [*ROWS, {"item": {}, "sample": {"output_text": "x"}}], name="n", metadata={"a": "b"}
        ),
        {"data_source": {"type": "jsonl", "source": {"type": "file_id", "id": "file-none"}}},
        chat_body(sampling_params=PARAMS),
        chat_body(sampling_params={"response_format": {"type": "text"}}),
        chat_body(sampling_params={"response_format": {"type": "json_object"}}),
        chat_body(input_messages={"type": "template", "template": JUDGE_MESSAGES}),
        chat_body(input_messages={"type": "item_reference", "item_reference": "item.label"}),
        chat_body(source={"type": "file_id", "id": "file-none"}),
        chat_body(
            source={"type": "stored_completions", "metadata": {"a": "b"}, "model": "m", **TIMES}
        ),
        chat_body(type="responses", source={"type": "file_id", "id": "file-none"}),
        *(
            chat_body(
                type="responses",
                sampling_params={
                    "reasoning_effort": "low",
                    "tools": [FLAT_TOOL],
                    "text": {"format": form},
                },
                source={
                    "type": "responses",
                    "metadata": {"a": "b"},
                    "model": "m",
                    "instructions_search": "x",
                    "reasoning_effort": "low",
                    "temperature": 1,
                    "top_p": 0.5,
                    "users": ["u"],
                    "tools": ["f"],
                    **TIMES,
                },
            )
            for form in FLAT_FORMATS
        ),
    ],
    ("/v1/chat/completions", "CompletionCreateRequest"): [
        {
            "model": "builtin/echo",
            "messages": [{"role": "user", "content": "x"}],
            "store": True,
            "metadata": {"a": "b"},
            "stream": False,
        },
    ],
    ("/v1/chat/completions/{completion_id}", "CompletionUpdateRequest"): [
        {"metadata": {"a": "b"}},
    ],
    ("/v1/embeddings", "EmbeddingCreateRequest"): [
        {
            "model": "m",
            "input": "x",
            "encoding_format": "float",
            "dimensions": 3,
            "user": "u",
        },
    ],
    ("/v1/responses", "ResponseCreateRequest"): [
        {"model": "builtin/echo", "input": "x"},
        {
            "model": "builtin/echo",
            "input": RESPONSE_INPUT,
            "instructions": "i",
            "previous_response_id": "resp_x",
            "store": True,
            "metadata": {"a": "b"},
            "stream": False,
            "temperature": 1,
            "top_p": 1,
            "max_output_tokens": 5,
            "reasoning": {"effort": "low"},
            "text": {"format": FLAT_FORMATS[0]},
            "tools": [FLAT_TOOL],
            "parallel_tool_calls": True,
            "user": "u",
        },
    ],
    ("/v1/fine_tuning/alpha/graders/validate", "GraderValidateRequestRequest"): [
        {"grader": STRING_CHECK},
    ],
    ("/v1/fine_tuning/alpha/graders/run", "GraderRunRequestRequest"): [
        {"grader": STRING_CHECK, "model_sample": "x", "item": {"answer": "x", "label": "y"}},
    ],
}


def schema_of_the_wire() -> dict[str, Any]:
    routes = [path("v1/", include("evalplatform.dialects.openai.urls"))]
    return SchemaGenerator(patterns=routes).get_schema(request=None, public=True)


SCHEMA = schema_of_the_wire()


def named(schema: dict[str, Any]) -> str:
    return schema.get("$ref", "").rpartition("/")[2]


def alternative(schema: dict[str, Any], value: Any) -> dict[str, Any]:
    """Return the alternative of a schema that a value of this type and `type` must meet."""
    if "allOf" in schema:
        return schema["allOf"][0]
    if "discriminator" in schema:
        return {"$ref": schema["discriminator"]["mapping"][value["type"]]}
    kinds = {"string": str, "array": list, None: dict}
    return next(one for one in schema["oneOf"] if isinstance(value, kinds[one.get("type")]))


def resolved(schema: dict[str, Any], value: Any) -> dict[str, Any]:
    """Return the schema that the value must meet, with what was said of it on the way there."""
    said = {
        "nullable": schema.get("nullable", False),
        "is_union": "oneOf" in schema and "discriminator" not in schema,
    }
    shape = ""
    while "type" not in schema:
        if name := named(schema):
            shape, schema = name, SCHEMA["components"]["schemas"][name]
        else:
            schema = alternative(schema, value)
    return {**schema, **{key: True for key, is_so in said.items() if is_so}, "shape": shape}


def shapes_of(schema: dict[str, Any], value: Any) -> Iterator[str]:
    """Return the names of the shapes that the value and everything in it has."""
    while "type" not in schema:
        if name := named(schema):
            yield name
            schema = SCHEMA["components"]["schemas"][name]
        else:
            schema = alternative(schema, value)
    for element in value if schema["type"] == "array" else ():
        yield from shapes_of(schema["items"], element)
    for name, inner in schema.get("properties", {}).items():
        if name in value:
            yield from shapes_of(inner, value[name])


def untried(shape: str, body: Any, tried: set[Any]) -> list[tuple[Path, Any, Path]]:
    """The faults of a body, but for those that another place of the same shape has had.

    Of a place whose faults were all tried elsewhere one is left, since its path is its own.
    """
    found, places = [], set()
    for at, what, told, way in faults({"$ref": f"#/components/schemas/{shape}"}, body):
        place, fault = at[: len(at) - len(way) + 1], (way, repr(what))
        if fault not in tried or place not in places:
            found.append((at, what, told))
        tried.add(fault)
        places.add(place)
    return found


def faults(
    schema: dict[str, Any], value: Any, at: Path = (), way: Path = ()
) -> Iterator[tuple[Path, Any, Path, Path]]:
    """Yield (where to put, what, the path to be named, the way) for all that the schema forbids.

    way: the name of the shape that it stands in, and the path from there.
    """
    schema = resolved(schema, value)
    if schema["shape"]:
        way = (schema["shape"],)
    for where, what, told in _own_faults(schema, value, at):
        yield where, what, told, (*way, *where[len(at) :])
    if schema["type"] == "array":
        for index, element in enumerate(value):
            yield from faults(schema["items"], element, (*at, index), (*way, 0))
    for name, inner in schema.get("properties", {}).items():
        if name in value:
            yield from faults(inner, value[name], (*at, name), (*way, name))


def _own_faults(schema: dict[str, Any], value: Any, at: Path) -> Iterator[tuple[Path, Any, Path]]:
    kind = schema["type"]
    wrong = [5, True] if schema.get("is_union") else WRONG_TYPES[kind]
    if at:
        yield from ((at, one, at) for one in wrong)
        if not schema.get("nullable"):
            yield at, None, at
    yield from _limits(schema, value, at)
    for name in schema.get("required", ()):
        yield (*at, name), MISSING, (*at, name)


def _limits(schema: dict[str, Any], value: Any, at: Path) -> Iterator[tuple[Path, Any, Path]]:
    if "enum" in schema:
        yield at, "no such word", at
    if "maxLength" in schema:
        yield at, "x" * (schema["maxLength"] + 1), at
    if schema.get("minLength"):
        yield at, "", at
    if "maximum" in schema:
        yield at, schema["maximum"] + 1, at
    if "minimum" in schema:
        yield at, schema["minimum"] - 1, at
    if "maxItems" in schema:
        yield at, [value[0]] * (schema["maxItems"] + 1), at
    if schema.get("minItems"):
        yield at, value[: schema["minItems"] - 1], at
    if "maxProperties" in schema:
        pairs = {f"key{number}": "v" for number in range(schema["maxProperties"] + 1)}
        yield at, pairs, at
    extra = schema.get("additionalProperties")
    if extra and "type" in extra:
        yield (*at, "odd"), 5, (*at, "odd")
        yield (*at, "odd"), "x" * (extra["maxLength"] + 1), (*at, "odd")


def with_fault(body: Any, at: Path, what: Any) -> Any:
    changed = json.loads(json.dumps(body))  # not deepcopy, which keeps what is shared shared
    node = changed
    for step in at[:-1]:
        node = node[step]
    if what is MISSING:
        del node[at[-1]]
    else:
        node[at[-1]] = what
    return changed


def written(path: Path) -> str:
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".")


def request_shape(operation: dict[str, Any], media_type: str = "application/json") -> Any:
    return operation.get("requestBody", {}).get("content", {}).get(media_type, {}).get("schema")


def test_there_are_bodies_for_every_shape_that_is_posted():
    shapes = {
        (where, named(shape))
        for where, operations in SCHEMA["paths"].items()
        for operation in operations.values()
        if (shape := request_shape(operation))
    }
    assert shapes == set(BODIES)


def test_the_bodies_have_every_shape_of_the_schema():
    reached = {
        name
        for (_, shape), bodies in BODIES.items()
        for body in bodies
        for name in shapes_of({"$ref": f"#/components/schemas/{shape}"}, body)
    }
    shapes = {name for name in SCHEMA["components"]["schemas"] if name.endswith("Request")}
    assert shapes - reached == {"FileUploadRequest"}  # a form, which has a test of its own


TRIED: set[Any] = set()
CASES = [
    pytest.param(where, body, untried(shape, body, TRIED), id=f"{shape}-{number}")
    for (where, shape), bodies in BODIES.items()
    for number, body in enumerate(bodies)
]


@pytest.mark.django_db
@pytest.mark.parametrize(("where", "body", "wrong"), CASES)
def test_a_fault_anywhere_in_a_body_is_refused_by_its_path(where: str, body: Any, wrong: Any):
    caller = Caller()
    route = where.removeprefix("/v1").format(
        eval_id=caller.new_eval()["id"], completion_id=caller.new_completion()["id"]
    )
    before = stored()
    assert wrong
    for at, what, place in wrong:
        status, answer = caller.post(route, with_fault(body, at, what))
        assert (status, answer["error"]["param"]) == (400, written(place)), (at, what, answer)
        assert answer["error"].keys() == {"message", "type", "param", "code"}
        assert answer["error"]["type"] == "invalid_request_error"
        assert answer["error"]["code"]
    assert stored() == before


@pytest.mark.django_db
def test_a_form_is_refused_by_the_field_that_is_wrong():
    caller = Caller()
    shape = SCHEMA["components"]["schemas"]["FileUploadRequest"]
    seconds, anchor = "expires_after[seconds]", "expires_after[anchor]"
    refused = [
        *((name, {name: None}) for name in shape["required"]),
        ("file", {"file": "no file"}),
        ("purpose", {"purpose": "fun"}),
        (anchor, {anchor: "deleted_at", seconds: "3600"}),
        (seconds, {anchor: "created_at", seconds: "3599"}),
        (seconds, {anchor: "created_at", seconds: "2592001"}),
        (seconds, {anchor: "created_at", seconds: "soon"}),
        (seconds, {anchor: "created_at"}),
        (anchor, {seconds: "3600"}),
    ]
    assert {name for name, _ in refused} == set(shape["properties"])
    for place, changes in refused:
        form: dict[str, Any] = {
            "purpose": "evals",
            "file": SimpleUploadedFile("a.jsonl", b'{"item": {}}\n'),
            **changes,
        }
        given = {name: value for name, value in form.items() if value is not None}
        response = caller.client.post("/v1/files", given)
        assert (response.status_code, response.json()["error"]["param"]) == (400, place)
    response = caller.client.post("/v1/files", "{}", content_type="application/json")
    assert response.status_code == 400
    assert response.json()["error"]["param"] is None
    assert File.objects.count() == 0
