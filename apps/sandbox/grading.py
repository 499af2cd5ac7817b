"""Call a grader's grade(), inside whatever keeps it there; the same in every sandbox.

Standard library only, and none of it that WebAssembly lacks: this file is all that a sandbox has
of ours besides the program that calls it.
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

# A result is one of these, then eight bytes of float or a text.
SCORED, RAISED, NO_MEMORY, BROKEN = b"V", b"E", b"M", b"X"
SCORE = struct.Struct("<d")

FILE_NAME = "grader.py"
SIDE_EFFECTS = {"antigravity", "this"}


def prepare(source: str) -> types.CodeType:
    """Compile the source and import what it imports, once for all cases. Runs nothing of it."""
    tree = ast.parse(source, FILE_NAME)
    preload(tree)
    lines = [f"{line}\n" for line in source.split("\n")]
    linecache.cache[FILE_NAME] = (len(source), None, lines, FILE_NAME)
    return compile(tree, FILE_NAME, "exec")


def preload(tree: ast.Module) -> None:
    """Import what the source names; all that can be found yet is the library and the packages."""
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    for name in names:
        if name not in SIDE_EFFECTS:
            # Whoever imports it in vain is told so in its own traceback.
            with contextlib.suppress(BaseException):
                importlib.import_module(name)


def as_score(returned: object) -> float:
    """The float that grade() returned. Raises TypeError, ValueError or OverflowError for others."""
    is_text = isinstance(returned, (str, bytes, bytearray))
    if is_text or not hasattr(type(returned), "__float__") or getattr(returned, "ndim", False):
        raise TypeError(f"grade() must return a number, not {type(returned).__name__}")
    value = float(returned)  # type: ignore[arg-type]
    if not math.isfinite(value):
        raise ValueError(f"grade() must return a finite number, not {value}")
    return value


def traceback_text(error: BaseException, setup: dict[str, Any]) -> bytes:
    """The traceback as the grader's author would see it: without this file, its end if long."""
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
    """Run the source and its grade() on this case; what came of it, in the words of the channel.

    setup: traceback_length, in characters; offers, what an import that fails is told there is.
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
    except BaseException as error:  # noqa: BLE001  SystemExit is no score either
        return RAISED + traceback_text(error, setup)
