"""A model server on loopback that speaks chat completions, and misbehaves when the model asks.

Run it (`python tests/model_server.py --port 0 --delay 0.05`; its port is the first line printed)
or use `running()`. The name of the model says how a request is answered:

    anything else          the last user message, or what --answer says
    answer:TEXT            TEXT
    empty, null, refusal   content "", content null, content null with a refusal
    huge[:BYTES]           a completion of BYTES characters (9 MiB)
    slow:SECONDS           the usual answer after SECONDS instead of --delay
    hang                   nothing, for as long as the client waits
    reset                  the connection is reset
    truncate               half an answer, then the connection ends
    endless                an answer that never ends
    flood                  an answer of 200 MB
    drip                   an answer of a byte a second
    garbage                200 and no JSON;  not-http: not even HTTP
    no-choices             200 and a completion without choices
    fail-STATUS            that status;  status-STATUS is the same
      ...-retry-after:S    with Retry-After: S, a number or `date:S` for an HTTP date in S seconds
      ...-retry-after-ms:N with Retry-After-Ms: N
    redirect               307 to another host
    echo-key               401 whose message repeats the Authorization header
    flaky:N[:HOW]          as HOW (fail-500) for the first N requests with the same first line of
                           the prompt, then well
    uncertain:HOW          as HOW, but of 100 requests two are answered 500 and two 429, once with
                           Retry-After; a prompt that says `hopeless` always 500
    until:N:HOW            the usual answer to the first N requests, then as HOW
    busy:N                 the usual answer, 429 while more than N requests are in flight
    limited:N:SECONDS:SAYS[:WHICH]
                           429 to a request more than N in SECONDS, else the usual answer. SAYS is
                           retry-after (of 429: SECONDS), unavailable (the same with 503), silent,
                           or remaining (x-ratelimit headers of answers tell what is left)
    unstructured:HOW       400 where a response_format is asked for, else as HOW
    choice:JSON            the usual answer, whose choice and message have these members
    retry-helps:HOW        as HOW, with X-Should-Retry: true
    body:JSON              200 and this
    told:WORD:HOW          "Gladly!", unless a message says WORD, or the request has a field of
                           that name; then as HOW
    system-first:HOW       400 where a system message comes after another, else as HOW
    like:SERVER[:HOW]      refused as that server refuses what it does not take, see imitations.py;
                           else as HOW
    picky:WHY:HOW          400 for a message that says `poison`, with the words for WHY: length,
                           filter, silent, or echo, which repeats it; else as HOW
    packed:HOW             the usual answer, packed as packed_answers.py says
    tool:NAME:HOW          a call of that tool, whose arguments the last user message is; once it
                           is followed by the tool's result, as HOW
    breaks-off             the usual answer; of one that is streamed, half
    whole                  the usual answer in one piece, although it was to be streamed

An embeddings request is answered with the vector that each text spells in JSON, or with counts of
its letters; the model one-vector gives no more than the first, fail-STATUS that status, and
uncertain:HOW is as uncertain as above.

A request with `stream` gets the usual answers word by word, as server-sent events.

GET /counts tells {total, answered, in_flight, max_in_flight, models, prompts, courses, harmed,
refused}: prompts and harmed by the last user message's text; courses are the statuses that each
prompt (the first message, where it is empty) got in turn of each uncertain model; refused tells of
busy and limited models how many requests they did not take. POST /reset forgets all but what is in
flight. POST /mischief with {"how": NAME} has every request answered as if NAME were its model and
counts it as harmed, until another with {"how": ""}.
"""

import argparse
import asyncio
import contextlib
import json
import os
import re
import select
import socket
import struct
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from typing import Any

import orjson

if not __package__:  # run as a script
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.imitations import refusal_like
from tests.packed_answers import packed

HEAD_MAX = 64 * 1024
FLOOD_BYTES = 200_000_000
STATUS = re.compile(r"(?:fail|status)-(\d{3})(?:-(retry-after|retry-after-ms)(?::(.+))?)?$")
UNLUCKY = {10: "fail-500", 35: "fail-429", 60: "fail-500", 85: "fail-429-retry-after:0.1"}
HUNG_UP = getattr(select, "POLLRDHUP", select.POLLHUP)
AZURE_PATH = re.compile(rb"^/openai/deployments/[^/]+|^/openai/v1")
REASONS = {200: b"OK", 307: b"Temporary Redirect", 404: b"Not Found", 429: b"Too Many Requests"}


