"""An answer's message as callers read it: one text, and its reasoning beside it."""

import pytest

from apps.clients.tidying import split_think, tidy


@pytest.mark.parametrize(
    ("text", "thought", "rest"),
    [
        ("<think>\nhm\n</think>\n\n4", "hm", "4"),
        ("  <thinking>a</thinking>b", "a", "b"),
        ("the prompt opened it</think>4", "the prompt opened it", "4"),
        ("<think>cut before the answ", "cut before the answ", ""),
        ("<think></think>4", "", "4"),
        ("4", "", "4"),
        ("", "", ""),
        ("I <think> so", "", "I <think> so"),
        ("<think>a</think>b</think>c", "a", "b</think>c"),
        ('{"quotes": "</think>"}', "", '{"quotes": "</think>"}'),
        (' ["</think>"]', "", ' ["</think>"]'),
    ],
)
def test_a_think_block_is_parted_from_what_follows(text, thought, rest):
    assert split_think(text) == (thought, rest)


@pytest.mark.parametrize(
    ("content", "text", "thought"),
    [
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "ab", None),
        (["a", {"type": "output_text", "text": "b"}], "ab", None),
        (
            [
                {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
                {"type": "text", "text": "4"},
            ],
            "4",
            "hm",
        ),
        ([{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "4"}], "4", "hm"),
        ([{"type": "reasoning", "text": "hm"}, {"type": "text", "text": "4"}], "4", "hm"),
        ([{"type": "image_url", "image_url": {"url": "x"}}, None, 3], "", None),
        ([], "", None),
    ],
)
def test_parts_become_their_joined_text_and_stay_beside_it(content, text, thought):
    message = {"role": "assistant", "content": content}
    tidy({"choices": [{"message": message}]}, strips_think=False)
    assert message["content"] == text
    assert message["content_parts"] == content
    assert message.get("reasoning_content") == thought


def test_a_think_block_stays_where_it_is_not_stripped():
    for strips, content in ((False, "<think>hm</think>4"), (True, "4")):
        message = {"content": "<think>hm</think>4"}
        tidy({"choices": [{"message": message}]}, strips_think=strips)
        assert message["content"] == content


def test_reasoning_that_the_server_told_itself_is_not_replaced():
    message = {"content": "<think>hm</think>4", "reasoning_content": "long"}
    tidy({"choices": [{"message": message}]}, strips_think=True)
    assert message == {"content": "4", "reasoning_content": "long"}
