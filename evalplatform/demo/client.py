"""A client of OpenAI's dialect in plain Python: the demo must not need the vendor's package."""

import http.client
import json
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

# A web server that died is replaced meanwhile; one that was told to stop takes us with it.
PATIENCE_SECONDS = 30.0


class Refused(Exception):
    """The server answered with an error, or not at all."""


class Client:
    """A connection to the server at `host` and `port`. Every call raises Refused."""

    def __init__(self, host: str, port: int, key: str) -> None:
        self.host, self.port = host, port
        self._headers = {"Authorization": f"Bearer {key}"}

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        return self._ask("GET", f"{path}?{urlencode(query)}" if query else path)

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return self._ask("POST", path, json.dumps(body).encode(), "application/json")

    def upload(self, filename: str, content: bytes, purpose: str) -> dict[str, Any]:
        boundary = uuid4().hex
        parts = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\n{purpose}\r\n'
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{filename}"'
            "\r\nContent-Type: application/octet-stream\r\n\r\n"
        )
        body = parts.encode() + content + f"\r\n--{boundary}--\r\n".encode()
        return self._ask("POST", "files", body, f"multipart/form-data; boundary={boundary}")

    def each(self, path: str, **query: Any) -> Iterator[dict[str, Any]]:
        """Yield every object of a list, page by page."""
        page = self.get(path, **query)
        yield from page["data"]
        while page["has_more"]:
            page = self.get(path, **query, after=page["data"][-1]["id"])
            yield from page["data"]

    def _ask(
        self, method: str, path: str, body: bytes | None = None, content_type: str = ""
    ) -> dict[str, Any]:
        headers = {**self._headers, **({"Content-Type": content_type} if content_type else {})}
        give_up_at = time.monotonic() + PATIENCE_SECONDS
        while True:
            connection = http.client.HTTPConnection(self.host, self.port, timeout=PATIENCE_SECONDS)
            try:
                connection.request(method, f"/v1/{path}", body, headers)
                answer = connection.getresponse()
                return self._read(method, path, answer.status, answer.read())
            except (OSError, http.client.HTTPException) as error:
                if time.monotonic() > give_up_at:
                    raise Refused(f"{method} /v1/{path}: no answer ({error}).") from error
                time.sleep(0.2)
            finally:
                connection.close()

    def _read(self, method: str, path: str, status: int, text: bytes) -> dict[str, Any]:
        try:
            body = json.loads(text)
        except ValueError as error:
            raise Refused(f"{method} /v1/{path}: {status}, and no JSON.") from error
        if status >= 400:
            message = body.get("error", {}).get("message", "no reason given")
            raise Refused(f"{method} /v1/{path}: {status}, {message}")
        return body
