"""The few requests of the OpenAI wire that the demo makes, by the standard library alone."""

import http.client
import json
import uuid
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode, urlsplit


class WireError(Exception):
    """The server refused; the message is its own."""


class Wire:
    """Speaks to `base_url`, which ends in /v1, with a key. Raises WireError."""

    def __init__(self, base_url: str, key: str) -> None:
        self._place = urlsplit(base_url)
        self._key = key

    def call(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        content = None if body is None else json.dumps(body).encode()
        return self._send(method, path, content, "application/json")

    def upload(self, filename: str, content: bytes) -> dict[str, Any]:
        boundary = uuid.uuid4().hex
        parts = [
            f'--{boundary}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nevals\r\n',
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; '
            f'filename="{filename}"\r\nContent-Type: application/octet-stream\r\n\r\n',
        ]
        form = "".join(parts).encode() + content + f"\r\n--{boundary}--\r\n".encode()
        return self._send("POST", "/files", form, f"multipart/form-data; boundary={boundary}")

    def pages(self, path: str, **query: Any) -> Iterator[dict[str, Any]]:
        """Every element of a list, page after page."""
        while True:
            page = self.call("GET", f"{path}?{urlencode(query)}")
            yield from page["data"]
            if not page["has_more"]:
                return
            query["after"] = page["last_id"]

    def _send(self, method: str, path: str, content: bytes | None, kind: str) -> dict[str, Any]:
        connection = http.client.HTTPConnection(self._place.netloc, timeout=60)
        headers = {"Authorization": f"Bearer {self._key}"}
        if content is not None:
            headers["Content-Type"] = kind
        try:
            connection.request(method, self._place.path + path, content, headers)
            response = connection.getresponse()
            answer = json.load(response)
        finally:
            connection.close()
        if response.status >= 400:
            raise WireError(f"{method} {path}: {answer['error']['message']}")
        return answer