@dataclass
class Behaviour:
    """What the command line says about every answer."""

    delay: float = 0.0
    answer: str | None = None
    api_key: str | None = None
    count_prompts: bool = True
    mischief: str = ""


@dataclass
class Counts:
    """What has been asked so far."""

    total: int = 0
    answered: int = 0
    in_flight: int = 0
    max_in_flight: int = 0
    models: Counter[str] = field(default_factory=Counter)
    prompts: Counter[str] = field(default_factory=Counter)
    flaky: Counter[tuple[str, str]] = field(default_factory=Counter)
    courses: dict[str, dict[str, list[int]]] = field(default_factory=dict)
    uncertain: int = 0
    harmed: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    taken: dict[str, list[float]] = field(default_factory=dict)
    unanswered: set["Conversation"] = field(default_factory=set)

    def begin(self, conversation: "Conversation") -> None:
        """Count one call more; whoever has hung up without our having noticed is gone before."""
        if self.in_flight >= self.max_in_flight:
            for other in [one for one in self.unanswered if one.is_deserted()]:
                self.end(other)
        self.unanswered.add(conversation)
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)

    def end(self, conversation: "Conversation") -> None:
        if conversation in self.unanswered:
            self.unanswered.remove(conversation)
            self.in_flight -= 1

    def reset(self) -> None:
        self.total = self.answered = self.uncertain = 0
        self.taken.clear()
        self.refused.clear()
        self.max_in_flight = self.in_flight
        for counter in (self.models, self.prompts, self.flaky, self.courses, self.harmed):
            counter.clear()

    def turn_of_luck(self, model: str, prompt: str) -> str:
        """How an uncertain model meets this request, as the name of another; empty: well."""
        self.uncertain += 1
        how = UNLUCKY.get(self.uncertain % 100, "")
        if "hopeless" in prompt:
            how = "fail-500"
        course = self.courses.setdefault(model, {}).setdefault(prompt, [])
        course.append(int(how[5:8]) if how else 200)
        return how

    def refuse(self, model: str, how: str) -> str:
        self.refused[model] += 1
        return how

    def limit(self, model: str) -> tuple[str, tuple[str, ...]]:
        """Return the model as which a limited one answers this time, and the headers."""
        _, calls, seconds, says, *_ = model.split(":")
        now, taken = time.monotonic(), self.taken.setdefault(model, [])
        taken[:] = [at for at in taken if at > now - float(seconds)]
        if len(taken) >= int(calls):
            silent = "fail-503" if says == "unavailable" else "fail-429"
            tells = says in ("retry-after", "unavailable")
            return self.refuse(model, f"{silent}-retry-after:{seconds}" if tells else silent), ()
        taken.append(now)
        if says != "remaining":
            return "echo", ()
        left, reset = int(calls) - len(taken), taken[-1] + float(seconds) - now
        headers = (
            f"X-RateLimit-Remaining-Requests: {left}",
            f"X-RateLimit-Reset-Requests: {reset:.3f}s",
        )
        return "echo", headers

    def as_json(self) -> bytes:
        names = (
            *("total", "answered", "in_flight", "max_in_flight"),
            *("models", "prompts", "courses", "harmed", "refused"),
        )
        return orjson.dumps({name: getattr(self, name) for name in names})


def response(status: int, body: bytes, *headers: str, length: int | None = None) -> bytes:
    lines = "".join(f"\r\n{header}" for header in headers).encode()
    return b"HTTP/1.1 %d %b\r\nContent-Type: application/json\r\nContent-Length: %d%b\r\n\r\n%b" % (
        status,
        REASONS.get(status, b"Status"),
        len(body) if length is None else length,
        lines,
        body,
    )


def error(status: int, message: str, *headers: str) -> bytes:
    fault = {"message": message, "type": "server_error", "param": None, "code": None}
    return response(status, orjson.dumps({"error": fault}), *headers)


def told(message: str, code: str | None = None) -> bytes:
    fault = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    return orjson.dumps({"error": fault})


# What is refused by these is the text of one request.
PICKY: dict[str, Callable[[str], bytes]] = {
    "length": lambda said: told(
        "This model's maximum context length is 8192 tokens, however you requested 9000 tokens. "
        "Please reduce the length of the messages.",
        "context_length_exceeded",
    ),
    "filter": lambda said: told(
        "The response was filtered due to the prompt triggering the content management policy. "
        "Please modify your prompt and retry.",
        "content_filter",
    ),
    "silent": lambda said: b"",
    "echo": lambda said: told(f"Bad request: {said}"),
}


