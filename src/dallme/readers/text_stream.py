"""Text files as streams of characters: encodings are detected, and lines have a maximum length."""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

from dallme.errors import InputError
from dallme.readers.formats import CHUNK, DataFile, LimitedStream
from dallme.readers.rows import readable_as

#: Bytes of the longest line, of the sample that an encoding is detected on, and of a piece of a line in it.
MAX_LINE, _SAMPLE, _PIECE = 1 << 26, 1 << 17, 1 << 12

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

#: Encodings that are considered where neither UTF-8 nor Windows-1252 fits.
_LEGACY = (
    "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "koi8_r", "mac_roman",
    "cp932", "euc_jp", "gb18030", "big5", "cp949",
)  # fmt: skip

#: Windows-1252 read in place of another encoding: a sign within a word, or a capital after a small letter.
_SIGN_IN_WORD = re.compile(r"[^\W\d_](?:[^\w\s\x00-\x7f’‘–—·\xad\xa0]|[¹²³¼½¾])[^\W\d_]")
_CAPITAL_IN_WORD = re.compile(r"[a-zà-ÿ][À-ÞŠŽŒŸ]")

#: Letters that few bytes of other encodings give in one of Japanese.
_HIRAGANA = re.compile("[\u3041-\u309f]")


@dataclass(frozen=True)
class Encoding:
    """The encoding of a file.

    Attributes:
        name: Its name in Python.
        signs: Characters beyond ASCII that it was detected by; blank where it needs no mention.
    """

    name: str
    signs: str = ""

    @property
    def title(self) -> str:
        """Its usual name."""
        return "Windows-" + self.name[2:] if self.name.startswith("cp125") else self.name.upper()

    def notes(self, source: str) -> tuple[str, ...]:
        """Returns a note for the user if the encoding is not as usual."""
        return (f"{source}: read as {self}; --encoding overrules",) if self.signs else ()

    def __str__(self) -> str:
        """Its usual name, and how it was detected."""
        return f"{self.title} (by {self.signs})"


def find_encoding(file: DataFile, *, lines: bool = False) -> Encoding:
    """Returns the encoding that the user named, or detects it: UTF-8, UTF-16, UTF-32, or a legacy one.

    Args:
        file: The file.
        lines: Whether a line of more than :data:`MAX_LINE` bytes is an error.

    Raises:
        InputError: If the file is too large, binary, or UTF-8 with a few invalid bytes.
    """
    if file.options.encoding:
        return Encoding(file.options.encoding)
    with readable_as("text", file.name):
        with file.open() as stream:
            head = stream.read(4096)
        for mark, name in _MARKS:
            if head.startswith(mark):
                return Encoding(name, "" if name == "utf-8" else "a byte order mark")
        if head.count(0) * 4 > len(head):
            return _wide(file, head)
        if _is_utf8(file, lines=lines):
            return Encoding("utf-8")
        return _legacy(file)


