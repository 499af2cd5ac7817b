"""The model server that tests and benchmarks lean on."""

import json
import os
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests import model_server
from tests.model_server import running
from tests.patience import patience, wait_until

BODY = json.dumps({"model": "echo", "messages": [{"role": "user", "content": "hello"}]}).encode()
REQUEST = b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)


def test_clients_that_die_mid_request_leave_nothing_in_flight():
    with running(delay=0.5) as server:
        peers = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(20)]
        for peer in peers[:10]:
            peer.sendall(REQUEST)
        for peer in peers[10:]:
            peer.sendall(REQUEST[:-5])
        wait_until(lambda: server.counts()["in_flight"] == 10)
        for peer in peers:
            peer.close()
        wait_until(lambda: server.counts()["in_flight"] == 0)
        counts = server.counts()

        assert (counts["total"], counts["answered"], counts["max_in_flight"]) == (10, 0, 10)
        server.reset()
        assert server.counts()["prompts"] == {}


def test_requests_sent_at_once_are_answered_in_turn():
    with running(delay=0.02) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as peer:
            peer.sendall(REQUEST * 3)
            peer.settimeout(patience(5))
            received = b""
            while received.count(b"HTTP/1.1 200") < 3:
                received += peer.recv(65536)

        assert server.counts()["max_in_flight"] == 1


def test_its_models_are_listed():
    with running() as server, urllib.request.urlopen(f"{server.base_url}/models") as answer:
        assert json.load(answer)["data"][0]["id"] == "echo"


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"model": "m", "messages": 1}', b"\xff"])
def test_a_body_that_is_no_request_is_400(body):
    with running() as server, socket.create_connection(("127.0.0.1", server.port)) as peer:
        peer.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b"
            % (len(body), body)
        )

        assert peer.recv(65536).startswith(b"HTTP/1.1 400")


def test_it_ends_when_its_starter_is_killed():
    program = (
        "import time; from tests.model_server import start;"
        " server = start(); print(server.process.pid, flush=True); time.sleep(60)"
    )
    starter = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(model_server.__file__).parents[1],
    )
    with starter:
        assert starter.stdout is not None
        pid = int(starter.stdout.readline())
        starter.kill()

    def gone():
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        stat = Path(f"/proc/{pid}/stat")  # nobody may be there to reap it
        return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z"

    wait_until(gone)