def vector_of(text: str) -> list[float]:
    """The vector that a text spells in JSON, else how often it has each of a few letters."""
    try:
        vector = orjson.loads(text)
    except orjson.JSONDecodeError:
        vector = None
    return vector if isinstance(vector, list) else [text.count(letter) for letter in "aeinorst"]


def text_of(message: Any) -> str:
    content = message.get("content")
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else [content]
    texts = [part.get("text") if isinstance(part, dict) else part for part in parts]
    return "\n".join(text for text in texts if isinstance(text, str))


class Conversation(asyncio.Protocol):
    """One connection: requests are answered in turn, each after its delay.

    A protocol rather than aiohttp's server, so that the server is never what a benchmark measures.
    """

    def __init__(self, behaviour: Behaviour, counts: Counts) -> None:
        self.behaviour = behaviour
        self.counts = counts
        self.loop = asyncio.get_running_loop()
        self.buffer = b""
        self.timer: asyncio.TimerHandle | None = None
        self.streams = False
        self.query = ""
        self.headers: tuple[str, ...] = ()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.counts.end(self)
        if self.timer is not None:
            self.timer.cancel()

    def is_pending(self) -> bool:
        return self in self.counts.unanswered

    def is_deserted(self) -> bool:
        """Whether the client has hung up, though its going may still wait to be read."""
        poll = select.poll()
        poll.register(self.transport.get_extra_info("socket"), HUNG_UP)
        return bool(poll.poll(0))

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while self.buffer and not self.is_pending() and not self.transport.is_closing():
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                if len(self.buffer) > HEAD_MAX:
                    self.transport.abort()
                return
            request_line, *lines = self.buffer[:end].split(b"\r\n")
            headers = {}
            for line in lines:
                name, _, value = line.partition(b":")
                headers[name.strip().lower()] = value.strip()
            length = int(headers.get(b"content-length", b"0"))
            if len(self.buffer) < end + 4 + length:
                return
            body = self.buffer[end + 4 : end + 4 + length]
            self.buffer = self.buffer[end + 4 + length :]
            method, _, rest = request_line.partition(b" ")
            path, _, query = rest.partition(b" ")[0].partition(b"?")
            self.query = query.decode("latin-1")
            self.serve(method + b" " + AZURE_PATH.sub(b"/v1", path), headers, body)

    def serve(self, route: bytes, headers: dict[bytes, bytes], body: bytes) -> None:
        if route == b"POST /v1/chat/completions":
            self.complete(headers, body)
        elif route == b"POST /v1/embeddings":
            self.embed(body)
        elif route == b"GET /v1/models":
            model = {"id": "echo", "object": "model", "created": 0, "owned_by": "tests"}
            self.transport.write(response(200, orjson.dumps({"object": "list", "data": [model]})))
        elif route == b"GET /counts":
            self.transport.write(response(200, self.counts.as_json()))
        elif route == b"POST /mischief":
            self.behaviour.mischief = orjson.loads(body)["how"]
            self.transport.write(response(200, b"{}"))
        elif route == b"POST /reset":
            self.counts.reset()
            self.transport.write(response(200, b"{}"))
        else:
            self.transport.write(error(404, "no such route"))

    def complete(self, headers: dict[bytes, bytes], body: bytes) -> None:
        try:
            request = orjson.loads(body)
            messages = [message for message in request["messages"] if isinstance(message, dict)]
            model = str(request["model"])
        except (orjson.JSONDecodeError, KeyError, TypeError):
            self.transport.write(error(400, "a JSON object with model and messages is required"))
            return
        users = [message for message in messages if message.get("role") == "user"]
        prompt = text_of(users[-1]) if users else ""
        counts = self.counts
        self.note(model, prompt)
        if self.behaviour.mischief:
            model = self.behaviour.mischief
            counts.harmed[prompt] += 1
        self.streams = bool(request.get("stream"))
        authorization = headers.get(b"authorization", b"").decode("latin-1")
        key = self.behaviour.api_key
        if key is not None and authorization != f"Bearer {key}":
            self.answer(error(401, "wrong key"))
            return
        delay = self.behaviour.delay
        if model.startswith("slow:"):
            delay = float(model.partition(":")[2])
        self.headers = ()
        refusal, model = self.refused(model, request, messages, headers)
        if refusal is not None:
            self.answer(response(*refusal))
            return
        model = self.meant_by(model, request, messages, prompt)
        if delay:
            self.timer = self.loop.call_later(
                delay, self.behave, model, messages, prompt, authorization
            )
        else:
            self.behave(model, messages, prompt, authorization)

    def meant_by(
        self, model: str, request: dict[str, Any], messages: list[dict[str, Any]], prompt: str
    ) -> str:
        """How a model that answers now this way, now that, answers this request."""
        how, _, rest = model.partition(":")
        if how == "flaky":
            times, _, rest = rest.partition(":")
            asked = model, prompt.partition("\n")[0]
            self.counts.flaky[asked] += 1
            good = self.counts.flaky[asked] > int(times)
            then = "echo" if good else rest or "fail-500"
        elif how == "uncertain":
            asked = prompt or text_of(messages[0])
            then = self.counts.turn_of_luck(model, asked) or rest
        elif how in ("until", "busy", "limited"):
            then = self.rationed(how, rest, model)
        elif how == "unstructured":
            then = "fail-400" if "response_format" in request else rest
        elif how == "system-first":
            roles = [message.get("role") for message in messages]
            then = "fail-400" if "system" in roles[1:] else rest
        elif how == "told":
            word, _, rest = rest.partition(":")
            is_told = word in request or any(word in text_of(one) for one in messages)
            then = rest if is_told else "answer:Gladly!"
        elif how == "tool":
            name, _, rest = rest.partition(":")
            is_done = messages[-1].get("role") == "tool"
            then = rest if is_done else "choice:" + tool_call(name, prompt)
        elif how == "retry-helps":
            self.headers, then = ("X-Should-Retry: true",), rest
        else:
            return model
        return self.meant_by(then, request, messages, prompt)

    def refused(
        self,
        model: str,
        request: dict[str, Any],
        messages: list[dict[str, Any]],
        headers: dict[bytes, bytes],
    ) -> tuple[tuple[int, bytes] | None, str]:
        """Return the refusal, if there is one, and else what model answers."""
        how, _, rest = model.partition(":")
        if how not in ("like", "picky"):
            return None, model
        name, _, then = rest.partition(":")
        if how == "like":
            return refusal_like(name, request, headers, self.query), then or "echo"
        said = "\n".join(map(text_of, messages))
        return ((400, PICKY[name](said)) if "poison" in said else None), then or "echo"

    def rationed(self, how: str, rest: str, model: str) -> str:
        if how == "until":
            times, _, rest = rest.partition(":")
            return "echo" if self.counts.models[model] <= int(times) else rest
        if how == "busy":
            is_busy = self.counts.in_flight > int(rest)
            return self.counts.refuse(model, "fail-429") if is_busy else "echo"
        then, self.headers = self.counts.limit(model)
        return then

    def note(self, model: str, prompt: str) -> None:
        counts = self.counts
        counts.total += 1
        counts.models[model] += 1
        if self.behaviour.count_prompts:
            counts.prompts[prompt] += 1
        counts.begin(self)

    def embed(self, body: bytes) -> None:
        try:
            request = orjson.loads(body)
            given = request["input"]
            texts = [str(text) for text in (given if isinstance(given, list) else [given])]
            model = str(request["model"])
        except (orjson.JSONDecodeError, KeyError, TypeError):
            self.transport.write(error(400, "a JSON object with model and input is required"))
            return
        self.note(model, json.dumps(texts))
        if model.startswith("uncertain:"):
            model = self.counts.turn_of_luck(model, json.dumps(texts)) or model.partition(":")[2]
        if status := STATUS.match(model):
            self.answer(refusal_of_service(int(status[1]), status[2], status[3]))
            return
        vectors = [vector_of(text) for text in (texts[:1] if model == "one-vector" else texts)]
        data = [
            {"object": "embedding", "index": index, "embedding": vector}
            for index, vector in enumerate(vectors)
        ]
        words = sum(len(text.split()) for text in texts)
        usage = {"prompt_tokens": words, "total_tokens": words}
        # The index says which is which, not the order.
        done = {"object": "list", "model": model, "data": data[::-1], "usage": usage}
        self.answer(response(200, orjson.dumps(done)))

    def behave(
        self, model: str, messages: list[dict[str, Any]], prompt: str, authorization: str
    ) -> None:
        how, _, detail = model.partition(":")
        if how in MISCHIEF:
            MISCHIEF[how](self)
        elif status := STATUS.match(model):
            self.answer(refusal_of_service(int(status[1]), status[2], status[3]))
        elif how == "body":
            self.answer(response(200, detail.encode()))
        elif how == "echo-key":
            self.answer(error(401, f"Incorrect API key provided: {authorization}"))
        else:
            message = {"content": self.said(how, detail, prompt)}
            choice = orjson.loads(detail) if how == "choice" else {}
            if how == "refusal":
                message["refusal"] = "I cannot help with that."
            message |= choice.pop("message", {})
            self.send(model, self.completion(model, messages, message, choice))

    def said(self, how: str, detail: str, prompt: str) -> str | None:
        if how == "answer":
            return detail
        if how == "huge":
            return "x" * int(detail or 9 * 1024 * 1024)
        if how == "empty":
            return ""
        if how in ("null", "refusal"):
            return None
        return prompt if self.behaviour.answer is None else self.behaviour.answer

    def send(self, how: str, completion: bytes) -> None:
        how, _, detail = how.partition(":")
        if how == "packed":
            body, headers = packed(detail, completion)
            self.answer(response(200, body, *self.headers, *headers))
        elif how == "whole" or not self.streams:
            self.answer(response(200, completion, *self.headers))
        else:
            self.stream(orjson.loads(completion), breaks_off=how == "breaks-off")

    def stream(self, completion: dict[str, Any], *, breaks_off: bool) -> None:
        """The completion word by word, as server-sent events."""
        choice = completion["choices"][0]
        words = re.findall(r"\s*\S+\s*", text_of(choice.pop("message")))
        head = {name: completion[name] for name in ("id", "created", "model")}
        head["object"] = "chat.completion.chunk"
        deltas = [{"role": "assistant", "content": ""}, *({"content": word} for word in words)]
        chunks = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
        events = [{**head, "choices": [chunk]} for chunk in chunks]
        events.append({**head, "choices": [{**choice, "delta": {}}]})
        events.append({**head, "choices": [], "usage": completion["usage"]})
        body = b": words follow\n\n"
        body += b"".join(b"data: %b\n\n" % orjson.dumps(event) for event in events)
        if breaks_off:
            body = body[: len(body) // 2]
        else:
            body += b"data: [DONE]\n\n"
        opening = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
        self.answer(opening + b"Connection: close\r\n\r\n" + body)
        self.transport.close()

    def completion(
        self,
        model: str,
        messages: list[dict[str, Any]],
        message: dict[str, Any],
        choice: dict[str, Any],
    ) -> bytes:
        message = {"role": "assistant", "refusal": None, **message}
        choice = {"index": 0, "message": message, "finish_reason": "stop", **choice}
        asked = sum(len(text_of(each).split()) for each in messages)
        said = len(text_of(message).split())
        return orjson.dumps(
            {
                "id": f"chatcmpl-{self.counts.total}",
                "object": "chat.completion",
                "created": int(time.time()),
                "model": model,
                "choices": [choice],
                "usage": {
                    "prompt_tokens": asked,
                    "completion_tokens": said,
                    "total_tokens": asked + said,
                    "prompt_tokens_details": {"cached_tokens": 0},
                },
            }
        )

    def answer(self, raw: bytes) -> None:
        self.counts.end(self)
        self.counts.answered += 1
        self.transport.write(raw)
        if self.buffer:
            self.data_received(b"")

    def reset(self) -> None:
        linger = struct.pack("ii", 1, 0)  # for no seconds: what is left is dropped, loudly
        self.transport.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, linger
        )
        self.transport.abort()

    def hang(self) -> None:
        """Answer nothing; the client's going ends it."""

    def truncate(self) -> None:
        self.answer(response(200, b'{"id": "chatcmpl-', length=4096))
        self.transport.close()

    def run_on(self) -> None:
        self.answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        self.keep_on(0.001, b"10000\r\n" + b" " * 0x10000 + b"\r\n")

    def flood(self) -> None:
        self.answer(response(200, b"", length=FLOOD_BYTES))
        self.keep_on(0.001, b" " * 0x10000, FLOOD_BYTES)

    def drip(self) -> None:
        self.transport.write(response(200, b"", length=FLOOD_BYTES))
        self.keep_on(1, b" ")

    def keep_on(self, pause: float, piece: bytes, left: int = sys.maxsize) -> None:
        if self.transport.get_write_buffer_size() == 0:
            self.transport.write(piece[:left])
            left -= len(piece)
        if left > 0:
            self.timer = self.loop.call_later(pause, self.keep_on, pause, piece, left)


