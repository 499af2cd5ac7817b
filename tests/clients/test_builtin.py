"""The models that need no network."""

import asyncio

import pytest

from apps.clients import BUILT_IN, Echo, Majority, Nearest, Usage

TICKETS = [
    ("my invoice shows the wrong amount", "billing"),
    ("the app crashes when I open settings", "bug"),
    ("please refund the invoice I paid twice", "billing"),
    ("how do I change my password", "account"),
    ("the login page crashes with an error", "bug"),
]


def ask(client, messages):
    async def answer():
        try:
            return await client.complete({"model": "builtin/x", "messages": messages})
        finally:
            await client.close()

    return asyncio.run(answer())


def answer_to(client, text):
    reply = ask(client, [{"role": "user", "content": text}])
    return reply.body["choices"][0]["message"]["content"]


def test_a_built_in_model_answers_like_a_chat_completion():
    reply = ask(Echo(), [{"role": "user", "content": "hello"}])

    assert reply.body["object"] == "chat.completion"
    assert reply.body["id"].startswith("chatcmpl-")
    assert reply.body["model"] == "builtin/x"
    assert reply.body["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "hello", "refusal": None},
            "finish_reason": "stop",
        }
    ]
    assert (reply.usage, reply.calls) == (Usage(), 1)


@pytest.mark.parametrize(
    ("messages", "text"),
    [
        ([{"role": "user", "content": "a"}, {"role": "user", "content": "b"}], "b"),
        ([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "a"),
        ([{"role": "user", "content": [{"type": "input_text", "text": "a"}, "b"]}], "a\nb"),
        ([{"role": "user", "content": {"type": "input_text", "text": "a"}}], "a"),
        (
            [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "look"},
                        {"type": "image_url", "image_url": {"url": "https://x.example"}},
                    ],
                }
            ],
            "look",
        ),
        ([{"role": "system", "content": "a"}], ""),
        ([{"role": "user", "content": None}], ""),
        ([], ""),
        (None, ""),
    ],
)
def test_echo_repeats_the_last_user_message(messages, text):
    assert ask(Echo(), messages).body["choices"][0]["message"]["content"] == text


def test_majority_answers_the_most_frequent_label():
    assert answer_to(Majority([*TICKETS, ("x", "bug")]), "anything") == "bug"


def test_of_equally_frequent_labels_majority_takes_the_first_seen():
    assert answer_to(Majority(TICKETS), "anything") == "billing"


def test_nearest_answers_the_label_of_the_most_similar_example():
    nearest = Nearest(TICKETS)

    assert answer_to(nearest, "I forgot my password") == "account"
    assert answer_to(nearest, "settings crashes") == "bug"
    assert answer_to(nearest, "a refund for my invoice") == "billing"


def test_nearest_falls_back_to_the_majority_when_nothing_is_similar():
    nearest = Nearest([("red", "b"), ("green", "a"), ("blue", "a")])

    assert answer_to(nearest, "zzz") == "a"
    assert answer_to(nearest, "") == "a"


def test_nearest_answers_each_of_its_own_examples_rightly():
    nearest = Nearest(TICKETS)

    assert [answer_to(nearest, text) for text, _ in TICKETS] == [label for _, label in TICKETS]


@pytest.mark.parametrize("model", [Majority, Nearest])
def test_a_model_cannot_learn_from_nothing(model):
    with pytest.raises(ValueError, match="at least one"):
        model([])


def test_the_table_says_who_learns():
    assert {kind: model.learns for kind, model in BUILT_IN.items()} == {
        "echo": False,
        "majority": True,
        "nearest": True,
    }
