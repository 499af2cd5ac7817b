"""Prompts that are Jinja templates: what they can say, what is refused, and that both end soon."""

import json
from typing import Any

import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.grading.prompts import BadPrompt, PromptFailed, compile_prompt, filling, language

VALUES: dict[str, Any] = {
    "input": [{"role": "user", "content": "hi"}, {"role": "tool", "content": None}],
    "actual": "Tea & <b>",
    "ideal": "tea",
    "count": 3,
    "ratio": 0.5,
    "yes": True,
}


def filled(template: str, **values: Any) -> str:
    return compile_prompt(template).fill(values or VALUES)


@pytest.mark.parametrize(
    "template",
    [
        "plain",
        "",
        "Reply: {{ actual }}; {{ideal}}\n",
        "{# no #}{{ unknown }}|{{ unknown.deeper[0].still }}|{{ actual.nothing }}|{{ input[9] }}",
        "{{ input[0].role }} {{ input[-1]['role'] }} {{ input.0.content }}",
        "{{ actual[0] }}{{ actual[1:3] }}{{ actual[::-1] }}{{ input[1:]|length }}",
        "{% if ideal in actual %}in{% elif ideal %}out{% else %}none{% endif %}",
        "{{ 'yes' if yes else 'no' }}{{ 'no' if unknown }}",
        "{% for m in input %}{{ loop.index }}/{{ loop.length }} {{ m.role }}"
        "{{ ', ' if not loop.last }}{% endfor %}",
        "{% for m in input if m.role == 'tool' %}{{ loop.index0 }}{{ loop.first }}{% endfor %}",
        "{% for m in unknown %}x{% else %}nobody{% endfor %}",
        "{% for letter in ideal %}{{ letter }}.{% endfor %}",
        "{% for key in input[0] %}{{ key }} {% endfor %}",
        "{% set x = 1 %}{% for m in input %}{% set x = x + 1 %}{{ x }}{% endfor %}{{ x }}",
        "{% set x = 1 %}{% if yes %}{% set x = 2 %}{% endif %}{{ x }}",
        "{{ count + 1 }} {{ count * ratio }} {{ count - 5 }} {{ -count }} {{ 'a' + 'b' }}",
        "{{ actual ~ '-' ~ count }}{{ count < 4 and ratio >= 0.5 and 'a' < 'b' }}",
        "{{ 1 < count <= 3 }} {{ count != 3 }} {{ count in [1, 2, 3] }} {{ 'x' not in ideal }}",
        "{{ not yes or ideal }} {{ 'a' == 1 }} {{ 'role' in input[0] }}",
        "{{ actual|upper|lower|trim }} {{ '  x '|trim }} {{ input|length }} {{ ideal|count }}",
        "{{ unknown|default('none') }} {{ ''|d('empty', true) }} {{ ideal|first }}{{ ideal|last }}",
        "{{ ['a', 'b', 3]|join(', ') }} {{ ideal|join('-') }} {{ ideal|replace('t', 'TT') }}",
        "{{ unknown is defined }} {{ yes is undefined }} {{ input is mapping }} {{ 1 is number }}",
        "{{ none is none }} {{ ideal is string }} {{ ideal is not string }}",
        "{{ input is sequence }} {{ input[0] is mapping }}",
        "{% raw %}{{ actual }}{% endraw %}  {%- if yes -%}  tight  {%- endif %}",
        "{{ actual|safe }} {{ count|string }}",
        "line\r\nline\n\n",
    ],
)
def test_what_a_prompt_can_say_means_what_jinja_says(template: str) -> None:
    environment = jinja2.Environment(undefined=jinja2.ChainableUndefined)
    meant = environment.from_string(template).render(VALUES)
    # Jinja writes Python's words for true and false, a prompt JSON's.
    assert filled(template).lower() == meant.lower()


def test_what_is_no_text_is_filled_in_as_json() -> None:
    assert filled("{{ yes }} {{ none }} {{ ratio }}") == "true null 0.5"
    assert json.loads(filled("{{ input }}")) == VALUES["input"]
    assert filled("{{ actual|tojson }}") == '"Tea & <b>"'
    assert filled("{{ (1, 'a', unknown) }}") == '[1,"a",null]'


def test_no_attribute_of_a_python_object_is_in_reach() -> None:
    for path in ("actual.__class__.__mro__", "''['__class__']", "input['append']", "input.append"):
        assert filled(f"[{{{{ {path} }}}}]") == "[]"


