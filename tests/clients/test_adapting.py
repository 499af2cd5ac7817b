"""A client learns from what a server refuses, and from nothing else."""

import asyncio
import json

import pytest

from apps.clients import AdaptingClient, CallFailed, ChatClient, Lessons, RetryPolicy, Unlimited

HASTE = RetryPolicy(connecting_seconds=0.3, answered_tries=1, call_seconds=20)
NAMELESS = {"error": {"message": "Bad Request"}}


def completion(text="hi"):
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    return 200, {"choices": [{"message": {"content": text}}], "usage": usage}


@pytest.fixture
def serve(raw_server):
    """Start a server that answers each request as a function of it says; all that it got."""

    def make(answer):
        got = []

        def script(peer):
            while raw := peer.request():
                request = json.loads(raw.partition(b"\r\n\r\n")[2])
                got.append(request)
                status, body = answer(request)
                said = json.dumps(body).encode()
                peer.send(
                    b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % (status, len(said), said)
                )

        return raw_server(script).url(), got

    return make


def ask(url, *requests, lessons=None, together=False, keeps_format=False, **options):
    lessons = Lessons() if lessons is None else lessons

    async def complete():
        client = AdaptingClient(
            ChatClient(url, None, Unlimited(), allow_private=True, policy=HASTE, **options), lessons
        )
        try:
            if together:
                asked = [client.complete(one, keeps_format=keeps_format) for one in requests]
                return await asyncio.gather(*asked, return_exceptions=True), lessons
            replies = []
            for one in requests:
                try:
                    replies.append(await client.complete(one, keeps_format=keeps_format))
                except CallFailed as failure:
                    replies.append(failure)
            return replies, lessons
        finally:
            await client.close()

    return asyncio.run(complete())


def request(text="hello", role="user", **params):
    return {"model": "m", "messages": [{"role": role, "content": text}], **params}


def refuses(name, words):
    return lambda asked: (400, {"error": words}) if name in asked else completion()


def test_what_was_refused_is_left_out_of_the_next_requests(serve):
    url, got = serve(refuses("seed", "Unsupported parameter: 'seed'"))
    replies, lessons = ask(url, *(request(seed=number) for number in range(3)))
    assert [reply.calls for reply in replies] == [2, 1, 1]
    assert ["seed" in one for one in got] == [True, False, False, False]
    assert lessons.quirks == {"m": ["seed"]}
    assert all(reply.notes == ("seed is refused: it is left out.",) for reply in replies)


def test_what_is_learned_of_a_model_is_not_said_of_another(serve):
    url, got = serve(refuses("seed", "Unsupported parameter: 'seed'"))
    other = {**request(seed=1), "model": "n"}
    ask(url, request(seed=1), other)
    assert [("seed" in one, one["model"]) for one in got] == [
        *((True, "m"), (False, "m")),
        *((True, "n"), (False, "n")),
    ]


def test_a_refusal_that_goes_on_teaches_nothing(serve):
    url, got = serve(lambda asked: (400, {"error": "seed is not supported, says the text"}))
    [failure], lessons = ask(url, request(seed=1))
    assert isinstance(failure, CallFailed)
    assert failure.calls == len(got) == 2
    assert lessons.quirks == {}


def test_a_wrong_value_is_the_callers_fault_and_is_not_left_out(serve):
    url, got = serve(refuses("temperature", "temperature must be less than or equal to 2"))
    [failure], lessons = ask(url, request(temperature=9))
    assert "less than or equal" in failure.message
    assert len(got) == 1
    assert lessons.quirks == {}


def test_what_no_word_explains_is_probed_without_the_rows_text_and_counted(serve):
    url, got = serve(lambda asked: (400, NAMELESS) if "seed" in asked else completion())
    replies, lessons = ask(url, request("secret", seed=7, top_p=1), request("secret", seed=7))
    # The row, all in doubt, nothing in doubt, each of two, and the row again.
    assert [reply.calls for reply in replies] == [6, 1]
    assert replies[0].usage.total_tokens == 5 * 3
    assert sum("secret" in json.dumps(one) for one in got) == 3
    # Only this value was tried.
    assert lessons.quirks == {"m": ["seed=7"]}


