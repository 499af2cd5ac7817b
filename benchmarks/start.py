"""How long a clean clone takes, with pip's cache warm, until `make demo` shows its table.

    .venv/bin/python benchmarks/start.py

The reference is the share of it in which pip installs what the demo needs. Needs git and make.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.figures import ROOT, Figure, options_of, report
from tests.served import free_port

LAST_WORDS = "Ctrl-C stops it."
MOST_SECONDS = 60
# The demo would compare a model of the caller's, or use the data of who runs this.
NOT_INHERITED = ("DATABASE_URL", "REDIS_URL", "DATA_DIR", "OPENAI_API_KEY", "OPENAI_BASE_URL")


def seconds_to_start(folder: Path) -> tuple[float, float]:
    """Of installing alone, and of everything. Raises SystemExit with the demo's output."""
    environment = {key: value for key, value in os.environ.items() if key not in NOT_INHERITED}
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    began = time.perf_counter()
    make = ["make", "--directory", str(folder)]
    subprocess.run([*make, ".venv/base.stamp"], env=environment, stdout=sys.stderr, check=True)
    installed = time.perf_counter() - began
    demo = subprocess.Popen(
        [*make, "demo", f"PORT={free_port()}"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    said = []
    try:
        assert demo.stdout is not None
        for line in demo.stdout:
            said.append(line)
            if LAST_WORDS in line:
                return installed, time.perf_counter() - began
    finally:
        os.killpg(demo.pid, signal.SIGINT)
        demo.communicate(timeout=30)
    raise SystemExit(f"the demo ended by itself:\n{''.join(said)}")


def main() -> int:
    options = options_of(__doc__)
    with tempfile.TemporaryDirectory() as folder:
        installed, everything = seconds_to_start(Path(folder, "clone"))
    report(
        [
            Figure(
                "start: from a clean clone to the demo's table",
                everything,
                "s",
                installed,
                "installing its packages",
                at_most=MOST_SECONDS,
            )
        ],
        options,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
