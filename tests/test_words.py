"""No vendor's word stands in the core but where a source or a contract is named."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
VENDORS = re.compile(
    r"openai|spice|llama_?cloud|llama_?index|llama|\bsgp|\bscale\.md|\bscale (?:genai|ai)\b"
    # What vendors call things that have names of our own.
    r"|evaluation_metric|testing_criteria|data_?source|\beval_id\b|output[ _]item|\bevalrun",
    re.IGNORECASE,
)
# A kind of server, whoever made it.
KIND_OF_SERVER = "OpenAI-compatible"
# In Python 3.12 and later the text of an f-string is a token of its own.
TEXTS = {tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}


def docstring_lines(source: str) -> set[int]:
    """The numbers of the lines, from 1, on which docstrings stand."""
    owners = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, owners) and ast.get_docstring(node) is not None:
            text = node.body[0]
            found.update(range(text.lineno, (text.end_lineno or text.lineno) + 1))
    return found


def without_sources(docstring: str) -> list[str]:
    """The lines of a docstring, with nothing in those that name a source.

    A source goes on to the end of its paragraph.
    """
    kept, is_source = [], False
    for line in docstring.split("\n"):
        words = line.strip().lstrip("\"'")
        is_source = words.startswith("Source:") or (is_source and bool(words))
        kept.append("" if is_source else line)
    return kept


def vendors_words(source: str) -> Iterator[tuple[int, str]]:
    """Every vendor's word in a module, with the number of its line."""
    in_docstrings = docstring_lines(source)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        lines = [token.string]
        if token.type == tokenize.COMMENT:
            lines = [] if token.string.startswith("# contract:") else lines
        elif token.type in TEXTS:
            is_docstring = token.start[0] in in_docstrings
            lines = without_sources(token.string) if is_docstring else token.string.split("\n")
        elif token.type != tokenize.NAME:
            continue
        for number, line in enumerate(lines, start=token.start[0]):
            for found in VENDORS.finditer(line.replace(KIND_OF_SERVER, "")):
                yield number, found.group()


@pytest.mark.parametrize(
    "line",
    [
        "openai_key = 1",
        'dialect = "openai"',
        "text = f'the {name} of Spice'",
        "# as SGP has it",
        '"""Reads what LlamaCloud sends."""',
        '"""Reads it.\n\nSource: docs/contracts/openai.md.\n\nAs OpenAI does.\n"""',
        "def read(evaluation_metric): pass",
        'path = "testing_criteria"',
        'settings["data_source"]',
        "eval_id = 1",
        "see = 'scale.md'",
        "# Source: docs/contracts/spice.md",
    ],
)
def test_a_vendors_word_is_seen(line):
    assert [*vendors_words(line)]


@pytest.mark.parametrize(
    "line",
    [
        '"""Score it.\n\nSource: docs/contracts/openai.md, section 13.1,\nand spice.md.\n"""',
        '"""Source: docs/contracts/spice.md."""',
        "# contract: openai section 3: in the order of the rows",
        'reason = "any OpenAI-compatible server"',
        "scale = 0.5  # of the picture",
        "retrieval_id = evaluation_id = 1",
    ],
)
def test_what_names_a_source_or_a_kind_of_server_is_none(line):
    assert [*vendors_words(line)] == []


def test_the_core_has_no_vendors_word():
    found = []
    for path in sorted((ROOT / "apps").rglob("*.py")):
        name = str(path.relative_to(ROOT))
        found += [f"{name}: {word}" for word in VENDORS.findall(name)]
        found += [f"{name}:{line}: {word}" for line, word in vendors_words(path.read_text())]
    assert found == []
