"""Requests that wait for their runs, against a live server with the default workers."""

import csv
import http.client
import io
import json
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.patience import patience, slowness, wait_until
from tests.served import ROOT, Served
from tests.shared_server import Platform

pytestmark = pytest.mark.once("who waits, waits in the web server; runs are tried there by others")

PLACES = 32
LONG_ROWS = 500
SLOW, SLOWER = f"slow:{1.5 * slowness()}", f"slow:{5 * slowness()}"

SPICEPOD = """
version: v1
kind: Spicepod
name: served
datasets:
  - name: trivia
    from: file:trivia.jsonl
  - name: long
    from: file:long.csv
models:
  - name: referee
    from: openai:m
    params:
      parameterized_prompt: enabled
      openai_temperature: 0
      system_prompt: |
        {"score": {% if actual == ideal %}1{% else %}0.25{% endif %}}
evals:
  - name: general knowledge
    description: Three easy questions
    dataset: trivia
    scorers: [match, levenshtein]
  - name: long
    dataset: long
    scorers: [match]
"""


@dataclass
class Spiced:
    """A server with the spicepod's evals, and one key for both dialects."""

    served: Served
    key: str

    def ask(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.served.port, timeout=patience(120)
        )
        try:
            sent = {"X-API-Key": self.key, "Content-Type": "application/json", **(headers or {})}
            text = None if body is None else json.dumps(body)
            connection.request(method, path, text, sent)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def run(self, name: str, model: str = "m", **headers: str) -> Any:
        status, _, body = self.ask("POST", f"/v1/evals/{name}", {"model": model}, headers)
        assert status == 200, body
        return json.loads(body)

    def openai(self, path: str) -> Any:
        """Return the other dialect's answer about the same things."""
        bearer = {"Authorization": f"Bearer {self.key}"}
        return json.loads(self.ask("GET", f"/v1/{path}", headers=bearer)[2])

    def runs(self, name: str) -> Any:
        [found] = [one for one in self.openai("evals?limit=100")["data"] if one["name"] == name]
        return self.openai(f"evals/{found['id']}/runs?limit=100")["data"]

    def statuses(self, name: str) -> list[str]:
        return [run["status"] for run in self.runs(name)]


