"""Write a file so that a half-written one never has its name."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def in_one_go(path: Path) -> Iterator[Path]:
    """Yield the path of a draft, which takes the file's name when the block succeeds."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield draft
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
