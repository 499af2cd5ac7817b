"""Read the rows of a file in any format we know, which is found out where nobody says it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import PurePath
from tempfile import TemporaryFile
from typing import Any, BinaryIO

from apps.datasets import unpacking
from apps.datasets.json_rows import read_json
from apps.datasets.parquet_rows import read_parquet
from apps.datasets.sniffing import HEAD_BYTES, Shape, magic_format, sniff_text
from apps.datasets.tabular import BadRow, Row, read_csv, read_jsonl
from apps.datasets.text_encodings import UTF8, Encoding, as_utf8, find_encoding, named
from apps.datasets.unpacking import BadFile
from apps.datasets.workbook_rows import read_workbook, sheet_name

Rows = Iterator[Row | BadRow]
Watch = Callable[[int], None]


@dataclass(frozen=True)
class FileFormat:
    """A format of files of rows. read: takes the file where it must seek in it, else its bytes.

    A reader raises BadFile for what is wrong with the whole file, and reads a part at a time.
    """

    endings: tuple[str, ...]
    read: Callable[..., Rows]
    needs_file: bool = False


# The one table of what is read, by which ending, and how.
FORMATS: dict[str, FileFormat] = {
    "jsonl": FileFormat((".jsonl", ".ndjson"), read_jsonl),
    "json": FileFormat((".json",), read_json),
    "csv": FileFormat((".csv", ".tsv"), read_csv),
    "parquet": FileFormat((".parquet", ".pq"), read_parquet, needs_file=True),
    "xlsx": FileFormat((".xlsx", ".xlsm"), read_workbook, needs_file=True),
}
GZIP_ENDING = ".gz"


@dataclass(frozen=True)
class ReadingOptions:
    """Settings that the user gives for a file; those that are empty are found out."""

    format: str = ""
    encoding: str = ""
    delimiter: str = ""

    def __post_init__(self) -> None:
        if len(self.delimiter) > 1:
            raise BadFile(f"a delimiter is one character, unlike {self.delimiter!r}", "delimiter")


@dataclass(frozen=True)
class Findings:
    """The shape, encoding and packing that a file turned out to have."""

    shape: Shape
    encoding: Encoding | None
    is_packed: bool

    @property
    def told(self) -> str:
        encoding = f", in {self.encoding.told}" if self.encoding else ""
        return f"{self.shape.told}{encoding}{', unpacked from gzip' if self.is_packed else ''}"


class Reading:
    """The rows of an open file, read once, and what the file turned out to be.

    Iterating raises BadFile for what is wrong with more than a row.
    """

    def __init__(
        self, file: BinaryIO, findings: Findings, source: BinaryIO, watch: Watch | None
    ) -> None:
        self.findings = findings
        self.told = findings.told
        self._file, self._source, self._watch = file, source, watch

    def __iter__(self) -> Rows:
        shape = self.findings.shape
        form = FORMATS[shape.format]
        if form.needs_file:
            self._file.seek(0)
            return form.read(self._file)
        text = as_utf8(self._chunks(), self.findings.encoding or UTF8)
        if shape.format == "csv":
            return read_csv(text, delimiter=shape.delimiter, index=shape.index)
        return form.read(text)

    def _chunks(self) -> Iterator[bytes]:
        """Yield the text, and tell the watcher how much of the file was read."""
        for chunk in _texts(self._file):
            if self._watch is not None:
                self._watch(self._source.tell())
            yield chunk


@contextmanager
def open_rows(
    file: BinaryIO,
    name: str = "",
    options: ReadingOptions | None = None,
    *,
    found: Findings | None = None,
    watch: Watch | None = None,
) -> Iterator[Reading]:
    """Find out what a file is, and give its rows; nothing of it but a part is in memory.

    file: that can be sought in. name: whose ending decides what the content does not. found: what
    an earlier call found out. watch: is told how many bytes were read. Raises BadFile, which
    `asks` for what its user could say.
    """
    options = options or ReadingOptions()
    source = file
    is_packed = unpacking.is_gzip(file)
    with ExitStack() as open_files:
        binary = _binary_format(file, name, options)
        if binary and is_packed:
            file = open_files.enter_context(_unpacked(file))
        if found is None and binary:
            told = (
                f"the sheet {sheet_name(file)!r} of a workbook" if binary == "xlsx" else "Parquet"
            )
            found = Findings(Shape(binary, told), None, is_packed)
        yield Reading(file, found or _sniff(file, name, options, is_packed), source, watch)


def _binary_format(file: BinaryIO, name: str, options: ReadingOptions) -> str:
    """Return the format of a file that is no text; "" of a text. Raises BadFile."""
    looks_like = magic_format(_head(_texts(file)))
    if options.format and looks_like not in {"", options.format}:
        raise BadFile(f"it is no {options.format}, but seems to be {looks_like}")
    wanted = options.format or looks_like or format_of(name) or ""
    return wanted if wanted and FORMATS[wanted].needs_file else ""


def _sniff(file: BinaryIO, name: str, options: ReadingOptions, is_packed: bool) -> Findings:
    encoding = named(options.encoding) if options.encoding else find_encoding(_texts(file))
    text = _head(as_utf8(_texts(file), encoding))
    shape = sniff_text(
        text[:HEAD_BYTES],
        is_whole=len(text) <= HEAD_BYTES,
        format=options.format,
        ending=_ending(name),
        delimiter=options.delimiter,
    )
    return Findings(shape, encoding, is_packed)


def _texts(file: BinaryIO) -> Iterator[bytes]:
    return unpacking.unzipped(file) if unpacking.is_gzip(file) else unpacking.pieces(file)


def _head(chunks: Iterator[bytes]) -> bytes:
    """Return the beginning, longer than HEAD_BYTES where there is more."""
    head = bytearray()
    for chunk in chunks:
        head += chunk
        if len(head) > HEAD_BYTES:
            break
    return bytes(head)


@contextmanager
def _unpacked(file: BinaryIO) -> Iterator[BinaryIO]:
    """Unpack a gzip file to one on disk, for a reader that must seek in it."""
    with TemporaryFile() as copy:
        for chunk in unpacking.unzipped(file):
            copy.write(chunk)
        yield copy


@contextmanager
def seekable(file: BinaryIO) -> Iterator[BinaryIO]:
    """Give a file that can be sought in: itself, or a copy on disk."""
    if file.seekable():
        yield file
        return
    with TemporaryFile() as copy:
        while piece := file.read(unpacking.READ_BYTES):
            copy.write(piece)
        yield copy


@dataclass(frozen=True)
class RowFile:
    """A file that can be read from its beginning as often as one likes.

    label: what its user calls it, whose ending counts. options: what is said of it.
    """

    label: str
    open: Callable[[], BinaryIO]
    options: ReadingOptions = field(default_factory=ReadingOptions)
    _found: list[Findings] = field(default_factory=list, compare=False)

    @property
    def told(self) -> str:
        """Say what the file turned out to be, once it was read."""
        return self._found[0].told if self._found else ""

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield the rows in order, a few at a time. Raises BadFile at the first bad one."""
        with self._named_faults(), self.open() as file:
            known = next(iter(self._found), None)
            with open_rows(file, self.label, self.options, found=known) as reading:
                self._found[:] = [reading.findings]
                for row in reading:
                    if isinstance(row, BadRow):
                        raise BadFile(f"{row.place}: {row.message}")
                    yield row.value

    @contextmanager
    def _named_faults(self) -> Iterator[None]:
        try:
            yield
        except BadFile as error:
            raise BadFile(f"{self.label}: {error}", error.asks) from error
        except OSError as error:
            raise BadFile(f"{self.label}: {error.strerror or error}") from error


def format_of(filename: str) -> str | None:
    """Tell the key in FORMATS by the name's ending; None when it is none we read."""
    ending = PurePath(_without_gz(filename)).suffix.lower()
    return next((name for name, one in FORMATS.items() if ending in one.endings), None)


def stem_of(filename: str) -> str:
    """Return a file's name without its ending, and without that of gzip."""
    return PurePath(_without_gz(filename)).stem


def _without_gz(filename: str) -> str:
    if filename.lower().endswith(GZIP_ENDING):
        return filename[: -len(GZIP_ENDING)]
    return filename


def _ending(name: str) -> str:
    """Return the format that the name tells; a table parted by tabs is told from others."""
    if PurePath(_without_gz(name)).suffix.lower() == ".tsv":
        return "tsv"
    return format_of(name) or ""
