"""The grader that runs its author's own Python, in a sandbox or not at all."""

import ast
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from apps import sandbox
from apps.grading.graders.base import BatchGrader, Fault, InvalidSetting, Mark
from apps.grading.samples import Sample

SOURCE_BYTES = 256_000
PARAMETER_COUNT = 2
RAISED, LOST, UNAVAILABLE = (
    "python_grader_runtime_error",
    "python_grader_server_error",
    "sandbox_unavailable",
)
FAULTS_WITH_SCORE = {RAISED, LOST}  # what they end counts as 0


@dataclass(frozen=True)
class PythonCode(BatchGrader):
    """Score by the number that the author's own `grade(sample, item)` returns.

    source: Python below 256,000 bytes that defines `grade` with two parameters: the answer, which
    always has `output_text`, `output_json`, `output_tools`, `output_audio` and `choices` (what is
    not there is None, "" or []), and the row's item. Every call runs the source anew, in a process
    of its own, on its own copy of both.
    pass_threshold: the score from which on a sample passes; without it a score above 0 passes.

    What is returned becomes a float and may lie outside 0..1. A traceback, None, text, NaN or
    infinity score 0 and do not pass, with the reason; so does what a limit ended. Only the value
    that grade() returns is a score.

    A call has 10 seconds and 2 GiB of memory (GRADER_SECONDS, GRADER_MEMORY_BYTES), 64 open files,
    no further processes, no network, no environment and no files but those of its Python. What it
    prints is thrown away. There is no limit for a batch: its calls come one after the other on as
    many cores as are free. Two runners, the first that works on the server's machine:

    bubblewrap (Linux): the server's own Python, its standard library and, in the versions installed
    beside the server, numpy, scipy, rapidfuzz and pyyaml; and, where the operator has installed
    them too, pandas, scikit-learn, sympy, nltk, rouge-score, deepdiff, jsonschema, pydantic,
    sqlparse, rdkit, scikit-bio and ast-grep-py. 64 threads, and 64 MiB in /tmp (GRADER_DISK_BYTES)
    which no other call sees.
    wasm (`make sandbox`: macOS, containers): Python 3.15 in WebAssembly, its standard library,
    numpy, scipy, pandas, scikit-learn, sympy and pyyaml; rapidfuzz in plain Python, and, where
    installed beside the server, nltk, rouge-score, deepdiff and sqlparse. No threads, and nothing
    can be written, /tmp included.
    An import that fails says which runner it was and what there is.
    Source: docs/contracts/openai.md, section 13.3.
    """

    kind = "python"

    source: str
    pass_threshold: float | None = None

    def __post_init__(self) -> None:
        if len(self.source.encode(errors="replace")) >= SOURCE_BYTES:
            raise InvalidSetting("source", f"source must be below {SOURCE_BYTES:,} bytes.")
        _check_signature(_parsed(self.source))

    def check_machine(self) -> None:
        if sandbox.find_runner() is None:
            raise InvalidSetting("type", sandbox.why_no_runner())

    def templates(self) -> tuple[str, ...]:
        return ()

    def grade_batch(self, samples: Sequence[Sample]) -> list[Mark]:
        runner = sandbox.find_runner()
        if runner is None:
            return [Mark.errored_by(UNAVAILABLE, sandbox.why_no_runner())] * len(samples)
        cases = [sandbox.Case(sample.sample, sample.item) for sample in samples]
        return [self._mark(result) for result in runner.run(self.source, cases, sandbox.limits())]

    def _mark(self, result: sandbox.CallResult) -> Mark:
        if result.end == "unavailable":
            return Mark.errored_by(UNAVAILABLE, result.text)
        if result.end == "raised":
            return Mark(0.0, False, error=Fault(RAISED, result.text))
        if result.end == "lost":
            return Mark(0.0, False, error=Fault(LOST, result.text))
        threshold = self.pass_threshold
        passed = result.value > 0 if threshold is None else result.value >= threshold
        return Mark(result.value, passed)


def _parsed(source: str) -> ast.Module:
    """Parse the source without running it. Raises InvalidSetting."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
            # Finds what the parser lets through, such as a return outside of a function.
            compile(tree, "grader.py", "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        raise InvalidSetting("source", f"source is not valid Python: {error}.") from error
    except (RecursionError, MemoryError) as error:
        raise InvalidSetting("source", "source is nested too deeply.") from error
    return tree


def _check_signature(tree: ast.Module) -> None:
    """Raise InvalidSetting unless the last `grade` takes exactly two positional arguments.

    A source without a visible `grade` is let through, since an import or an assignment may bind
    it; if nothing does, every sample fails.
    """
    found = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    grades = [node for node in found if node.name == "grade"]
    if not grades:
        return
    arguments = grades[-1].args
    count = len(arguments.posonlyargs) + len(arguments.args)
    others = arguments.vararg or arguments.kwonlyargs or arguments.kwarg
    if isinstance(grades[-1], ast.AsyncFunctionDef):
        raise InvalidSetting("source", "grade must be a plain function, not async.")
    if count != PARAMETER_COUNT or others:
        raise InvalidSetting("source", "grade must have exactly two parameters: sample and item.")
