"""Runs tools of the field as clients of a server of ours, and prints a tally: `make neighbours`.

Each is the newest release that requirements/neighbours.txt pins, in an environment of its own, and
goes its own usual way; what changes are the base URL, the key and the names of models. Ends with
status 1 where one fails.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.model_server import running
from tests.patience import patience
from tests.served import ROOT, Served
from tests.shared_server import Platform

HERE = Path(__file__).parent
HOME = ROOT / ".venv" / "neighbours"
PYTHON = HOME / "python" / "bin" / "python"
INSPECT = HOME / "python" / "bin" / "inspect"
PROMPTFOO = HOME / "node" / "node_modules" / ".bin" / "promptfoo"
MODEL = "echo-model"
# None of them may look for anything but the server.
QUIET = {
    "LANGSMITH_TRACING": "false",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "PROMPTFOO_DISABLE_TELEMETRY": "1",
    "PROMPTFOO_DISABLE_UPDATE": "1",
    "PROMPTFOO_DISABLE_REMOTE_GENERATION": "1",
    "LOGFIRE_SEND_TO_LOGFIRE": "false",
    "HF_HUB_OFFLINE": "1",
}


def script(name: str) -> Callable[[Path], list[str]]:
    return lambda folder: [str(PYTHON), str(HERE / name)]


def inspect(folder: Path) -> list[str]:
    # It takes a file of the folder that it is started in, no other.
    task = shutil.copy(HERE / "inspect_task.py", folder)
    return [
        *(str(INSPECT), "eval", Path(task).name, "--model", f"openai-api/ours/{MODEL}"),
        *("--log-dir", str(folder), "--log-format", "json", "--display", "plain"),
    ]


def inspect_says(folder: Path, _output: str) -> bool:
    [log] = folder.glob("*.json")
    told = json.loads(log.read_text())
    metrics = told["results"]["scores"][0]["metrics"]
    return told["status"] == "success" and metrics["mean"]["value"] == 1.0


def promptfoo(folder: Path) -> list[str]:
    tests = [
        {"vars": {"word": word}, "assert": [{"type": "equals", "value": f"Say {word}"}]}
        for word in ("one", "two", "three")
    ]
    providers = [{"id": f"openai:chat:{MODEL}", "config": {"temperature": 0}}]
    config = {"prompts": ["Say {{word}}"], "providers": providers, "tests": tests}
    (folder / "promptfooconfig.json").write_text(json.dumps(config))
    return [
        *(str(PROMPTFOO), "eval", "-c", str(folder / "promptfooconfig.json"), "--no-cache"),
        *("--no-table", "--no-progress-bar", "-o", str(folder / "output.json")),
    ]


def promptfoo_says(folder: Path, _output: str) -> bool:
    stats = json.loads((folder / "output.json").read_text())["results"]["stats"]
    return (stats["successes"], stats["failures"], stats["errors"]) == (3, 0, 0)


def went(_folder: Path, output: str) -> bool:
    return "went the whole way" in output


NEIGHBOURS: Mapping[str, tuple[Callable[[Path], list[str]], Callable[[Path, str], bool]]] = {
    "langchain-openai": (script("langchain_chat.py"), went),
    "litellm": (script("litellm_calls.py"), went),
    "pydantic-evals": (script("pydantic_dataset.py"), went),
    "Inspect": (inspect, inspect_says),
    "promptfoo": (promptfoo, promptfoo_says),
}


def try_one(name: str, platform: Platform) -> bool:
    command_of, is_good = NEIGHBOURS[name]
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        homes = {"HOME": text, "XDG_DATA_HOME": text, "PROMPTFOO_CONFIG_DIR": text}
        where = {
            "OPENAI_BASE_URL": platform.openai_url,
            "OPENAI_API_BASE": platform.openai_url,
            "OPENAI_API_KEY": platform.key,
            "OURS_BASE_URL": platform.openai_url,
            "OURS_API_KEY": platform.key,
        }
        began = time.perf_counter()
        done = subprocess.run(
            command_of(folder),
            cwd=folder,
            env={**os.environ, **QUIET, **homes, **where},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=patience(300),
            check=False,
        )
        went_well = done.returncode == 0 and is_good(folder, done.stdout)
    seconds = time.perf_counter() - began
    print(f"{name:20} {'went the whole way' if went_well else 'FAILED':20} {seconds:5.1f} s")
    if not went_well:
        print(done.stdout[-5000:])
    return went_well


def main() -> None:
    if not (PYTHON.exists() and PROMPTFOO.exists()):
        raise SystemExit("Run `make neighbours`, which installs them first.")
    wanted = sys.argv[1:] or [*NEIGHBOURS]
    with running() as models, tempfile.TemporaryDirectory() as folder, Served(Path(folder)) as up:
        unopened = Platform(up, models, "")
        key = unopened.open_account("neighbours", MODEL, "tool:weather:answer:A hat")
        up.manage(
            *("add_endpoint", "--account", "neighbours", "--base-url", models.base_url),
            *("--allow-private", "--embedding-model", "vectors"),
        )
        platform = Platform(up, models, key)
        good = [try_one(name, platform) for name in wanted]
    print(f"{sum(good)} of {len(good)} went the whole way")
    sys.exit(not all(good))


if __name__ == "__main__":
    main()
