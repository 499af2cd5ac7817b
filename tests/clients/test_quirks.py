"""A refusal is read for what its words say of the request, and the request made without that."""

import json

import pytest

from apps.clients.quirks import (
    adapt,
    refused_in,
    sentence,
    small_request,
    speaks_of_forms,
    suspects,
    words_of,
)

USER = {"role": "user", "content": "Hello"}
DEVELOPER = {"role": "developer", "content": "Be brief."}
SYSTEM = {"role": "system", "content": "Be kind."}


def request(*messages, **params):
    return {"model": "m", "messages": list(messages or (USER,)), **params}


def refused(asked, error):
    return refused_in(asked, words_of(error))


@pytest.mark.parametrize(
    ("params", "words", "quirks"),
    [
        (
            {"max_tokens": 9},
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
            "'max_completion_tokens' instead.",
            ["max_tokens"],
        ),
        (
            {"max_completion_tokens": 9, "seed": 1},
            "[{'type': 'extra_forbidden', 'loc': ('body', 'max_completion_tokens'), 'msg': 'Extra "
            "inputs are not permitted', 'input': 9}]",
            ["max_completion_tokens"],
        ),
        (
            {"seed": 1},
            'Invalid JSON payload received. Unknown name "seed": Cannot find field.',
            ["seed"],
        ),
        ({"seed": 1, "top_p": 1}, "mistral does not support parameters: ['seed']", ["seed"]),
        (
            {"reasoning_effort": "low"},
            "Unrecognized request argument supplied: reasoning_effort",
            ["reasoning_effort"],
        ),
        ({"reasoning_effort": "low"}, '"llama3.2" does not support thinking', ["reasoning_effort"]),
        (
            {"reasoning_effort": "minimal"},
            "Unsupported value: 'reasoning_effort' does not support 'minimal' with this model. "
            "Supported values are: 'low', 'medium', and 'high'.",
            ['reasoning_effort="minimal"'],
        ),
        (
            {"temperature": 0.2},
            "Unsupported value: 'temperature' does not support 0.2 with this model. Only the "
            "default (1) value is supported.",
            ["temperature"],
        ),
        (
            {"response_format": {"type": "json_object"}},
            "'response_format.type' must be 'json_schema' or 'text'",
            ["response_format:json_object"],
        ),
        (
            {"response_format": {"type": "json_schema"}},
            'response_format type must be one of "text" or "json_object", but got: json_schema',
            ["response_format:json_schema"],
        ),
        (
            {"response_format": {"type": "json_schema"}},
            "This model does not support response format `json_schema`.",
            ["response_format:json_schema"],
        ),
        (
            {"response_format": {"type": "json_object"}},
            "This response_format type is unavailable now",
            ["response_format:json_object"],
        ),
        # Nothing that this request had.
        ({"seed": 1}, "Unsupported parameter: 'top_k'", []),
        ({"tools": []}, "Unsupported parameter: 'tools'", []),
        # Faults of the one request.
        ({"temperature": 9}, "temperature must be less than or equal to 2", []),
        (
            {"max_tokens": 9000},
            "'max_tokens' is too large: 9000. This model's maximum context length is 4096 tokens",
            [],
        ),
        ({"seed": 1}, "The seed of this text is not supported by our content policy", []),
        (
            {"response_format": {"type": "json_schema"}},
            "Invalid schema for response_format 'verdict': 'minLength' is not permitted.",
            [],
        ),
        ({"seed": 1}, "Bad Request", []),
    ],
)
def test_a_parameter_is_refused_only_where_the_words_say_so(params, words, quirks):
    asked = request(**params)
    assert refused(asked, {"error": {"message": words, "type": "x", "param": None}}) == quirks
    assert refused(asked, {"error": words}) == quirks
    nested = {"error": {"message": "Provider returned error", "metadata": {"raw": words}}}
    assert refused(asked, nested) == quirks


@pytest.mark.parametrize(
    ("messages", "words", "quirk"),
    [
        ((DEVELOPER, USER), "Unexpected message role.", "developer"),
        (
            (DEVELOPER, USER),
            "messages[0].role: unknown variant `developer`, expected one of `system`, `user`",
            "developer",
        ),
        (
            (DEVELOPER, USER),
            "'developer' is not one of ['system', 'user'] - 'messages.0.role'",
            "developer",
        ),
        (
            (DEVELOPER, USER),
            "'messages[0].role' does not support 'developer' with this model.",
            "developer",
        ),
        ((DEVELOPER, USER), "[1214] Incorrect role information", "developer"),
        (
            (USER, SYSTEM),
            "Jinja Exception: System message must be at the beginning.",
            "system_first",
        ),
        ((USER, SYSTEM), "Unexpected role 'system' after role 'user'", "system_first"),
        (
            (USER, SYSTEM),
            "Expected last role User or Tool for serving but got system",
            "system_first",
        ),
        ((SYSTEM, USER), "System role not supported", "system"),
        ((SYSTEM, USER), "Developer instruction is not enabled for models/gemma", "system"),
        ((SYSTEM, USER), "'messages[0].role' does not support 'system' with this model.", "system"),
        ((USER, USER), "Conversation roles must alternate user/assistant/...", "alternate"),
        (
            (USER, USER),
            "Please ensure that multiturn requests alternate between user and model",
            "alternate",
        ),
        (
            ({"role": "user", "content": [{"type": "text", "text": "Hi"}]},),
            "invalid type: sequence, expected a string",
            "text_content",
        ),
    ],
)
def test_a_form_of_messages_is_refused_where_it_is_there(messages, words, quirk):
    assert refused(request(*messages), {"error": words}) == [quirk]
    if quirk not in {"alternate"}:
        assert quirk not in refused(request(USER), {"error": words})
    if quirk not in {"developer", "system"}:
        assert speaks_of_forms(words.lower())


