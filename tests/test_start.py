"""No process loads, when it starts, what it may never need."""

import os
import subprocess
import sys

SLOW_TO_LOAD = {"aiohttp", "bm25s", "numpy", "pyarrow", "redis", "scipy", "wasmtime"}
STARTS = f"""
import sys
import django

django.setup()
import apps.clients.bm25
import apps.grading.statistics
import evalplatform.management.commands.qcluster
import evalplatform.management.commands.up
import evalplatform.wsgi

apps.grading.statistics.rate(1, 2)
print(*sorted({SLOW_TO_LOAD} & sys.modules.keys()))
"""


def test_neither_a_command_nor_a_worker_nor_the_web_loads_what_is_slow_to_load():
    services = {"DATABASE_URL": "", "REDIS_URL": ""}
    done = subprocess.run(
        [sys.executable, "-c", STARTS], env=os.environ | services, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("\n", "")
