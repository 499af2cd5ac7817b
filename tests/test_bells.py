"""Bells reach whoever listens, at once, and are missed by nobody's death."""

import threading
import time

import pytest
from django.conf import settings
from django.db import connection
from django_q.brokers import get_broker

from apps import bells
from tests.patience import patience

# NOTIFY is told at a transaction's end, so none is open here.
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def listener():
    listener = bells.Listener()
    listener.wait(0.01)  # Redis tells a listener that it listens
    yield listener
    listener.close()


def test_a_bell_wakes_all_who_listen(listener):
    other = bells.Listener()
    bells.ring()
    assert listener.wait(patience(5))
    assert other.wait(patience(5))
    other.close()


def test_bells_that_rang_together_wake_once(listener):
    for _ in range(50):
        bells.ring()
    assert listener.wait(patience(5))
    while listener.wait(0.1):
        pass
    assert not listener.wait(0.01)


def test_who_waits_is_woken_and_not_at_the_end_of_its_time(listener):
    woken = []

    def wait():
        woken.append(listener.wait(patience(30)))

    thread = threading.Thread(target=wait)
    thread.start()
    bells.ring()
    thread.join(patience(5))
    assert woken == [True]


def test_bells_for_nobody_ring_unheard():
    bells.ring()


def test_an_ear_that_broke_is_replaced(listener, monkeypatch, caplog):
    def broken():
        raise OSError("cut")

    monkeypatch.setattr(listener._ear, "drain", broken)
    bells.ring()
    assert listener.wait(patience(5))
    assert listener.fileno() is None
    monkeypatch.setattr(listener, "_opens_at", 0)
    listener.wait(0.01)
    bells.ring()
    assert listener.wait(patience(5))


@pytest.mark.skipif(
    bool(settings.REDIS_URL) or connection.vendor != "sqlite", reason="sockets are SQLite's way"
)
def test_the_socket_of_a_dead_listener_goes(listener):
    listener._ear._socket.close()  # its process was killed
    bells.ring()
    assert not any(bells.socket_folder().iterdir())


def test_a_folder_with_a_long_name_has_its_sockets_elsewhere(monkeypatch, tmp_path):
    long = tmp_path / ("x" * 120)
    monkeypatch.setattr(settings, "DATA_DIR", long)
    assert len(str(bells.socket_folder())) <= bells.PATH_BYTES


@pytest.mark.skipif(bool(settings.REDIS_URL), reason="Redis has a queue of its own")
def test_a_message_in_our_tables_reaches_a_reader_that_waits():
    broker = get_broker()
    found = []

    def read():
        reader = get_broker()
        ends_at = time.monotonic() + patience(5)
        while not found and time.monotonic() < ends_at:
            found.extend(reader.dequeue() or [])
        reader.close()
        connection.close()

    reading = threading.Thread(target=read)
    reading.start()
    time.sleep(0.2)  # it waits by now
    began = time.monotonic()
    broker.enqueue("a message")
    reading.join(patience(5))
    assert [text for _, text in found] == ["a message"]
    assert time.monotonic() - began < patience(0.5)
