"""Turn the ways in which a call comes to nothing into CallFailed or RetryableError."""

from collections.abc import Mapping
from typing import Any, Never

from apps.clients.addresses import AddressRefused
from apps.clients.base import DENIED, CallFailed, Usage
from apps.clients.faults import (
    AddressUnusual,
    CallTimedOut,
    CertificateRefused,
    HttpFault,
    NotHttp,
)
from apps.clients.quirks import speaks_of_forms
from apps.clients.rate_limits import reset_seconds
from apps.clients.replies import REJECTED, refusal_code, refusal_words, upstream_message
from apps.clients.retries import Kind, RefusedError, RetryableError, RetryPolicy, asked_pause

MESSAGE_CHARS = 500
TOO_MANY, UNAVAILABLE = 429, 503


class Failures:
    """Makes the failures of one server's client; each method raises one.

    server: as messages name it. hidden: secrets, and what messages show in their places.
    """

    def __init__(self, server: str, hidden: Mapping[str, str], policy: RetryPolicy) -> None:
        self._server = server
        self._hidden = hidden
        self._policy = policy

    def refused(self, status: int, headers: Mapping[str, str], content: bytes, calls: int) -> Never:
        message = upstream_message(content) or "no reason given"
        message = f"The model server answered {status}: {message}"
        code = refusal_code(status)
        if code == DENIED:
            self.fail(code, message, status=status, calls=calls)
        if code == REJECTED or status >= 500:
            words = refusal_words(content)
            # A template that refuses the form of messages does so again, whatever the status.
            if code == REJECTED or speaks_of_forms(words):
                self.fail(REJECTED, message, status=status, calls=calls, refusal=words)
        asked = asked_pause(headers)
        if status == TOO_MANY or (status == UNAVAILABLE and asked is not None):
            asked = reset_seconds(headers) if asked is None else asked
            raise RefusedError(
                Kind.REFUSED,
                code,
                self._presentable(message),
                status=status,
                asked_seconds=asked,
            )
        raise self.retryable(Kind.REFUSED, code, message, status=status, asked_seconds=asked)

    def unanswered(self, fault: HttpFault | AddressRefused, calls: int) -> Never:
        if isinstance(fault, CallTimedOut):
            seconds = self._policy.call_seconds
            self.fail("model_timeout", f"No answer within {seconds:g} seconds.", calls=calls)
        if isinstance(fault, AddressRefused):
            self._fail_address("is not public, which this endpoint has to be", calls)
        if isinstance(fault, AddressUnusual):
            self._fail_address("does not spell its address as usual", calls)
        if isinstance(fault, CertificateRefused):
            self.fail(
                "model_unreachable",
                f"{self._server} shows a certificate that cannot be trusted.",
                calls=calls,
            )
        if isinstance(fault, NotHttp):
            raise self.retryable(
                Kind.INVALID, "model_reply_invalid", f"The answer is not HTTP: {fault}"
            ) from None
        raise self.retryable(
            Kind.LOST, "model_unreachable", f"{self._server} could not be reached: {fault}."
        ) from None

    def _fail_address(self, reason: str, calls: int) -> Never:
        # This last call was never sent.
        self.fail("model_address_refused", f"{self._server} {reason}.", calls=calls - 1)

    def retryable(
        self,
        kind: Kind,
        code: str,
        message: str,
        *,
        status: int | None = None,
        asked_seconds: float | None = None,
        body: dict[str, Any] | None = None,
    ) -> RetryableError:
        return RetryableError(
            kind,
            code,
            self._presentable(message),
            status=status,
            asked_seconds=asked_seconds,
            body=body,
        )

    def fail(
        self,
        code: str,
        message: str,
        *,
        status: int | None = None,
        calls: int = 0,
        body: dict[str, Any] | None = None,
        refusal: str | None = None,
    ) -> Never:
        message = self._presentable(message)
        usage = Usage.of(body or {})
        raise CallFailed(
            code, message, status=status, calls=calls, usage=usage, body=body, refusal=refusal
        ) from None

    def _presentable(self, message: str) -> str:
        """Make a message one line of bounded length, storable anywhere and without a secret."""
        line = "".join(char if char.isprintable() else " " for char in message)
        line = " ".join(line.split())
        for secret, shown in self._hidden.items():
            line = line.replace(secret, shown)
        return line if len(line) <= MESSAGE_CHARS else line[: MESSAGE_CHARS - 1] + "…"
