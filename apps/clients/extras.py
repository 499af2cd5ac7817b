"""Additions that a server wants to every request: headers, a query, a proxy."""

import re
from base64 import b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

from yarl import URL

from apps.clients.addresses import UrlRefused, check_url

TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")  # RFC 9110, section 5.6.2
VALUE_CHARS = 4_000
HEADERS_MAX = 32
# These say how the bytes travel, which is ours to say.
OURS = frozenset(
    {"host", "content-length", "content-type", "transfer-encoding", "connection", "accept-encoding"}
)
BEARER = "Authorization"


class BadExtra(ValueError):
    """An addition that no request can carry. setting: which of the fields of Extras."""

    def __init__(self, setting: str, message: str) -> None:
        super().__init__(message)
        self.setting = setting


@dataclass(frozen=True)
class Extras:
    """Additions to every request to one server.

    key_header: where the key goes, bare; "" is `Authorization: Bearer KEY`. headers: sent as they
    are; secret_headers: likewise, and never shown. query: as in a URL, `a=1&b=2`. proxy: an
    http:// URL, with a user and a password where it asks for them. strips_think: take a leading
    think block out of each answer's text.
    """

    key_header: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    secret_headers: Mapping[str, str] = field(default_factory=dict)
    query: str = ""
    proxy: str = ""
    strips_think: bool = False

    def check(self) -> None:
        """Raise BadExtra for what no request could carry."""
        if self.key_header and not TOKEN.fullmatch(self.key_header):
            raise BadExtra("key_header", f"{self.key_header[:60]!r} is no name of a header.")
        if self.key_header.lower() in OURS:
            raise BadExtra("key_header", f"{self.key_header} cannot hold a key.")
        seen = {(self.key_header or BEARER).lower()}
        for setting, headers in self._kinds():
            for name, value in headers.items():
                self._check_header(setting, name, value, seen)
        if len(self.headers) + len(self.secret_headers) > HEADERS_MAX:
            raise BadExtra("headers", f"There are more than {HEADERS_MAX} headers.")
        if any(not char.isprintable() or char in " #?" for char in self.query):
            raise BadExtra("query", "A query is written as in a URL: name=value&name=value.")
        if self.proxy:
            self.proxy_url()

    def _kinds(self) -> tuple[tuple[str, Mapping[str, str]], ...]:
        return ("headers", self.headers), ("secret_headers", self.secret_headers)

    def _check_header(self, setting: str, name: str, value: str, seen: set[str]) -> None:
        if not TOKEN.fullmatch(name):
            raise BadExtra(setting, f"{name[:60]!r} is no name of a header.")
        if name.lower() in OURS:
            raise BadExtra(setting, f"The header {name} is set by the client itself.")
        if name.lower() in seen:
            raise BadExtra(setting, f"The header {name} is there twice, or holds the key already.")
        seen.add(name.lower())
        # The value is not quoted: it may be a secret.
        if not value or len(value) > VALUE_CHARS or not (value.isascii() and value.isprintable()):
            raise BadExtra(
                setting, f"The value of {name} has 1 to {VALUE_CHARS} printable ASCII characters."
            )

    def headers_for(self, key: str) -> dict[str, str]:
        """Return all headers that these additions make, the key's among them."""
        made = {**self.headers, **self.secret_headers}
        if key:
            made[self.key_header or BEARER] = key if self.key_header else f"Bearer {key}"
        return made

    def secrets(self) -> Iterable[str]:
        """Return the texts that no message may show."""
        yield from self.secret_headers.values()
        if self.proxy and (password := self.proxy_url().password):
            yield password

    def proxy_url(self) -> URL:
        """Return the proxy's URL. Raises BadExtra, which does not show it."""
        try:
            url = URL(self.proxy)
            check_url(str(url.with_user(None)))
        except (UrlRefused, ValueError):
            raise BadExtra("proxy", "The proxy is no URL: write http://host:port.") from None
        if url.scheme != "http":
            raise BadExtra("proxy", "The proxy's URL begins with http://, whatever is behind it.")
        return url


def proxy_authorization(proxy: URL) -> str:
    """Return the value of Proxy-Authorization, "" where the proxy's URL has no user."""
    if proxy.raw_user is None:
        return ""
    user, password = unquote(proxy.raw_user), unquote(proxy.raw_password or "")
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode("ascii")


NO_EXTRAS = Extras()
