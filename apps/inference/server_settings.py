"""The settings by which a server is reached beyond its URL and key, and its client."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, fields, replace

from apps.clients import (
    AdaptingClient,
    BadExtra,
    ChatClient,
    Extras,
    Lessons,
    Limiter,
    RetryPolicy,
    no_budget,
)
from apps.errors import Invalid
from apps.inference.models import ModelEndpoint
from apps.strict_json import dump_json, parse_json

CALL_SECONDS_MAX = 24 * 3600


@dataclass(frozen=True)
class ServerSettings:
    """Changes of an endpoint's settings; None leaves what there is, an empty value removes it.

    secret_headers: those named are set, those with an empty value removed, all others stay. The
    rest is as in clients.Extras; call_seconds: how long one call may take, 0 for as long as
    usual.
    """

    key_header: str | None = None
    headers: Mapping[str, str] | None = None
    secret_headers: Mapping[str, str] | None = None
    query: str | None = None
    proxy: str | None = None
    call_seconds: float | None = None
    strips_think: bool | None = None

    @property
    def is_empty(self) -> bool:
        return all(getattr(self, one.name) is None for one in fields(self))

    def apply_to(self, endpoint: ModelEndpoint) -> None:
        """Set what is given, without saving it. Raises Invalid by the setting's name."""
        for name in ("key_header", "query", "proxy"):
            if (text := getattr(self, name)) is not None:
                setattr(endpoint, name, text.strip().removeprefix("?"))
        if self.strips_think is not None:
            endpoint.strips_think = self.strips_think
        if self.call_seconds is not None:
            if not 0 <= self.call_seconds <= CALL_SECONDS_MAX:
                raise Invalid(
                    f"call_seconds must be 0 to {CALL_SECONDS_MAX}, not {self.call_seconds:g}.",
                    path="call_seconds",
                )
            endpoint.call_seconds = self.call_seconds or None
        if self.headers is not None:
            endpoint.headers = _written(self.headers)
        if self.secret_headers is not None:
            kept = _read(endpoint.secret_headers)
            for name, value in self.secret_headers.items():
                kept = {one: text for one, text in kept.items() if one.lower() != name.lower()}
                kept |= {name: value} if value else {}
            endpoint.secret_headers = _written(kept)
        try:
            extras_of(endpoint).check()
        except BadExtra as error:
            raise Invalid(str(error), path=error.setting) from error


def extras_of(endpoint: ModelEndpoint) -> Extras:
    """Read what every request to an endpoint carries."""
    return Extras(
        key_header=endpoint.key_header,
        headers=_read(endpoint.headers),
        secret_headers=_read(endpoint.secret_headers),
        query=endpoint.query,
        proxy=endpoint.proxy,
        strips_think=endpoint.strips_think,
    )


def names_of_secrets(endpoint: ModelEndpoint) -> list[str]:
    """Return the names of the secret headers, which may be shown."""
    return sorted(_read(endpoint.secret_headers))


def connect(
    endpoint: ModelEndpoint,
    limiter: Limiter,
    policy: RetryPolicy,
    lessons: Lessons,
    *,
    stopped: Callable[[], bool] = lambda: False,
    before_call: Callable[[int], Awaitable[None]] = no_budget,
) -> AdaptingClient:
    """Make the client of an endpoint. Raises ValueError for settings that cannot be used.

    lessons: what is known of its models, and grows as the client learns.
    """
    if endpoint.call_seconds:
        policy = replace(policy, call_seconds=endpoint.call_seconds)
    client = ChatClient(
        endpoint.base_url,
        endpoint.api_key,
        limiter,
        allow_private=endpoint.allow_private,
        policy=policy,
        stopped=stopped,
        before_call=before_call,
        extras=extras_of(endpoint),
    )
    return AdaptingClient(client, lessons)


def read_header_lines(text: str, path: str) -> dict[str, str]:
    """Read `Name: value` lines, an empty value included. Raises Invalid, by `path`."""
    headers = {}
    for line in filter(str.strip, text.splitlines()):
        name, colon, value = line.partition(":")
        if not colon or not name.strip():
            # Not quoted, since it may be a secret.
            raise Invalid("A header is written as Name: value, one a line.", path=path)
        headers[name.strip()] = value.strip()
    return headers


def header_lines(endpoint: ModelEndpoint) -> str:
    """Write the headers that are no secret as read_header_lines reads them."""
    return "\n".join(f"{name}: {value}" for name, value in _read(endpoint.headers).items())


def _written(headers: Mapping[str, str]) -> str:
    return dump_json(dict(headers)) if headers else ""


def _read(text: str) -> dict[str, str]:
    return parse_json(text) if text else {}