MISCHIEF: dict[str, Callable[[Conversation], None]] = {
    "hang": Conversation.hang,
    "reset": Conversation.reset,
    "truncate": Conversation.truncate,
    "endless": Conversation.run_on,
    "flood": Conversation.flood,
    "drip": Conversation.drip,
    "garbage": lambda self: self.answer(response(200, b"<html>Hello</html>")),
    "not-http": lambda self: self.answer(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),
    "no-choices": lambda self: self.answer(response(200, b'{"choices": []}')),
    "redirect": lambda self: self.answer(
        response(307, b"", "Location: http://localhost:9/v1/chat/completions")
    ),
}


def tool_call(name: str, arguments: str) -> str:
    """The choice of a model that calls a tool."""
    call = {"name": name, "arguments": arguments}
    message = {
        "content": None,
        "tool_calls": [{"id": "call_1", "type": "function", "function": call}],
    }
    return json.dumps({"message": message, "finish_reason": "tool_calls"})


def refusal_of_service(status: int, header: str | None, value: str | None) -> bytes:
    message = f"answered {status} as asked"
    if header is None:
        return error(status, message)
    value = value or ("1000" if header.endswith("ms") else "1")
    if value.startswith("date:"):
        value = formatdate(time.time() + float(value[5:]), usegmt=True)
    return error(status, message, f"{header.title()}: {value}")


