"""Peers: the work of figure A by Inspect, lm-eval and promptfoo, where `make peers` put them.

    .venv/bin/python benchmarks/peers.py [--samples 1000] [--delay 0.05] [--folder .venv/peers]

Each asks the same model server as we do, with 64 in flight, and keeps its samples where it always
keeps them. From the seconds of its command those of the same command over one sample are taken
off, since our server too is up before it is measured. A peer that is not installed is left out.
DATABASE_URL and REDIS_URL are used where they are set.
"""

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.chat_run import IN_FLIGHT, MODEL, WARM_SAMPLES, our_run, questions
from benchmarks.figures import ROOT, Figure, options_of, report
from benchmarks.platform_up import platform_up
from tests.model_server import ModelServer, running

# No peer may look for anything but the model server.
QUIET = {
    "OPENAI_API_KEY": "none",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "PROMPTFOO_DISABLE_TELEMETRY": "1",
    "PROMPTFOO_DISABLE_UPDATE": "1",
    "PROMPTFOO_DISABLE_REMOTE_GENERATION": "1",
}


@dataclass(frozen=True)
class Work:
    """The task of a peer: rows of `input` and `target`, in a folder of its own."""

    folder: Path
    server: ModelServer
    rows: Sequence[Mapping[str, str]]

    @property
    def rows_path(self) -> Path:
        return self.folder / "rows.jsonl"

    def write_json(self, name: str, content: Any) -> str:
        path = self.folder / name
        path.write_text(json.dumps(content))
        return str(path)


@dataclass(frozen=True)
class Peer:
    """program: where it is in the folder of peers. command: its arguments for some work."""

    name: str
    program: str
    command: Callable[[Work], list[str]]


def inspect_command(work: Work) -> list[str]:
    # It looks for tasks in the folder it runs in only.
    task = shutil.copy(ROOT / "benchmarks" / "peer_inspect.py", work.folder)
    return [
        *("eval", Path(task).name, "-T", f"rows={work.rows_path}"),
        *("--model", f"openai/{MODEL}", "-M", "responses_api=false", "--display", "none"),
        *("--max-connections", str(IN_FLIGHT), "--max-samples", str(IN_FLIGHT)),
        *("--log-dir", str(work.folder / "logs")),
    ]


def lm_eval_command(work: Work) -> list[str]:
    # JSON is YAML as well.
    work.write_json(
        "chat.yaml",
        {
            "task": "chat",
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(work.rows_path)}},
            "test_split": "test",
            "output_type": "generate_until",
            "doc_to_text": "{{input}}",
            "doc_to_target": "{{target}}",
            "generation_kwargs": {"until": ["\n\n"]},
            "metric_list": [
                {"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}
            ],
        },
    )
    address = f"{work.server.base_url}/chat/completions"
    return [
        *("run", "--model", "local-chat-completions", "--apply_chat_template", "--log_samples"),
        *("--model_args", f"model={MODEL},base_url={address},num_concurrent={IN_FLIGHT}"),
        *("--tasks", "chat", "--include_path", str(work.folder)),
        *("--output_path", str(work.folder / "output")),
    ]


def promptfoo_command(work: Work) -> list[str]:
    provider = {"id": f"openai:chat:{MODEL}", "config": {"apiBaseUrl": work.server.base_url}}
    tests = [
        {"vars": {"input": row["input"]}, "assert": [{"type": "equals", "value": row["target"]}]}
        for row in work.rows
    ]
    config = {"prompts": ["{{input}}"], "providers": [provider], "tests": tests}
    return [
        *("eval", "-c", work.write_json("promptfooconfig.json", config), "--no-cache"),
        *("--max-concurrency", str(IN_FLIGHT), "--no-table", "--no-progress-bar"),
        *("-o", str(work.folder / "output.json")),
    ]


PEERS = (
    Peer("Inspect", "python/bin/inspect", inspect_command),
    Peer("lm-eval", "python/bin/lm-eval", lm_eval_command),
    Peer("promptfoo", "node/node_modules/.bin/promptfoo", promptfoo_command),
)
# How many times as fast we are to be: design.md, section 4.
WANTED = {"Inspect": 15, "lm-eval": 2.5, "promptfoo": 5}


def seconds_of(peer: Peer, program: Path, server: ModelServer, samples: int) -> tuple[float, float]:
    """Of its whole command, and of the processor.

    Ends the benchmark when it fails or asks anything but each once.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = [{"input": asked, "target": reply} for asked, reply in questions(samples)]
        work = Work(folder, server, rows)
        work.rows_path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        command = [str(program), *peer.command(work)]
        homes = {"HF_HOME": name, "PROMPTFOO_CONFIG_DIR": name, "XDG_DATA_HOME": name}
        server.reset()
        began, used = time.perf_counter(), processor_seconds_of_children()
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, **QUIET, **homes, "OPENAI_BASE_URL": server.base_url},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        seconds = time.perf_counter() - began
        used = processor_seconds_of_children() - used
        asked = server.counts()["total"]
        if done.returncode or asked != samples:
            told = f"exit status {done.returncode}, {asked} of {samples} asked"
            raise SystemExit(f"{peer.name}: {told}\n{done.stdout[-3000:]}")
    return seconds, used


def processor_seconds_of_children() -> float:
    """Of the commands that this process has waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def figures(installed: Mapping[Peer, Path], samples: int, delay: float) -> list[Figure]:
    found = []
    with running(delay=delay) as server, platform_up() as platform:
        platform.add_model_server(server, IN_FLIGHT, MODEL)
        eval_id = platform.create_eval()
        our_run(platform, eval_id, min(samples, WARM_SAMPLES), MODEL)
        for peer, program in installed.items():
            seconds_of(peer, program, server, 1)  # the first start compiles its modules
            start, start_used = seconds_of(peer, program, server, 1)
            seconds, used = seconds_of(peer, program, server, samples)
            theirs, theirs_used = seconds - start, used - start_used
            ours, milliseconds = our_run(platform, eval_id, samples, MODEL)
            work = f"A: {samples:,} chat samples, {IN_FLIGHT} in flight, beside {peer.name}"
            found += [
                Figure(work, ours, "s", theirs, peer.name, ratio_at_least=WANTED[peer.name]),
                Figure(
                    f"{work}, processor time a sample",
                    milliseconds,
                    "ms",
                    theirs_used / samples * 1000,
                    peer.name,
                ),
            ]
            print(f"{peer.name}: {theirs:.1f} s and {start:.1f} s to start", flush=True)
    return found


def main() -> None:
    options = options_of(__doc__, samples=1_000, delay=0.05, folder=ROOT / ".venv" / "peers")
    installed = {}
    for peer in PEERS:
        program = options.folder.absolute() / peer.program
        if program.exists():
            installed[peer] = program
        else:
            print(f"{peer.name} is not installed: make peers", flush=True)
    found = figures(installed, options.samples, options.delay) if installed else []
    report(found, options)


if __name__ == "__main__":
    main()
