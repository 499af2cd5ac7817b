"""What templates fill in, what they leave alone, and what validation refuses."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.grading import templating
from apps.grading.templating import (
    MissingVariable,
    RenderedTooLong,
    compile_template,
    message_templates,
    render_content,
    render_messages,
    resolve,
    unknown_variables,
)

CALL = {"function": {"name": "find", "arguments": '{"symbols": ["A", {"n": 1}], "big": 1e2}'}}
SCOPE = {
    "item": {
        "question": "Why?",
        "count": 42,
        "share": 0.5,
        "huge": 2**80,
        "yes": True,
        "nothing": None,
        "tags": ["a", "ü"],
        "nested": {"list": [{"deep": "found"}], "ключ": 1},
        "Price (USD)": "9",
        "top-level": "hyphen",
        "braces": "{{ item.question }}",
        "text": "abc",
        "messages": [{"role": "user", "content": "Hi"}],
    },
    "sample": {"output_text": "Because.", "output_tools": [CALL]},
}
CLOSED = {
    "type": "object",
    "properties": {
        "question": {"type": "string"},
        "inner": {
            "type": "object",
            "properties": {"known": {}},
            "additionalProperties": False,
        },
        "rows": {
            "type": "array",
            "items": {"properties": {"a": {}}, "additionalProperties": False},
        },
        "free": {"type": "object"},
    },
    "additionalProperties": False,
}


def render(text: str) -> str:
    return compile_template(text).render(SCOPE)


@pytest.mark.parametrize(
    ("template", "rendered"),
    [
        ("", ""),
        ("no braces", "no braces"),
        ("{{item.question}}", "Why?"),
        ("{{ item.question }}", "Why?"),
        ("{{\n item.question\t}}", "Why?"),
        ("Q: {{item.question}} A: {{ sample.output_text }}!", "Q: Why? A: Because.!"),
        ("{{item.count}} {{item.share}} {{item.huge}}", f"42 0.5 {2**80}"),
        ("{{item.yes}} {{item.nothing}}", "true null"),
        ("{{item.tags}}", '["a","ü"]'),
        ("{{item.nested}}", '{"list":[{"deep":"found"}],"ключ":1}'),
        ("{{item.nested.list[0].deep}}", "found"),
        ("{{item.nested.ключ}}", "1"),
        ("{{item.tags[1]}}", "ü"),
        ("{{item.Price (USD)}} {{item.top-level}}", "9 hyphen"),
        ("{{sample.output_tools[0].function.name}}", "find"),
        ("{{sample.output_tools[0].function.arguments}}", CALL["function"]["arguments"]),
        ("{{sample.output_tools[0].function.arguments.symbols}}", '["A",{"n":1}]'),
        ("{{sample.output_tools[0].function.arguments.symbols[1].n}}", "1"),
    ],
)
def test_a_placeholder_is_replaced_by_the_text_or_json_of_its_value(template, rendered):
    assert render(template) == rendered


@pytest.mark.parametrize(
    "literal",
    [
        "{{ item.question",
        "{{ item.question }",
        "{ item.question }",
        "item.question }}",
        "{{}}",
        "{{ }}",
        '{{"steps": 1}}',
        "{{ 7*7 }}",
        "{{#if x}}",
        '{"a": {"b": 1}}',
        "{" * 50 + "}" * 50,
    ],
)
def test_braces_that_hold_no_path_are_literal_text(literal):
    template = compile_template(literal)
    assert template.render({}) == literal
    assert template.variables == ()


def test_an_unclosed_brace_does_not_swallow_the_placeholder_after_it():
    assert render("{{item.count} and {{ {{item.count}}") == "{{item.count} and {{ 42"
    assert render("{{{item.count}}}") == "{42}"


def test_inserted_text_is_not_expanded_again():
    assert render("{{item.braces}}") == "{{ item.question }}"


@pytest.mark.parametrize(
    "path",
    [
        "item.absent",
        "item.question.deeper",
        "item.text[0]",
        "item.tags[2]",
        "item.tags.first",
        "item.nested[0]",
        "item.question.__class__",
        "item.count.real",
        "item.question | upper",
        "sample.output_tools[0].function.arguments.absent",
        "other.thing",
        "question",
    ],
)
def test_a_path_that_leads_nowhere_is_a_missing_variable(path):
    with pytest.raises(MissingVariable) as caught:
        render(f"text {{{{ {path} }}}}")
    assert caught.value.path == path
    with pytest.raises(MissingVariable):
        resolve(path, SCOPE)


@pytest.mark.parametrize("scope", [{}, {"item": {}}, {"item": {}, "sample": None}])
@pytest.mark.parametrize("template", ["{{sample}}", "{{sample.output_text}}", "{{sample.a[0].b}}"])
def test_without_a_sample_its_variables_are_missing(scope, template):
    with pytest.raises(MissingVariable):
        compile_template(template).render(scope)


def test_arguments_that_are_not_json_are_a_missing_variable():
    scope = {"item": {"function": {"arguments": "not json"}}}
    assert compile_template("{{item.function.arguments}}").render(scope) == "not json"
    with pytest.raises(MissingVariable):
        compile_template("{{item.function.arguments.a}}").render(scope)


def test_arguments_that_are_already_an_object_are_followed():
    scope = {"item": {"function_call": {"arguments": {"a": 1}}}}
    assert compile_template("{{item.function_call.arguments.a}}").render(scope) == "1"


def test_only_a_call_has_its_arguments_parsed():
    with pytest.raises(MissingVariable):
        compile_template("{{item.arguments.a}}").render({"item": {"arguments": '{"a": 1}'}})


def test_variables_name_their_namespace_and_path_in_order():
    template = compile_template("{{item.a[0].b}} {{ sample }} {{foo.bar}} {{item['a']}}")
    assert [str(variable) for variable in template.variables] == [
        "item.a[0].b",
        "sample",
        "foo.bar",
        "item['a']",
    ]
    assert template.variables[0].path == ("a", 0, "b")
    assert template.variables[3].namespace == "item['a']"


def test_resolve_returns_the_value_itself():
    assert resolve("item.messages", SCOPE) is SCOPE["item"]["messages"]
    assert resolve("item", SCOPE) is SCOPE["item"]
    with pytest.raises(MissingVariable):
        resolve("", SCOPE)


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("{{ item.tags }}", SCOPE["item"]["tags"]),
        ("{{item.nothing}}", None),
        ("{{ item.count }}", 42),
        (" {{ item.nothing }}", " null"),
        ("{{ item.count }}{{ item.count }}", "4242"),
        ("{{ item.count }}.", "42."),
        ("item.count", "item.count"),
        ("", ""),
    ],
)
def test_the_value_of_a_lone_placeholder_is_not_made_text(template, value):
    assert compile_template(template).value(SCOPE) == value


def test_a_lone_placeholder_that_leads_nowhere_is_a_missing_variable():
    with pytest.raises(MissingVariable):
        compile_template("{{ item.absent }}").value(SCOPE)


def test_a_long_result_is_refused_before_it_is_built(monkeypatch):
    monkeypatch.setattr(templating, "MAX_RENDERED_CHARS", 100)
    compile_template.cache_clear()
    try:
        scope = {"item": {"long": "x" * 99}}
        assert len(compile_template("a{{item.long}}").render(scope)) == 100
        with pytest.raises(RenderedTooLong, match="longer than 100 characters"):
            compile_template("ab{{item.long}}").render(scope)
        with pytest.raises(RenderedTooLong):
            compile_template("{{item.long}}{{item.long}}").render(scope)
    finally:
        compile_template.cache_clear()


@pytest.mark.parametrize("text", ["{{" * 200_000, "{{a " * 200_000, "{{item" + ".a" * 200_000])
def test_hostile_templates_compile_in_linear_time(text):
    assert compile_template.__wrapped__(text).variables == ()


def test_content_is_rendered_as_text_part_or_list():
    assert render_content("{{item.count}}", SCOPE) == "42"
    parts = [
        "{{item.count}}",
        {"type": "input_text", "text": "{{item.question}}"},
        {"type": "input_image", "image_url": "{{item.text}}", "detail": "{{item.text}}"},
        {"type": "input_audio", "input_audio": {"data": "{{item.text}}", "format": "mp3"}},
    ]
    assert render_content(parts, SCOPE) == [
        "42",
        {"type": "input_text", "text": "Why?"},
        {"type": "input_image", "image_url": "abc", "detail": "{{item.text}}"},
        {"type": "input_audio", "input_audio": {"data": "abc", "format": "mp3"}},
    ]
    assert parts[1]["text"] == "{{item.question}}"
    assert render_content(parts[1], SCOPE) == {"type": "input_text", "text": "Why?"}
    assert render_content(None, SCOPE) is None


def test_a_picture_may_stand_in_the_part_or_one_level_below_as_chat_servers_have_it():
    parts = [
        {"type": "image_url", "image_url": {"url": "{{item.text}}", "detail": "{{item.text}}"}}
    ]
    assert render_content(parts, SCOPE) == [
        {"type": "image_url", "image_url": {"url": "abc", "detail": "{{item.text}}"}}
    ]
    assert message_templates([{"role": "user", "content": parts}]) == ("{{item.text}}",)


def test_messages_keep_what_is_not_content():
    messages = [{"role": "user", "type": "message", "content": "{{item.count}}"}]
    assert render_messages(messages, SCOPE) == [
        {"role": "user", "type": "message", "content": "42"}
    ]
    assert messages[0]["content"] == "{{item.count}}"


def test_message_templates_finds_what_rendering_would_fill():
    messages = [
        {"role": "system", "content": "a"},
        {"role": "user", "content": ["b", {"type": "input_text", "text": "c"}]},
        {"role": "user", "content": {"type": "input_audio", "input_audio": {"data": "d"}}},
        {"role": "user", "content": [{"type": "input_image", "image_url": "e", "detail": "f"}]},
    ]
    assert message_templates(messages) == ("a", "b", "c", "d", "e")


@pytest.mark.parametrize(
    ("template", "unknown"),
    [
        ("{{item.question}} {{item}}", []),
        ("{{item.answer}} {{item.answer}} {{item.b}}", ["item.answer", "item.b"]),
        ("{{item.inner.known}} {{item.inner.other}}", ["item.inner.other"]),
        ("{{item.rows[3].a}} {{item.rows[3].b}}", ["item.rows[3].b"]),
        ("{{item.free.anything[0].goes}} {{item.question.under}}", []),
        ("{{sample.output_text}}", ["sample.output_text"]),
        ("{{question}} {{items.question}}", ["question", "items.question"]),
        ("{{item.question", []),
    ],
)
def test_variables_that_a_closed_schema_cannot_have_are_unknown(template, unknown):
    assert unknown_variables(template, CLOSED, allow_sample=False) == unknown


@pytest.mark.parametrize(
    "schema",
    [
        None,
        {},
        {"type": "object", "properties": {"a": {}}},
        {"properties": {"a": {}}, "additionalProperties": True},
        {"properties": {"a": {}}, "additionalProperties": {"type": "string"}},
        {"properties": {"a": {}}, "additionalProperties": False, "patternProperties": {"^x": {}}},
        {"$ref": "#/$defs/row", "properties": {"a": {}}, "additionalProperties": False},
        {"properties": "hostile", "additionalProperties": False},
        {"properties": {"x": True}, "additionalProperties": False},
    ],
)
def test_an_open_schema_allows_undeclared_names(schema):
    assert unknown_variables("{{item.x.y}} {{sample.output_text}}", schema, allow_sample=True) == []


KEYS = st.text(st.characters(exclude_characters=".[]{}", exclude_categories=["Cs"]), min_size=1)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=5,
)


@given(key=KEYS.filter(lambda key: key == key.strip()), value=VALUES, index=st.integers(0, 5))
def test_any_value_is_found_under_any_key_and_reads_back(key, value, index):
    scope = {"item": {"outer": [None] * index + [{key: value}]}}
    text = compile_template(f"<{{{{item.outer[{index}].{key}}}}}>").render(scope)[1:-1]
    assert (text if isinstance(value, str) else json.loads(text)) == value


@given(st.text(alphabet="{}item.sample[0] \n|ü"))
def test_compiling_never_raises_and_keeps_every_literal(text):
    template = compile_template(text)
    if not template.variables:
        assert template.render({}) == text