def test_nothing_is_escaped_and_what_was_filled_in_is_not_read_again() -> None:
    assert filled("{{ a }}", a="{{ b }} <&>", b="no") == "{{ b }} <&>"


def test_the_variables_are_the_names_that_are_read() -> None:
    prompt = compile_prompt("{{ a.b }}{% set c = d %}{% for e in f %}{{ e }}{% endfor %}")
    assert prompt.variables == {"a", "d", "e", "f"}


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ a", "line 1: unexpected end"),
        ("\n{% if a %}", "line 2: "),
        ("{{ a() }}", "line 1: a prompt has no call"),
        ("{{ ''.join(a) }}", "a prompt has no call"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "a prompt has no call"),
        ("{% for i in range(10) %}{% endfor %}", "a prompt has no call"),
        ("{% macro m() %}{{ m() }}{% endmacro %}", "a prompt has no macro"),
        ("{% include 'x' %}", "a prompt has no include"),
        ("{% import 'x' as y %}", "a prompt has no import"),
        ("{% extends 'x' %}", "a prompt has no extends"),
        ("{% block b %}{% endblock %}", "a prompt has no block"),
        ("{% filter upper %}{% endfilter %}", "a prompt has no filterblock"),
        ("{% set x %}{% endset %}", "a prompt has no assignblock"),
        ("{% with %}{% endwith %}", "a prompt has no with"),
        ("{{ 9 ** 9 }}", "a prompt has no pow"),
        ("{{ '%999999999d' % 1 }}", "a prompt has no mod"),
        ("{{ {'a': 1} }}", "a prompt has no dict"),
        ("{{ a|center(999999999) }}", "no filter 'center'"),
        ("{{ a|attr('b') }}", "no filter 'attr'"),
        ("{{ a|upper(1) }}", "the filter upper takes 0 plain arguments"),
        ("{{ a|replace('b') }}", "the filter replace takes 2 plain arguments"),
        ("{{ a|default(value=1) }}", "the filter default takes 0 to 2 plain arguments"),
        ("{{ a is divisibleby(3) }}", "no test 'divisibleby'"),
        ("{% for a in b recursive %}{% endfor %}", "a loop cannot be recursive"),
        ("{% for a, b in c %}{% endfor %}", "only a single name can be set"),
        ("{% set a.b = 1 %}", "only a single name can be set"),
        ("{{ a[1:2, 3] }}", "a list has no slices"),
        ("{{ 1e999 }}", "a number is too large"),
        ("{{ 99999999999999999999 }}", "a number is too large"),
        ("{{ " + "1" * 5_000 + " }}", "cannot be read"),
        ("{{ '\\ud800' }}", "a character that JSON has not"),
        ("{{ '\\0' }}", "a character that JSON has not"),
        ("a\0b", "a character that JSON texts here cannot"),
        ("a\ud800b", "a character that JSON texts here cannot"),
        ("{{ " + "(" * 500 + "1" + ")" * 500 + " }}", "nested too deeply"),
        ("{{ a" + ".b" * 500 + " }}", "nested too deeply"),
        ("{{ a" + "|upper" * 500 + " }}", "nested too deeply"),
        ("{{ " + "a + " * 500 + "a }}", "nested too deeply"),
        ("{% if a %}" * 200 + "{% endif %}" * 200, "nested too deeply"),
        ("{{ a }}" * 1_000, "at most 4,000 tokens"),
        ("x" * (language.MAX_TEMPLATE_CHARS + 1), "characters"),
    ],
)
def test_what_cannot_be_bounded_is_refused_with_its_line(template: str, message: str) -> None:
    with pytest.raises(BadPrompt) as refused:
        compile_prompt(template)
    assert message in str(refused.value)
    assert len(str(refused.value)) < 400


BIG = "ab" * 4_000_000
ROWS = [{"role": "user", "content": "x" * 50}] * 60_000
VAST: dict[str, Any] = {
    "big": BIG,
    "other": BIG[:-1] + "c",
    "rows": ROWS,
    "numbers": [1.5] * 1_000_000,
    "nested": [[1]] * 100_000,
    "keyed": {f"key {number}": 10**100 for number in range(200_000)},
    "huge": 10**400,
}


