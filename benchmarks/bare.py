"""The least that anyone could do: the same work in one loop, stored in plain tables."""

import asyncio
import os
import sqlite3
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import psycopg

from tests.model_server import ModelServer

FLUSH_ROWS = 500


class Store:
    """A database of the kind that is measured, with nothing between us and its driver."""

    def __init__(self, connection: Any, mark: str) -> None:
        self.connection = connection
        self.mark = mark
        self.tables: list[str] = []

    def create(self, table: str, *columns: str) -> None:
        self.connection.execute(f"DROP TABLE IF EXISTS {table}")
        self.connection.execute(f"CREATE TABLE {table} ({', '.join(columns)})")
        self.connection.commit()
        self.tables.append(table)

    def insert(self, table: str, rows: Sequence[Sequence[Any]]) -> None:
        """Many rows by one statement, in a transaction of their own."""
        if rows:
            places = ", ".join([self.mark] * len(rows[0]))
            statement = f"INSERT INTO {table} VALUES ({places})"
            self.connection.cursor().executemany(statement, rows)
            self.connection.commit()

    def drop(self) -> None:
        for table in self.tables:
            self.connection.execute(f"DROP TABLE {table}")
        self.connection.commit()


@contextmanager
def store() -> Iterator[Store]:
    """Tables in a file of their own, or in the database that DATABASE_URL names, then gone."""
    url = os.environ.get("DATABASE_URL", "")
    if url.startswith("postgres"):
        with psycopg.connect(url) as connection:
            tables = Store(connection, "%s")
            yield tables
            tables.drop()
        return
    with tempfile.TemporaryDirectory() as folder:
        connection = sqlite3.connect(Path(folder) / "bare.sqlite3")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        yield Store(connection, "?")
        connection.close()


async def ask(
    server: ModelServer, questions: Sequence[tuple[str, str]], in_flight: int
) -> tuple[float, float]:
    """Ask, compare, insert in batches: seconds, and processor milliseconds a question.

    questions: each with the reply that passes.
    """
    waiting = iter(questions)
    done: list[tuple[str, str, int]] = []
    with store() as tables:
        tables.create("bare_reply", "question TEXT", "reply TEXT", "passed INTEGER")

        def flush() -> None:
            tables.insert("bare_reply", done)
            done.clear()

        async def work(session: aiohttp.ClientSession) -> None:
            for question, wanted in waiting:
                body = {"model": "m", "messages": [{"role": "user", "content": question}]}
                async with session.post(
                    f"{server.base_url}/chat/completions", data=orjson.dumps(body)
                ) as response:
                    reply = orjson.loads(await response.read())["choices"][0]["message"]["content"]
                done.append((question, reply, int(reply == wanted)))
                if len(done) >= FLUSH_ROWS:
                    flush()

        began, used = time.perf_counter(), time.process_time()
        connector = aiohttp.TCPConnector(limit=in_flight)
        async with aiohttp.ClientSession(connector=connector) as session:
            await asyncio.gather(*(work(session) for _ in range(in_flight)))
        flush()
        seconds, used = time.perf_counter() - began, time.process_time() - used
    return seconds, used / len(questions) * 1000