@pytest.fixture(scope="module")
def spiced(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Spiced:
    pod = write_pod(tmp_path_factory.mktemp("pod"))
    key = platform.open_account("acme", "m", SLOW, SLOWER)
    platform.served.manage("load_spicepod", str(pod), "--account", "acme")
    return Spiced(platform.served, key)


def write_pod(folder: Path) -> Path:
    rows = [{"input": "Tokyo", "ideal": "Tokyo"}, {"input": "kitten", "ideal": "sitting"}]
    lines = "".join(f"{json.dumps(row)}\n" for row in rows)
    (folder / "trivia.jsonl").write_text(lines)
    with (folder / "long.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["input", "ideal"])
        writer.writerows([f"question {n}", f"question {n}"] for n in range(LONG_ROWS))
    (folder / "spicepod.yaml").write_text(SPICEPOD)
    return folder / "spicepod.yaml"


def test_a_spicepod_is_loaded_run_and_seen_through_the_other_dialect(spiced: Spiced):
    told = spiced.run("general%20knowledge")
    assert told["metrics"] == {"match/mean": 0.5, "levenshtein/mean": pytest.approx(11 / 14)}
    [shown] = [run for run in spiced.runs("general knowledge") if told["primary_key"] in run["id"]]
    assert shown["status"] == "completed"
    assert shown["result_counts"]["total"] == 2
    status, headers, body = spiced.ask(
        "POST", "/v1/evals/general%20knowledge", {"model": "m"}, {"Accept": "text/csv"}
    )
    assert (status, headers["Content-Type"]) == (200, "text/csv; charset=utf-8")
    names, values = csv.reader(io.StringIO(body.decode(), newline=""))
    assert json.loads(dict(zip(names, values, strict=True))["metrics"]) == told["metrics"]


def test_eight_runs_and_a_long_one_leave_pages_and_polls_their_answers(spiced: Spiced):
    with ThreadPoolExecutor(9) as pool:
        waiting: list[Future[Any]] = [
            *(pool.submit(spiced.run, "general%20knowledge", SLOW) for _ in range(8)),
            pool.submit(spiced.run, "long"),
        ]
        seen_beside = 0
        while not all(future.done() for future in waiting):
            assert spiced.ask("GET", "/healthz")[0] == 200
            assert spiced.ask("GET", "/v1/evals")[0] == 200
            assert len(spiced.runs("long")) <= 1
            seen_beside += 1
            time.sleep(0.1)  # enough is seen, and the runs need the processor
        *short, long = [future.result() for future in waiting]
    assert seen_beside > 5
    assert {told["metrics"]["match/mean"] for told in short} == {0.5}
    assert len({told["primary_key"] for told in short}) == 8
    assert (long["status"], long["metrics"]) == ("completed", {"match/mean": 1.0})


def test_who_comes_when_all_places_are_taken_is_asked_to_come_again(spiced: Spiced):
    before = len(spiced.runs("general knowledge"))
    with ThreadPoolExecutor(PLACES) as pool:
        waiting = [pool.submit(spiced.run, "general%20knowledge", SLOWER) for _ in range(PLACES)]
        wait_until(lambda: len(spiced.runs("general knowledge")) >= before + PLACES, 30)
        status, headers, body = spiced.ask("POST", "/v1/evals/general%20knowledge", {"model": "m"})
        assert (status, headers["Content-Type"]) == (503, "text/plain; charset=utf-8")
        assert int(headers["Retry-After"]) > 0
        assert str(PLACES) in body.decode()
        assert spiced.ask("GET", "/healthz")[0] == 200
        assert {future.result()["status"] for future in waiting} == {"completed"}
    assert len(spiced.runs("general knowledge")) == before + PLACES
    assert spiced.run("general%20knowledge")["status"] == "completed"


def test_a_client_that_hangs_up_does_not_end_its_run(spiced: Spiced):
    before = len(spiced.runs("general knowledge"))
    connection = http.client.HTTPConnection("127.0.0.1", spiced.served.port, timeout=patience(60))
    connection.request(
        "POST",
        "/v1/evals/general%20knowledge",
        json.dumps({"model": SLOW}),
        {"X-API-Key": spiced.key, "Content-Type": "application/json"},
    )
    wait_until(lambda: len(spiced.runs("general knowledge")) > before, 30)
    connection.close()
    wait_until(lambda: set(spiced.statuses("general knowledge")) == {"completed"}, 60)


def test_a_server_stops_in_time_while_a_request_waits_and_the_run_ends_later(spiced: Spiced):
    def post() -> None:
        with suppress(OSError, http.client.HTTPException):  # cut with the server
            spiced.ask("POST", "/v1/evals/general%20knowledge", {"model": SLOW})

    before = len(spiced.runs("general knowledge"))
    poster = threading.Thread(target=post)
    poster.start()
    wait_until(lambda: len(spiced.runs("general knowledge")) > before, 30)
    spiced.served.restart()
    poster.join()
    wait_until(lambda: set(spiced.statuses("general knowledge")) == {"completed"}, 90)


def test_an_error_is_one_line_on_stderr_and_exit_code_1(spiced: Spiced, tmp_path: Path):
    def load() -> subprocess.CompletedProcess:
        words = ["load_spicepod", str(pod), "--account", "acme"]
        return subprocess.run(
            [sys.executable, str(ROOT / "manage.py"), *words],
            capture_output=True,
            text=True,
            check=False,
            env=spiced.served.env,
        )

    pod = tmp_path / "pod.yaml"
    pod.write_text("evals:\n  - name: 'two\n\n      lines'\n", encoding="utf-8")
    refused = load()
    assert (refused.returncode, refused.stdout) == (1, "")
    assert len(refused.stderr.splitlines()) == 1
    assert "a name in an address" in refused.stderr
    pod.write_text("evals: [{name: fine, dataset: none, scorers: []}]", encoding="utf-8")
    loaded = load()
    assert (loaded.returncode, len(loaded.stdout.splitlines())) == (0, 1)
    assert loaded.stderr.startswith("warning: ")
