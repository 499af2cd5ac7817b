"""Read settings from the environment: each comes as NAME, or as a file that NAME_FILE points at."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

TRUE = {"1", "true", "yes", "on"}
FALSE = {"", "0", "false", "no", "off"}


def text(name: str, default: str = "") -> str:
    """Return the value of `name`, or the stripped content of the file that `name`_FILE names."""
    if path := os.environ.get(f"{name}_FILE"):
        try:
            return Path(path).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ImproperlyConfigured(f"{name}_FILE: {error}") from error
    return os.environ.get(name, default)


def flag(name: str, default: bool = False) -> bool:
    value = text(name, "1" if default else "0").lower()
    if value not in TRUE | FALSE:
        raise ImproperlyConfigured(f"{name} must be true or false, got {value!r}")
    return value in TRUE


def integer(name: str, default: int) -> int:
    value = text(name) or str(default)
    try:
        return int(value)
    except ValueError as error:
        raise ImproperlyConfigured(f"{name} must be a whole number, got {value!r}") from error


def seconds(name: str, default: float) -> float:
    value = text(name) or str(default)
    try:
        return float(value)
    except ValueError as error:
        raise ImproperlyConfigured(f"{name} must be a number of seconds, got {value!r}") from error


def words(name: str, default: str = "") -> list[str]:
    return [word.strip() for word in text(name, default).split(",") if word.strip()]


def kept_secret(name: str, data_dir: Path, make: Callable[[], str]) -> str:
    """Return the secret from the environment, else the one made on first start and kept in a file.

    The file in `data_dir` appears complete and once, readable by its owner only, so that two
    processes which start at the same moment agree on one value.
    """
    if value := text(name):
        return value
    path = data_dir / f"{name.lower()}.txt"
    if not path.exists():
        data_dir.mkdir(parents=True, exist_ok=True)
        draft = data_dir / f".{name.lower()}.{os.getpid()}"
        draft.touch(mode=0o600)
        draft.write_text(make(), encoding="utf-8")
        with suppress(FileExistsError):
            os.link(draft, path)
        draft.unlink()
    return path.read_text(encoding="utf-8").strip()