def _wide(file: DataFile, head: bytes) -> Encoding:
    """Tells the byte order of UTF-16 without a mark by the zeros of its ASCII characters."""
    name = "utf-16-le" if head[1::2].count(0) > head[::2].count(0) else "utf-16-be"
    text = head[: len(head) // 2 * 2].decode(name, "replace")
    if "\0" in text or "\ufffd" in text[:-1]:
        raise InputError(f"{file.name}: expected text, found NUL bytes; is the file binary or misnamed?")
    return Encoding(name, "zero bytes")


def _is_utf8(file: DataFile, *, lines: bool) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    with LineStream(file) if lines else LimitedStream(file) as stream:
        try:
            while content := stream.read(CHUNK):
                decoder.decode(content)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return False
    return True


def _legacy(file: DataFile) -> Encoding:
    """Detects an encoding of one or two bytes a character.

    Raises:
        InputError: If most lines beyond ASCII are UTF-8, so that the file is damaged, or no encoding fits.
    """
    sample, valid, invalid = _sample(file)
    candidates = _candidates(sample) if invalid > valid else []
    if not candidates:
        raise InputError(
            f"{file.name}: expected UTF-8, found other bytes in {_bad_line(file, 'utf-8')}; "
            "save it as UTF-8, or name its encoding with --encoding"
        )
    signs = dict.fromkeys(char for char in sample.decode(candidates[0], "replace") if not char.isascii())
    return Encoding(candidates[0], " ".join(list(signs)[:5]))


def _sample(file: DataFile) -> tuple[bytes, int, int]:
    """Returns pieces of lines beyond ASCII, and how many of all these are UTF-8 and how many are not."""
    sample, counts = bytearray(), [0, 0]
    with file.open() as stream:
        while piece := stream.readline(_PIECE):
            if not piece.isascii():
                try:
                    piece.decode()
                    counts[0] += 1
                except UnicodeDecodeError:
                    counts[1] += 1
                if len(sample) < _SAMPLE:
                    sample += piece
    return bytes(sample), counts[0], counts[1]


def _candidates(sample: bytes) -> list[str]:
    """Returns encodings that fit, the likeliest first.

    Windows-1252 comes first where it makes plausible words and most letters are ASCII. Otherwise
    charset-normalizer decides, which is not reliable on a few accents.
    """
    high = sum(byte > 127 for byte in sample)
    letters = sum(chr(byte).isalpha() for byte in sample if byte < 128)
    if high <= letters and _makes_words(sample, "cp1252"):
        return ["cp1252"]
    for name in ("cp932", "euc_jp"):
        text = sample.decode(name, "replace")
        if len(_HIRAGANA.findall(text)) * 4 > sum(not char.isascii() for char in text):
            return [name]
    from charset_normalizer import from_bytes

    found = [match.encoding for match in from_bytes(sample, cp_isolation=list(_LEGACY))]
    return sorted(found, key=lambda name: not _makes_words(sample, name))


def _makes_words(sample: bytes, encoding: str) -> bool:
    """Returns whether an encoding fits, and few words have a sign or a capital within."""
    try:
        text = sample.decode(encoding)
    except UnicodeDecodeError:
        return False
    odd = len(_SIGN_IN_WORD.findall(text)) + len(_CAPITAL_IN_WORD.findall(text))
    return odd * 20 <= sum(not char.isascii() for char in text)


class LineStream(LimitedStream):
    """Content in which a line of more than :data:`MAX_LINE` bytes is an error."""

    def __init__(self, file: DataFile) -> None:
        super().__init__(file)
        self._start = 0  # of the line that goes on in the next chunk

    def _next(self, size: int) -> bytes:
        before, content = self._size, super()._next(size)
        if self._size - self._start > MAX_LINE:
            end = re.search(rb"[\r\n]", content)
            if (before + end.start() if end else self._size) - self._start > MAX_LINE:
                raise InputError(
                    f"{self._file.name}: expected lines of at most {MAX_LINE:,} bytes, "
                    f"found line {_line_number(self._file, self._start):,}"
                )
        if last := 1 + max(content.rfind(b"\n"), content.rfind(b"\r")):
            self._start = before + last
        return content


@contextmanager
def open_text(file: DataFile, encoding: Encoding, *, lines: bool = False) -> Iterator[IO[str]]:
    """Opens a file as text; a byte order mark is dropped and line endings are kept.

    Args:
        file: The file.
        encoding: Its encoding.
        lines: Whether a line of more than :data:`MAX_LINE` bytes is an error.

    Raises:
        InputError: If it has another encoding, or is too large.
    """
    codec = "utf-8-sig" if codecs.lookup(encoding.name).name == "utf-8" else encoding.name
    with readable_as("text", file.name):
        try:
            content = LineStream(file) if lines else LimitedStream(file)
            with io.TextIOWrapper(content, encoding=codec, newline="") as stream:  # type: ignore[type-var]
                yield stream
        except UnicodeDecodeError:
            raise InputError(
                f"{file.name}: expected {encoding.title}, found other bytes in "
                f"{_bad_line(file, encoding.name)}; name its encoding with --encoding"
            ) from None
        except UnicodeError as error:  # such as UTF-16 without a byte order mark
            raise InputError(f"{file.name}: expected {encoding.title}, found other bytes: {error}") from None


def _line_number(file: DataFile, position: int) -> int:
    """Returns the number of the line at a position in the content."""
    number = 1
    with file.open() as stream:
        while position and (chunk := stream.read(min(position, CHUNK))):
            number += chunk.count(b"\n") or chunk.count(b"\r")
            position -= len(chunk)
    return number


def _bad_line(file: DataFile, encoding: str) -> str:
    """Names the first line that is not in an encoding, and its first invalid byte."""
    with file.open() as stream:
        for number, line in enumerate(stream, start=1):
            try:
                line.decode(encoding)
            except UnicodeDecodeError as error:
                return f"line {number:,}: byte 0x{line[error.start]:02x}"
            except UnicodeError:
                break
    return "its last line"