def test_a_text_that_is_refused_without_a_word_is_probed_once_and_stays_alone(serve):
    def answer(asked):
        return (400, NAMELESS) if "poison" in json.dumps(asked) else completion()

    url, got = serve(answer)
    texts = ["poison", "good", "poison", "good"]
    replies, lessons = ask(url, *(request(text, seed=1) for text in texts))
    assert [isinstance(reply, CallFailed) for reply in replies] == [True, False, True, False]
    assert [reply.calls for reply in replies] == [2, 1, 1, 1]
    assert lessons.quirks == {}
    assert all(one.get("seed") == 1 for one in got)


@pytest.mark.parametrize("words", [NAMELESS, {"error": "Unknown role"}])
def test_many_at_once_learn_from_one_another(serve, words):
    def answer(asked):
        is_refused = asked["messages"][0]["role"] == "developer"
        return (400, words) if is_refused else completion()

    url, got = serve(answer)
    rows = [request(str(number), role="developer") for number in range(20)]
    replies, lessons = ask(url, *rows, together=True)
    assert all(not isinstance(reply, Exception) for reply in replies)
    assert lessons.quirks == {"m": ["developer"]}
    assert len(got) <= 20 * 2 + 2
    assert sum(reply.calls for reply in replies) == len(got)


def test_a_template_that_refuses_with_a_500_is_asked_in_the_accepted_form_at_once(serve):
    def answer(asked):
        roles = [message["role"] for message in asked["messages"]]
        words = "Jinja Exception: System message must be at the beginning."
        return (500, {"error": {"message": words}}) if "system" in roles[1:] else completion()

    url, got = serve(answer)
    late = {**request(), "messages": [*request()["messages"], {"role": "system", "content": "x"}]}
    [reply], _ = ask(url, late)
    assert reply.calls == len(got) == 2
    assert [message["role"] for message in got[1]["messages"]] == ["system", "user"]


def test_a_form_of_reply_is_kept_for_whoever_has_another_way_to_ask(serve):
    url, got = serve(refuses("response_format", "response_format is not supported"))
    asked = request(response_format={"type": "json_schema"}, seed=1)
    [failure], lessons = ask(url, asked, keeps_format=True)
    assert failure.lacks == ("json_schema",)
    assert lessons.quirks == {}
    assert len(got) == 1
    [reply], lessons = ask(url, asked)
    assert reply.notes == ("response_format of the type json_schema is refused: it is left out.",)
    assert lessons.quirks == {"m": ["response_format:json_schema"]}


def test_a_limit_on_calls_holds_for_what_is_asked_again(serve):
    url, got = serve(refuses("seed", "Unsupported parameter: 'seed'"))

    async def one_call(made):
        if made:
            raise CallFailed("budget", "no more", calls=made)

    [failure], lessons = ask(url, request(seed=1), before_call=one_call)
    assert (failure.code, failure.calls, len(got)) == ("budget", 1, 1)
    assert lessons.quirks == {}


def test_nothing_is_learned_of_a_server_that_refuses_everything(serve):
    url, got = serve(lambda asked: (400, NAMELESS))
    replies, lessons = ask(url, request(seed=1), request(seed=1))
    assert [failure.calls for failure in replies] == [3, 1]
    assert lessons.quirks == {}
    assert len(got) == 4


def test_a_form_of_reply_that_is_known_to_be_refused_costs_no_call(serve):
    url, got = serve(lambda asked: (400, NAMELESS) if "response_format" in asked else completion())
    rows = [request(str(number), response_format={"type": "json_schema"}) for number in range(9)]
    failures, lessons = ask(url, *rows, keeps_format=True)
    assert [failure.lacks for failure in failures] == [("json_schema",)] * 9
    # The first, a small request in its form and one without; nobody after it has to ask.
    assert [failure.calls for failure in failures] == [3, *[0] * 8]
    assert len(got) == 3
    assert lessons.quirks == {"m": ["response_format:json_schema"]}
