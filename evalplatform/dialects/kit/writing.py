"""Write a file so that a half-written one never bears its name."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def in_one_go(path: Path) -> Iterator[Path]:
    """A draft beside the file, which takes its name when the block ends well."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield draft
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
