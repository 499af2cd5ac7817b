"""Call a grader's grade() inside the sandbox; every kind of sandbox runs this same file.

It imports only the standard library, and of that only what WebAssembly has too: beside the
program that calls it, this is the only file of ours in a sandbox.
"""

import ast
import contextlib
import importlib
import linecache
import math
import struct
import sys
import traceback
import types
from typing import Any

# The first byte of a result. SCORED is followed by a float of eight bytes, RAISED and BROKEN by a
# text, NO_MEMORY by nothing.
SCORED, RAISED, NO_MEMORY, BROKEN = b"V", b"E", b"M", b"X"
SCORE = struct.Struct("<d")

FILE_NAME = "grader.py"
SIDE_EFFECTS = {"antigravity", "this"}  # opens a browser, prints a poem


def prepare(source: str) -> types.CodeType:
    """Compile the source without running it, and import its imports once for all cases."""
    tree = ast.parse(source, FILE_NAME)
    preload(tree)
    lines = [f"{line}\n" for line in source.split("\n")]
    linecache.cache[FILE_NAME] = (len(source), None, lines, FILE_NAME)
    return compile(tree, FILE_NAME, "exec")


def preload(tree: ast.Module) -> None:
    """Import the modules that the source names: the cases' processes then share their memory."""
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    for name in names:
        if name not in SIDE_EFFECTS:
            # The source imports it again, and then has the error in its own traceback.
            with contextlib.suppress(BaseException):
                importlib.import_module(name)


def as_score(returned: object) -> float:
    """Convert what grade() returned to a finite float.

    Raises TypeError, ValueError or OverflowError for all that is no finite number.
    """
    is_text = isinstance(returned, (str, bytes, bytearray))
    if is_text or not hasattr(type(returned), "__float__") or getattr(returned, "ndim", False):
        raise TypeError(f"grade() must return a number, not {type(returned).__name__}")
    value = float(returned)  # type: ignore[arg-type]  # it has __float__
    if not math.isfinite(value):
        raise ValueError(f"grade() must return a finite number, not {value}")
    return value


def traceback_text(error: BaseException, setup: dict[str, Any]) -> bytes:
    """Format the traceback as the grader's author would see it, without the frames of this file.

    A long one keeps its end. setup: see `call`.
    """
    length = setup["traceback_length"]
    frame = error.__traceback__
    while frame is not None and frame.tb_frame.f_code.co_filename == __file__:
        frame = frame.tb_next
    text = "".join(traceback.format_exception(type(error), error, frame))
    if isinstance(error, ModuleNotFoundError):
        text += f"{setup['offers']}\n"
    text = text if len(text) <= length else f"…{text[1 - length :]}"
    return text.encode(errors="backslashreplace")


def call(code: types.CodeType, case: dict[str, Any], setup: dict[str, Any]) -> bytes:
    """Run the source and its grade() on this case, and encode the result as above.

    setup: traceback_length, in characters; offers, the sentence that lists the importable
    packages after an import that failed.
    """
    module = types.ModuleType("grader")
    sys.modules["grader"] = module
    try:
        exec(code, module.__dict__)  # noqa: S102  what all of this is for
        if not callable(grade := module.__dict__.get("grade")):
            raise NameError("the source defines no function grade(sample, item)")
        return SCORED + SCORE.pack(as_score(grade(case["sample"], case["item"])))
    except MemoryError:
        return NO_MEMORY
    except BaseException as error:  # noqa: BLE001  SystemExit is an error like all others
        return RAISED + traceback_text(error, setup)
