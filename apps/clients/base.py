"""Define what all model clients share: their replies, their errors and their limiters."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self

# Beyond this a count is nonsense, and sums of such counts would leave a 64-bit column.
TOKENS_MAX = 2**40
# Codes of failures: a call that was not made, for a limit is reached; and answers without a word.
BUDGET, CONTENT_FILTER, LENGTH = "budget", "content_filter", "length"
WORDLESS = (CONTENT_FILTER, LENGTH)
# The statuses by which a server refuses the caller, and the code of that.
DENIALS, DENIED = (401, 403), "model_server_refused"


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one reply, as its sender counted them; 0 where it did not."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    cached_tokens: int = 0

    def as_dict(self) -> dict[str, int]:
        # By hand, since dataclasses.asdict takes twenty times as long and each call is told so.
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.total_tokens,
            "cached_tokens": self.cached_tokens,
        }

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """The numbers in the order of the fields."""
        return (
            self.prompt_tokens,
            self.completion_tokens,
            self.total_tokens,
            self.cached_tokens,
        )

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(*(one + two for one, two in zip(self.counts, other.counts, strict=True)))

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Self:
        """Read `body["usage"]`; what is missing or no count is 0, the total then the sum."""
        usage = body.get("usage")
        if not isinstance(usage, dict):
            return cls()
        details = usage.get("prompt_tokens_details")
        prompt, completion = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
        return cls(
            prompt_tokens=prompt,
            completion_tokens=completion,
            total_tokens=_count(usage, "total_tokens") or prompt + completion,
            cached_tokens=_count(details, "cached_tokens") if isinstance(details, dict) else 0,
        )


def _count(counts: Mapping[str, Any], name: str) -> int:
    value = counts.get(name)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if type(value) is int and 0 <= value < TOKENS_MAX:  # a bool is no count
        return value
    return 0


NO_USAGE = Usage()


@dataclass(frozen=True, slots=True)
class ToldFailure:
    """A failure that a completion tells of itself, though its status says that all went well.

    code: content_filter and length, where not a word was said; else as in CallFailed. status: that
    of the model server behind a gateway, where the gateway tells it.
    """

    code: str
    message: str
    status: int | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """A model's answer: `body` is a chat.completion object with at least one choice.

    usage: of all calls that it took. calls: how often the model was asked, retries included.
    failure: why the answer has no word, where it tells that. notes: sentences that say where the
    request or the answer is not as it was meant.
    """

    body: dict[str, Any]
    usage: Usage
    calls: int
    failure: ToldFailure | None = None
    notes: tuple[str, ...] = ()


class CallFailed(Exception):
    """The model could not be made to answer; `message` never holds the endpoint's key.

    code: model_unreachable, model_timeout, model_rate_limited, model_server_error,
    model_rejected, model_server_refused (401 and 403), model_reply_invalid,
    model_reply_too_large, model_address_refused or budget.
    status: the HTTP status of the last answer, if there was one. usage: of completions that told
    a failure. body: the last of them. refusal: the words of an answer that rejects the request,
    see quirks.words_of. lacks: the forms of reply that the server was found not to have.
    retry_after: in how many seconds the server may be asked again, where that is known.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        status: int | None = None,
        calls: int = 0,
        usage: Usage = NO_USAGE,
        body: dict[str, Any] | None = None,
        refusal: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.status = status
        self.calls = calls
        self.usage = usage
        self.body = body
        self.refusal = refusal
        self.retry_after = retry_after
        self.lacks: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class Stopped(Exception):
    """The work was called off before the model answered; nothing was sent since.

    calls, usage: of those that had been made by then, to no end.
    """

    def __init__(self, calls: int = 0, usage: Usage = NO_USAGE) -> None:
        super().__init__(calls)
        self.calls = calls
        self.usage = usage


@dataclass(frozen=True, slots=True)
class Refusal:
    """A call that a server would not take: too many (429, or 503 with Retry-After), or 401, 403.

    words: what the server said. began: when the call was sent, by time.monotonic().
    asked_seconds: how long it asked to be left alone, None where it did not say.
    """

    status: int
    words: str
    began: float
    asked_seconds: float | None = None

    @property
    def is_denial(self) -> bool:
        """Return whether it is the caller that is refused, and not only the moment."""
        return self.status in DENIALS


@dataclass(frozen=True, slots=True)
class Remaining:
    """The calls and tokens that a server says are left, and when it begins to count anew.

    None where it does not say.
    """

    calls: int | None = None
    calls_reset_seconds: float | None = None
    tokens: int | None = None
    tokens_reset_seconds: float | None = None


class GivenUp(Exception):
    """The endpoint has taken no call for so long that nobody waits for it any more."""

    def __init__(self, message: str, status: int | None) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


class Limiter:
    """The slots of an endpoint; a call is sent only by one who holds a slot.

    This one has room for everyone, and lets each caller see to refusals alone.
    is_counting: every call needs a slot of its own, a repeated one too.
    """

    is_counting = False

    async def acquire(self) -> int:
        """Wait for a slot; return its number, greater for each later one. Raises GivenUp."""
        return 0

    def release(self) -> None:
        """Give the slot back."""

    def taken(self, began: float, tokens: int) -> None:
        """Hear that the server answered a call, and how many tokens it took."""

    def refused(self, refusal: Refusal) -> bool:
        """Hear of a refusal; return whether `acquire` now waits until the server may be asked."""
        return False

    def told(self, remaining: Remaining, number: int) -> None:
        """Hear what the server said is left, beside its answer to the call in slot `number`."""


Unlimited = Limiter


class Client(Protocol):
    """Whoever answers a chat completion request, over the network or not."""

    async def complete(self, request: dict[str, Any], *, keeps_format: bool = False) -> Reply: ...

    def stream(self, request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]: ...

    async def embed(self, request: dict[str, Any]) -> Reply: ...

    async def close(self) -> None: ...
