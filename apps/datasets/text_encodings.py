"""Find the encoding of a text, and rewrite it as UTF-8."""

import codecs
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from apps.datasets.unpacking import BadFile

SAMPLE_BYTES = 128 * 1024
# A line that is longer is cut for the count of valid lines.
LINE_BYTES = 4 * 1024 * 1024

_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
# What spreadsheets and editors write; a guess among all that exist finds nonsense in short texts.
GUESSED = (
    *("cp1252", "cp1250", "cp1251", "koi8_r", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257"),
    *("cp932", "euc_jp", "gb18030", "big5", "cp949"),
)
NAMES = {
    "utf-8": "UTF-8",
    "utf-16": "UTF-16",
    "utf-16-le": "UTF-16",
    "utf-16-be": "UTF-16",
    "utf-32": "UTF-32",
    "cp1252": "Windows-1252 (Latin-1)",
    "iso8859-1": "Latin-1",
}
COMMONEST = "cp1252"
SLIGHT = 0.02  # a difference in how odd a text looks that tells nothing
# A word with a letter that is none of ASCII's, by which people see whether a guess is right.
_WORD = re.compile(r"\w*[^\W\x00-\x7f]\w*")


@dataclass(frozen=True)
class Encoding:
    """An encoding by its codec's name. told: how it is called, and whether it is a guess."""

    codec: str
    told: str

    @property
    def is_utf8(self) -> bool:
        return self.codec == "utf-8"


UTF8 = Encoding("utf-8", "UTF-8")


def named(name: str) -> Encoding:
    """Return the encoding that its user names. Raises BadFile."""
    try:
        found = codecs.lookup(name)
        "".encode(found.name)  # some codecs are none of text
    except (LookupError, ValueError, TypeError):
        raise BadFile(f"there is no encoding {name[:60]!r}", "encoding") from None
    codec = "utf-8" if found.name == "utf-8-sig" else found.name
    return Encoding(codec, NAMES.get(codec, found.name))


def find_encoding(chunks: Iterable[bytes]) -> Encoding:
    """Read all bytes to find their encoding: by a mark, as UTF-8, or by a guess that says so.

    Where most of the lines with other letters than ASCII's are UTF-8, it is UTF-8 with faults,
    which its reader names. Raises BadFile, which asks, where nothing fits.
    """
    source = iter(chunks)
    head = next(source, b"")
    while len(head) < 4 and (more := next(source, b"")):
        head += more
    for mark, codec in _MARKS.items():
        # UTF-32's mark of little ends begins with UTF-16's, and stands before it.
        if head.startswith(mark):
            return Encoding(codec, NAMES[codec])
    if codec := _by_zeros(head[:4096]):
        return Encoding(codec, NAMES[codec])
    lines = _Lines()
    lines.take(head)
    for chunk in source:
        lines.take(chunk)
    lines.end()
    if lines.wrong <= lines.right:
        return UTF8
    if b"\0" in head:
        raise BadFile("it is no text, and of no format that is read here")
    return _guess(bytes(lines.sample))


def as_utf8(chunks: Iterable[bytes], encoding: Encoding) -> Iterator[bytes]:
    """Rewrite a text as UTF-8. Raises BadFile for bytes that are none of its encoding."""
    if encoding.is_utf8:
        yield from chunks
        return
    decoder = codecs.getincrementaldecoder(encoding.codec)()
    try:
        for chunk in chunks:
            yield decoder.decode(chunk).encode()
        yield decoder.decode(b"", final=True).encode()
    except UnicodeError as error:
        reason = getattr(error, "reason", str(error))
        raise BadFile(f"not valid {encoding.told}: {reason}", "encoding") from None


def _by_zeros(head: bytes) -> str:
    """Tell UTF-16 without a mark by the zeros of its ASCII letters; "" where there are none."""
    even, odd = head[::2].count(0), head[1::2].count(0)
    most = len(head) // 4
    if odd > most and odd > 4 * even:
        return "utf-16-le"
    return "utf-16-be" if even > most and even > 4 * odd else ""


class _Lines:
    """Counts the lines with other letters than ASCII's that are UTF-8, and those that are not.

    sample: the latter, as far as SAMPLE_BYTES.
    """

    def __init__(self) -> None:
        self.right = self.wrong = 0
        self.sample = bytearray()
        self._held = b""

    def take(self, chunk: bytes) -> None:
        data = self._held + chunk
        cut = data.rfind(b"\n") + 1
        if not cut and len(data) > LINE_BYTES:
            # Between two ASCII letters there is no letter of UTF-8.
            cut = next((at for at in range(len(data), 0, -1) if data[at - 1] < 128), 0)
        body, self._held = data[:cut], data[cut:]
        self._count(body)

    def end(self) -> None:
        self._count(self._held)

    def _count(self, body: bytes) -> None:
        if body.isascii():
            return
        try:
            body.decode()
        except UnicodeDecodeError:
            for line in body.split(b"\n"):
                self._count_line(line)
        else:
            self.right += 1 + body.count(b"\n")

    def _count_line(self, line: bytes) -> None:
        if line.isascii():
            return
        try:
            line.decode()
        except UnicodeDecodeError:
            self.wrong += 1
            if len(self.sample) < SAMPLE_BYTES:
                self.sample += line[:SAMPLE_BYTES] + b"\n"
        else:
            self.right += 1


def _guess(sample: bytes) -> Encoding:
    # It costs a tenth of a second to import, and few files need it.
    from charset_normalizer import from_bytes  # noqa: PLC0415  as the comment says

    found = from_bytes(sample, cp_isolation=list(GUESSED))
    best = found.best()
    if best is None:
        raise BadFile("it is not UTF-8, and no other encoding was recognised", "encoding")
    # Few letters fit many encodings: then the most common one is the likeliest.
    codec = next(
        (
            COMMONEST
            for match in found
            if match.chaos <= best.chaos + SLIGHT
            and COMMONEST in {match.encoding, *match.could_be_from_charset}
        ),
        best.encoding,
    )
    text = sample.decode(codec, errors="replace")
    seen = _WORD.search(text)
    return Encoding(codec, f"{NAMES.get(codec, codec)}, guessed from {seen[0] if seen else ''!r}")
