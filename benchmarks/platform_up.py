"""Our side of a benchmark: a real `manage.py up` on fresh data, and the client that times it."""

import http.client
import json
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import psutil

from tests.model_server import ModelServer
from tests.served import Served

ACCOUNT = "benchmark"
FINAL = ("completed", "failed", "canceled")
READ_BYTES = 1024 * 1024
BOUNDARY = "benchmark-boundary"

EXACT = {
    "type": "string_check",
    "name": "exact",
    "input": "{{ sample.output_text }}",
    "reference": "{{ item.answer }}",
    "operation": "eq",
}


class Platform:
    """A served instance with an account and a key, spoken to over HTTP as a client would."""

    def __init__(self, served: Served, key: str) -> None:
        self.served = served
        self.headers = {"Authorization": f"Bearer {key}"}
        self._kept = http.client.HTTPConnection("127.0.0.1", served.port, timeout=600)

    def close(self) -> None:
        self._kept.close()

    def call(self, method: str, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"{self.served.base_url}/v1{path}",
            data=data,
            headers={**self.headers, "Content-Type": "application/json"},
            method=method,
        )
        with urllib.request.urlopen(request) as response:
            return json.load(response)

    def add_model_server(self, server: ModelServer, concurrency: int, model: str) -> None:
        self.served.manage(
            *("add_endpoint", "--account", ACCOUNT, "--base-url", server.base_url),
            *("--concurrency", str(concurrency), "--allow-private", model),
        )

    def create_eval(self, criteria: Sequence[Mapping[str, Any]] = (EXACT,)) -> str:
        config = {
            "type": "custom",
            "item_schema": {"type": "object"},
            "include_sample_schema": True,
        }
        body = {"data_source_config": config, "testing_criteria": criteria}
        return self.call("POST", "/evals", body)["id"]

    def upload(self, path: Path) -> str:
        """Send a file as a form, a piece at a time; its id."""
        opening = (
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nevals\r\n'
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{path.name}"'
            "\r\nContent-Type: application/jsonl\r\n\r\n"
        ).encode()
        closing = f"\r\n--{BOUNDARY}--\r\n".encode()

        self.reconnect()

        def pieces() -> Iterator[bytes]:
            yield opening
            with path.open("rb") as file:
                while piece := file.read(READ_BYTES):
                    yield piece
            yield closing

        size = len(opening) + path.stat().st_size + len(closing)
        return json.loads(
            self._exchange(
                "POST",
                "/files",
                pieces(),
                {
                    "Content-Type": f"multipart/form-data; boundary={BOUNDARY}",
                    "Content-Length": str(size),
                },
            )
        )["id"]

    def reconnect(self) -> None:
        """Open a connection anew for the next request: the server closes one that is idle."""
        self._kept.close()

    def get_raw(self, path: str) -> bytes:
        """The body of an answer, over a connection that is kept."""
        return self._exchange("GET", path)

    def _exchange(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> bytes:
        self._kept.request(method, f"/v1{path}", body, {**self.headers, **(headers or {})})
        response = self._kept.getresponse()
        answer = response.read()
        if response.status != 200:
            raise SystemExit(f"{method} {path}: {response.status} {answer[:500]!r}")
        return answer

    def start_run(self, eval_id: str, data_source: Mapping[str, Any]) -> dict[str, Any]:
        return self.call("POST", f"/evals/{eval_id}/runs", {"data_source": data_source})

    def wait_for(self, run: dict[str, Any], count: int, poll_seconds: float) -> dict[str, Any]:
        """Poll a run until it is over. Ends the benchmark unless `count` rows were judged."""
        path = f"/evals/{run['eval_id']}/runs/{run['id']}"
        while run["status"] not in FINAL:
            time.sleep(poll_seconds)
            run = self.call("GET", path)
        counts = run["result_counts"]
        if run["status"] != "completed" or counts["passed"] + counts["failed"] != count:
            told = f"{run['status']}: {counts} {run['error']}"
            raise SystemExit(f"the run ended as {told}\n{self.served.log[-2000:]}")
        return run

    def processor_seconds(self) -> float:
        """Return the processor time of the whole process tree so far, ended children included."""
        total = 0.0
        for process in self.served.processes():
            with suppress(psutil.Error):
                total += sum(process.cpu_times()[:4])
        return total


@contextmanager
def platform_up() -> Iterator[Platform]:
    with tempfile.TemporaryDirectory() as folder, Served(Path(folder) / "data") as served:
        key = served.manage("create_api_key", "--account", ACCOUNT).strip()
        with closing(Platform(served, key)) as platform:
            yield platform


class MemoryWatch:
    """The highest resident memory of each kind of process of a served instance, in MB.

    with MemoryWatch(platform) as watch: ...    # then watch.peaks, watch.peak
    """

    SECONDS = 0.25

    def __init__(self, platform: Platform) -> None:
        self.top = psutil.Process(platform.served.pid)
        self.peaks: dict[str, float] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    @property
    def peak(self) -> float:
        return max(self.peaks.values())

    def _watch(self) -> None:
        kinds: dict[int, str] = {}
        while not self._over.wait(self.SECONDS):
            for process in (self.top, *self.top.children(recursive=True)):
                with suppress(psutil.Error):
                    if process.pid not in kinds:
                        kinds[process.pid] = _kind(process.cmdline())
                    kind = kinds[process.pid]
                    size = process.memory_info().rss / 2**20
                    self.peaks[kind] = max(self.peaks.get(kind, 0), size)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._over.set()
        self._thread.join()


def _kind(command: Sequence[str]) -> str:
    for word, kind in (("granian", "web"), ("qcluster", "workers"), ("up", "supervisor")):
        if any(Path(part).name == word for part in command):
            return kind
    return "other"