def test_what_an_error_repeats_of_the_request_teaches_nothing():
    echoed = "seed is not supported; Unexpected message role"
    detail = [{"type": "x", "loc": ["body", "model"], "msg": "No such model", "input": echoed}]
    asked = request(DEVELOPER, USER, seed=1)
    assert refused(asked, {"detail": detail}) == []
    assert refused(asked, {"message": f"[{{'msg': 'No such model', 'input': '{echoed}'}}]"}) == []


def changed(asked, *quirks):
    sent, notes = adapt(asked, quirks)
    return sent, notes


def test_a_request_is_made_without_what_is_refused_and_it_is_said():
    asked = request(max_completion_tokens=9, seed=1, temperature=0.2)
    sent, notes = changed(asked, "max_completion_tokens", "seed", "top_p")
    assert sent == request(max_tokens=9, temperature=0.2)
    assert notes == [
        "max_completion_tokens is refused: it is sent as max_tokens.",
        "seed is refused: it is left out.",
    ]
    assert asked["seed"] == 1
    sent, _ = changed(asked, "max_completion_tokens", "max_tokens")
    assert "max_tokens" not in sent


def test_one_value_is_left_out_and_others_are_not():
    quirk = 'reasoning_effort="minimal"'
    assert changed(request(reasoning_effort="minimal"), quirk)[0] == request()
    assert changed(request(reasoning_effort="high"), quirk) == (
        request(reasoning_effort="high"),
        [],
    )
    formats = request(response_format={"type": "json_object"})
    assert changed(formats, "response_format:json_schema") == (formats, [])
    assert changed(formats, "response_format:json_object")[0] == request()


@pytest.mark.parametrize(
    ("messages", "quirks", "sent"),
    [
        ((DEVELOPER, USER), ("developer",), [{**DEVELOPER, "role": "system"}, USER]),
        ((USER, SYSTEM), ("system_first",), [SYSTEM, USER]),
        (
            (SYSTEM, USER, DEVELOPER),
            ("system_first",),
            [{"role": "system", "content": "Be kind.\n\nBe brief."}, USER],
        ),
        ((SYSTEM, USER), ("system",), [{"role": "user", "content": "Be kind.\n\nHello"}]),
        ((SYSTEM,), ("system",), [{"role": "user", "content": "Be kind."}]),
        ((USER, USER), ("alternate",), [{"role": "user", "content": "Hello\n\nHello"}]),
        (
            ({"role": "user", "content": [{"type": "text", "text": "Hi"}]},),
            ("text_content",),
            [{"role": "user", "content": "Hi"}],
        ),
        (
            (SYSTEM, {"role": "user", "content": [{"type": "image_url", "image_url": {}}]}),
            ("system",),
            [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "Be kind."},
                        {"type": "image_url", "image_url": {}},
                    ],
                }
            ],
        ),
        ((USER,), ("developer", "system", "system_first", "text_content"), [USER]),
    ],
)
def test_messages_are_sent_in_the_form_that_is_taken(messages, quirks, sent):
    made, notes = changed(request(*messages), *quirks)
    assert made["messages"] == sent
    assert bool(notes) == (made["messages"] != list(messages))


def test_a_small_request_meets_the_quirks_it_is_to_try_and_no_other():
    secret = {"role": "user", "content": "the row's own text"}
    asked = request(DEVELOPER, secret, SYSTEM, seed=1, tools=[{}], response_format={"type": "x"})
    doubted = suspects(asked)
    assert doubted == ["developer", "system_first", "seed", "response_format:x"]
    everything = small_request(asked, doubted)
    assert suspects(everything) == doubted
    assert suspects(small_request(asked, ())) == []
    for one in doubted:
        assert suspects(small_request(asked, [one])) == [one]
    assert "own text" not in json.dumps(everything)
    assert "tools" not in everything


def test_every_quirk_has_its_sentence():
    asked = request(DEVELOPER, USER, SYSTEM, seed=1, response_format={"type": "json_object"})
    for quirk in (*suspects(asked), "system", "alternate", "max_tokens", "top_p=0.5"):
        assert sentence(quirk).endswith(".")
