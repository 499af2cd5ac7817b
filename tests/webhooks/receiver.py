"""A server that webhooks are sent to, and runs whose end it is told of."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from django.utils import timezone
from openai import OpenAI

from apps.evaluations.models import Run
from apps.evaluations.services.evaluations import create_evaluation
from apps.evaluations.services.runs import start_run
from apps.evaluations.targets import Recorded
from apps.webhooks.delivery import deliver_due
from apps.webhooks.models import WebhookDelivery, WebhookEndpoint
from apps.webhooks.services import (
    add_webhook,
)
from tests.patience import patience

State = WebhookDelivery.State
URL = "https://hooks.example.com/evals"


class Receiver:
    """A real HTTP server: answers with the statuses given, then 200, and keeps what it was sent."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.received: list[tuple[dict[str, str], bytes]] = []
        self.answers = threading.Event()
        self.answers.set()
        kept = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                kept.received.append(
                    ({name.lower(): value for name, value in self.headers.items()}, body)
                )
                kept.answers.wait(patience(10))
                status = kept.statuses.pop(0) if kept.statuses else 200
                self.send_response(status)
                if status == 302:
                    self.send_header("location", kept.url)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()


def make_run(actor) -> Run:
    evaluation = create_evaluation(actor, name="Triage", criteria=[])
    return start_run(actor, evaluation, source=[{"item": {"a": 1}}], target=Recorded())


def told(actor, receiver, **given) -> tuple[WebhookEndpoint, str]:
    return add_webhook(actor, url=receiver.url, **{"allow_private": True, **given})


def deliver_all() -> None:
    while deliver_due():
        pass


def wait_no_longer() -> None:
    WebhookDelivery.objects.update(next_attempt_at=timezone.now())


def unwrapped(receiver: Receiver, secret: str) -> Any:
    headers, body = receiver.received[-1]
    return OpenAI(api_key="unused").webhooks.unwrap(body, headers, secret=secret)
