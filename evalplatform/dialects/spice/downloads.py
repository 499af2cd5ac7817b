"""Fetch the datasets that a spicepod names by an https:// address."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO, Self

from django.conf import settings

SECONDS = 120
ALLOW_PRIVATE = False  # tests serve on loopback


def download(url: str, into: BinaryIO, **bounds: Any) -> None:
    """Call the core's download, which is loaded when it is needed."""
    from apps.clients import downloads  # noqa: PLC0415  aiohttp is slow to load, and rare

    downloads.download(url, into, **bounds)


def fetch(url: str, into: BinaryIO) -> None:
    """Write what a URL gives into a file, bounded like an upload. Raises DownloadFailed."""
    most = settings.MAX_UPLOAD_BYTES
    download(url, into, most_bytes=most, seconds=SECONDS, allow_private=ALLOW_PRIVATE)


class Downloads:
    """Files that were fetched, each once, when it is first opened; they go with the folder."""

    def __init__(self) -> None:
        self._folder = TemporaryDirectory()
        self._paths: dict[str, Path] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def opener(self, url: str) -> Callable[[], BinaryIO]:
        return lambda: self._open(url)

    def _open(self, url: str) -> BinaryIO:
        if url not in self._paths:
            path = Path(self._folder.name) / str(len(self._paths))
            with path.open("wb") as file:
                fetch(url, file)
            self._paths[url] = path
        return self._paths[url].open("rb")
