"""`manage.py demo`: the table it reaches, again and again, and that nothing of it is left."""

import json
import re
import signal
import socket
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from evalplatform.demo.client import Client, Refused
from evalplatform.demo.prepare import tickets
from evalplatform.demo.tour import MODELS, FinishedRun, compare, sentence, table
from evalplatform.management.commands.demo import add_endpoint_command, is_private
from tests.dialects.installed import needs
from tests.patience import patience, wait_until
from tests.served import Managed, free_port

pytestmark = pytest.mark.once("what the demo does is done to both databases by tests of its parts")
speaks_openai = needs("openai")  # the demo is a client of that dialect


class Demo(Managed):
    def __init__(self, data_dir: Path, **environment: str) -> None:
        self.port = free_port()
        for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL"):
            environment.setdefault(name, "")
        super().__init__(data_dir, "demo", "--port", str(self.port), environment=environment)

    def wait_for(self, words: str, seconds: float = 60) -> None:
        def said() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, f"the demo ended by itself:\n{self.log}"
            return words in self.log

        wait_until(said, seconds, lambda: f"{words!r} in\n{self.log}")

    def interrupt(self) -> None:
        self.send(signal.SIGINT)
        self.wait_gone(20)

    def found(self, pattern: str) -> list[str]:
        return re.findall(pattern, self.log, re.MULTILINE)


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Demo]]:
    """Two demos after each other on one folder, the second still up."""
    folder = tmp_path_factory.mktemp("demo")
    with Demo(folder) as first:
        first.wait_for("Ctrl-C stops it.")
        first.interrupt()
        with Demo(folder, OPENAI_BASE_URL="http://127.0.0.1:9/v1") as second:
            second.wait_for("Ctrl-C stops it.")
            yield [first, second]


@speaks_openai
def test_the_demo_reaches_its_table(twice):
    for demo in twice:
        lines = demo.log.splitlines()
        (head,) = [place for place, line in enumerate(lines) if line.startswith("model ")]
        assert re.split(r"  +", lines[head]) == ["model", "n", "errored", "rate", "95 % interval"]
        for line, model in zip(lines[head + 1 :], MODELS, strict=False):
            assert re.fullmatch(rf"{model} +100 +0 +\d+\.\d% +\d+\.\d% to \d+\.\d%", line), demo.log
        assert demo.found(r"points \(95 % interval .*\), exact McNemar p .* 100 pairs: improved\.")


@speaks_openai
def test_sigint_ends_the_demo_with_success_and_no_process_left(twice):
    first, _ = twice
    assert first.process.returncode == 0
    assert "Traceback" not in first.log
    assert not first.processes()


@speaks_openai
def test_a_second_demo_reuses_all_but_the_runs(twice):
    first, second = twice
    assert first.found("ep-[0-9a-f]+") == second.found("ep-[0-9a-f]+")
    assert first.found("password .*$") == second.found("password .*$")
    client = Client("127.0.0.1", second.port, second.found("ep-[0-9a-f]+")[0])
    (made,) = client.each("evals")
    assert len(list(client.each("files"))) == 1
    runs = list(client.each(f"evals/{made['id']}/runs"))
    assert Counter(run["model"] for run in runs) == dict.fromkeys(MODELS, 2)
    assert {run["status"] for run in runs} == {"completed"}


@speaks_openai
def test_what_the_demo_keeps_is_readable_by_its_owner_alone(twice):
    first, _ = twice
    for name in ("demo_api_key.txt", "demo_admin_password.txt"):
        assert (first.data_dir / name).stat().st_mode & 0o077 == 0


@speaks_openai
def test_the_demo_says_how_to_add_the_model_of_the_environment(twice):
    first, second = twice
    assert "add_endpoint" not in first.log
    (command,) = second.found("^  DATA_DIR=.* MODEL$")
    assert "--base-url http://127.0.0.1:9/v1 --allow-private MODEL" in command


@speaks_openai
def test_the_addresses_it_prints_are_served(twice):
    _, second = twice
    for url in second.found(r"^  (http://\S+)"):
        with urllib.request.urlopen(url, timeout=patience(10)) as page:
            assert page.status == 200


def test_a_port_in_use_is_said_and_nothing_started(tmp_path):
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        Managed(tmp_path, "demo", "--port", str(taken.getsockname()[1])) as demo,
    ):
        demo.wait_gone(30)
    assert demo.process is not None
    assert demo.process.returncode == 1
    assert "Cannot listen at 127.0.0.1" in demo.log
    assert "Traceback" not in demo.log


def test_the_tickets_come_in_two_halves_with_the_same_categories():
    learned, asked = ([json.loads(line) for line in half] for half in tickets())
    assert len(learned) == len(asked) == 100
    assert {row["category"] for row in learned} == {row["category"] for row in asked}
    assert not {row["id"] for row in learned} & {row["id"] for row in asked}


def outcome(model: str, *states: str) -> FinishedRun:
    counts = Counter(states)
    run = {
        "result_counts": {
            "total": len(states),
            "passed": counts["pass"],
            "failed": counts["fail"],
            "errored": counts["error"],
        }
    }
    return FinishedRun(model, run, dict(enumerate(states)))


def test_the_table_leaves_what_errored_out_of_n():
    lines = table([outcome("a", *["pass"] * 3, "fail", "error"), outcome("longer", "error")])
    assert lines == [
        "model   n  errored   rate  95 % interval",
        "a       4        1  75.0%  30.1% to 95.4%",
        "longer  0        1      –  0.0% to 100.0%",
    ]


def test_pairs_are_tickets_that_both_runs_judged():
    first = outcome("a", "pass", "fail", "error", "pass")
    second = outcome("b", "pass", "pass", "pass", "error", "fail")
    found = compare(first, second).comparison
    assert (found.pairs, found.difference) == (2, 0.5)
    assert "too few samples" in sentence(first, second)
    assert "nothing can be compared" in sentence(outcome("a", "error"), outcome("b", "pass"))


@pytest.mark.parametrize(
    ("environment", "end"),
    [
        ({}, ""),
        (
            {"OPENAI_API_KEY": "sk-secret"},
            "--base-url https://api.openai.com/v1 --api-key-env OPENAI_API_KEY gpt-4o-mini",
        ),
        (
            {"OPENAI_BASE_URL": "http://vllm:8000/v1", "OPENAI_MODEL": "mine"},
            "--base-url http://vllm:8000/v1 --allow-private mine",
        ),
        (
            {"OPENAI_BASE_URL": "https://models.example.com/v1", "OPENAI_API_KEY": "sk-secret"},
            "--base-url https://models.example.com/v1 --api-key-env OPENAI_API_KEY MODEL",
        ),
    ],
)
def test_the_vendors_variables_become_a_command_without_the_key(environment, end):
    command = add_endpoint_command(environment)
    assert command.endswith(end)
    assert bool(command) == bool(end)
    assert "sk-secret" not in command


@pytest.mark.parametrize(
    ("url", "private"),
    [
        ("http://localhost:1/v1", True),
        ("http://10.0.0.7/v1", True),
        ("http://[::1]:1/v1", True),
        ("https://api.openai.com/v1", False),
        ("https://8.8.8.8/v1", False),
    ],
)
def test_private_addresses_are_told_by_their_text(url, private):
    assert is_private(url) is private


def test_a_server_that_is_away_is_waited_for_and_then_given_up(monkeypatch):
    monkeypatch.setattr("evalplatform.demo.client.PATIENCE_SECONDS", 0.3)
    with pytest.raises(Refused, match="no answer"):
        Client("127.0.0.1", free_port(), "ep-none").get("evals")