@dataclass
class ModelServer:
    """A model server in another process, as its tests see it."""

    port: int
    process: subprocess.Popen[str]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        return f"{self.url}/v1"

    def counts(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.url}/counts", timeout=60) as answer:
            counts: dict[str, Any] = json.load(answer)
            return counts

    def reset(self) -> None:
        self._post("reset", b"")

    def misbehave(self, how: str) -> None:
        """Answer every request as if `how` were its model; with "" none any more."""
        self._post("mischief", orjson.dumps({"how": how}))

    def _post(self, path: str, body: bytes) -> None:
        request = urllib.request.Request(f"{self.url}/{path}", data=body, method="POST")
        with urllib.request.urlopen(request, timeout=60):
            pass

    def stop(self) -> None:
        with contextlib.suppress(OSError):
            assert self.process.stdin is not None
            self.process.stdin.close()
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


def start(*, port: int = 0, delay: float = 0.0, **options: str | bool) -> ModelServer:
    """Start a server that ends with us, however we end.

    options: host, answer, api_key, totals_only.
    """
    command = [sys.executable, str(Path(__file__).resolve()), "--until-stdin-ends"]
    command += ["--port", str(port), "--delay", str(delay)]
    for name, value in options.items():
        option = f"--{name.replace('_', '-')}"
        command += [option] if value is True else [f"{option}={value}"]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"the model server did not start: exit status {process.wait()}")
    return ModelServer(port=int(line), process=process)