@pytest.mark.parametrize(
    "template",
    [
        "{% for a in rows %}{% for b in rows %}{% endfor %}{% endfor %}",
        "{% for a in rows if a.content == 'y' %}{% endfor %}",
        "{% for a in big %}{% set b = a %}{% endfor %}",
        "{% for a in rows %}{{ big == other }}{% endfor %}",
        "{% for a in rows %}{{ 'aa' in big }}{% endfor %}",
        "{% for a in rows %}{{ rows[::2]|length }}{% endfor %}",
        "{% for a in rows %}{{ big[1:]|length }}{% endfor %}",
        "{% for a in rows %}{{ a in rows }}{% endfor %}",
        "{{ big }}{{ big }}{{ big }}",
        "{{ (big ~ big)|length }}",
        "{{ (big + big)|length }}",
        "{{ [big, big, big] }}",
        "{{ big|upper }}",
        "{{ big|replace('a', big) }}",
        "{{ rows|join(big) }}",
        "{{ rows|tojson|tojson|tojson|tojson|tojson|tojson }}",
        "{{ rows }}",
        "{{ numbers }}",
        "{{ nested }}",
        "{{ keyed }}",
        "{% set x = 'a' %}" + "{% set x = x ~ x %}" * 60,
        "{% set x = 'a' %}" + "{% set x = x|tojson|tojson %}" * 60,
        "{% set x = 9 %}" + "{% set x = x * x %}" * 60,
        "{% set x = 9.9 %}" + "{% set x = x * x %}" * 60,
        "{% set x = [1] %}" + "{% set x = [x, x] %}" * 60,
        "{{ rows == rows }}",
        "{{ 1 < 'a' }}",
        "{{ none|length }}",
        "{% for a in 5 %}{% endfor %}",
        "{{ 'a'['x':] }}",
        "{{ 'a'[::0] }}",
        "{{ -'a' }}",
        "{{ huge * huge }}",
        "{{ huge * 0.5 }}",
    ],
)
def test_what_takes_too_much_fails_before_it_is_done(
    template: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    write = filling.Filling.write

    def counted(self: filling.Filling, text: str) -> None:
        written.append(len(text))
        write(self, text)

    monkeypatch.setattr(filling.Filling, "write", counted)
    with pytest.raises(PromptFailed):
        filled(template, **VAST)
    assert len(written) <= filling.MAX_STEPS
    assert sum(written) <= filling.MAX_FILLED_CHARS + len(BIG)


def test_a_text_as_long_as_a_row_may_be_is_filled_in() -> None:
    assert len(filled("{{ a }}", a="x" * filling.MAX_FILLED_CHARS)) == filling.MAX_FILLED_CHARS


CODE = """
{{ }} {% %} {# #} a .b [0] |upper endfor else endif raw endraw 't' 1 + ~ * is not in ( ) ,
loop.index - |join [1:] == é \\ "
"""
PIECES = st.sampled_from([*CODE.split(), "for x in a ", "if a ", "set x = a ", " ", "\n"])
JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(st.lists(PIECES, max_size=14).map("".join) | st.text(), JSON_VALUES)
def test_any_text_is_refused_failed_or_filled_in(template: str, value: Any) -> None:
    try:
        text = compile_prompt(template).fill({"a": value})
    except (BadPrompt, PromptFailed):
        return
    assert isinstance(text, str)
    text.encode()


OPERAND = st.sampled_from(["a", "a.b", "a[0]", "'t'", "1", "2.5", "none", "true", "[1, a]", "u"])
EXPRESSION = st.recursive(
    OPERAND,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from([*"+-*~<", "==", "in", "and", "or", "not in"]), inner).map(
            lambda parts: f"({parts[0]} {parts[1]} {parts[2]})"
        ),
        st.tuples(inner, st.sampled_from(sorted(filling.FILTERS))).map("|".join),
        st.tuples(inner, st.sampled_from(sorted(filling.TESTS))).map(" is ".join),
        inner.map(lambda one: f"(not {one})"),
        inner.map(lambda one: f"({one})[1:]"),
    ),
    max_leaves=6,
)


@given(EXPRESSION, JSON_VALUES)
def test_any_expression_has_a_value_or_fails(expression: str, value: Any) -> None:
    template = f"{{{{ {expression} }}}}{{% for x in {expression} %}}{{{{ x }}}}{{% endfor %}}"
    try:
        compile_prompt(template).fill({"a": value})
    except (BadPrompt, PromptFailed):
        return
