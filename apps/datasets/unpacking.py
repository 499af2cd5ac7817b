"""Unpack gzip a part at a time, within bounds that a small file cannot be blown up beyond."""

import zlib
from collections.abc import Iterator
from typing import BinaryIO

READ_BYTES = 1024 * 1024
# So much may be unpacked from any file, however small.
FREE_BYTES = 64 * 1024 * 1024
# Beyond that so many bytes from each packed one. Text packs to a tenth, seldom to a hundredth.
RATIO = 200
MOST_BYTES = 4 * 1024**3

_GZIP = b"\x1f\x8b"
_WITH_HEADER = 31  # zlib's word for gzip's header and trailer


class BadFile(Exception):
    """A file cannot be read as rows, for a reason that is not one row's; the message tells it.

    asks: what its user can say to help: "encoding", "delimiter", or nothing.
    """

    def __init__(self, message: str, asks: str = "") -> None:
        super().__init__(message)
        self.asks = asks


def is_gzip(file: BinaryIO) -> bool:
    file.seek(0)
    return file.read(len(_GZIP)) == _GZIP


def pieces(file: BinaryIO) -> Iterator[bytes]:
    """Yield the bytes of an open file from its beginning."""
    file.seek(0)
    while piece := file.read(READ_BYTES):
        yield piece


def check_size(packed: int, unpacked: int) -> None:
    """Raise BadFile when so many bytes are too much for a file that is so small."""
    if unpacked <= FREE_BYTES:
        return
    if unpacked > MOST_BYTES:
        raise BadFile(f"unpacked it is larger than {MOST_BYTES:,} bytes")
    if unpacked > RATIO * packed:
        raise BadFile(f"unpacked it is more than {RATIO} times as large: unpack it yourself")


def unzipped(file: BinaryIO) -> Iterator[bytes]:
    """Yield the unpacked bytes of a gzip file, which may have several members one after another.

    Raises BadFile for what is no gzip, is cut off, or passes the bounds of `check_size`.
    """
    packed = unpacked = 0
    unpacker = zlib.decompressobj(_WITH_HEADER)
    for piece in pieces(file):
        packed += len(piece)
        rest = piece
        while rest:
            if unpacker.eof:
                # Another member follows, or zeros to pad a block.
                rest = rest.lstrip(b"\0")
                unpacker = zlib.decompressobj(_WITH_HEADER) if rest else unpacker
                continue
            try:
                data = unpacker.decompress(rest, READ_BYTES)
            except zlib.error:
                raise BadFile("it is broken: not all of it is gzip") from None
            unpacked += len(data)
            check_size(packed, unpacked)
            rest = unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail
            if data:
                yield data
    if not unpacker.eof:
        # What is left inside once all has been fed in.
        while data := unpacker.decompress(unpacker.unconsumed_tail, READ_BYTES):
            unpacked += len(data)
            check_size(packed, unpacked)
            yield data
        if not unpacker.eof:
            raise BadFile("it is cut off: its gzip has no end")