@contextlib.contextmanager
def running(*, port: int = 0, delay: float = 0.0, **options: str | bool) -> Iterator[ModelServer]:
    server = start(port=port, delay=delay, **options)
    try:
        yield server
    finally:
        server.stop()


async def serve(host: str, port: int, behaviour: Behaviour, *, until_stdin_ends: bool) -> None:
    loop = asyncio.get_running_loop()
    counts = Counts()
    ended = asyncio.Event()
    server = await loop.create_server(
        lambda: Conversation(behaviour, counts), host, port, backlog=1024
    )
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    if until_stdin_ends:
        stdin = sys.stdin.fileno()

        def listen() -> None:
            if not os.read(stdin, 1024):
                ended.set()

        loop.add_reader(stdin, listen)
    await ended.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen at")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before each answer")
    parser.add_argument("--answer", help="what every answer says, instead of the prompt")
    parser.add_argument("--api-key", help="refuse requests that do not bear this key")
    parser.add_argument("--totals-only", action="store_true", help="do not count by prompt")
    parser.add_argument("--until-stdin-ends", action="store_true")
    options = parser.parse_args()
    behaviour = Behaviour(
        delay=options.delay,
        answer=options.answer,
        api_key=options.api_key,
        count_prompts=not options.totals_only,
    )
    with contextlib.suppress(KeyboardInterrupt):
        serving = serve(
            options.host, options.port, behaviour, until_stdin_ends=options.until_stdin_ends
        )
        asyncio.run(serving)


if __name__ == "__main__":
    main()
