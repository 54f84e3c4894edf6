"""Readers of word-vector files: GloVe text, word2vec text and binary, plain or in gzip or zip."""

from __future__ import annotations

import gzip
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, cast

import numpy as np

from dallme.errors import InputError

#: Bytes read at once.
BLOCK_BYTES = 8 * 2**20
#: Longest line in bytes and largest dimension; longer ones count as damage.
MAX_LINE_BYTES, MAX_DIMENSION = 2**23, 100_000

#: Words, and their vectors as float32 of shape (b, d).
Block = tuple[list[str], np.ndarray]


def read_blocks(path: Path, member: str | None = None) -> Iterator[Block]:
    """Reads a file of word vectors block by block.

    Files named ``.bin`` are in word2vec's binary format. All others are text, with a word and its numbers per
    line, and word2vec's header or not. ``.gz`` and ``.zip`` are unpacked in memory.

    Args:
        path: The file.
        member: The file in a zip archive; optional if there is only one.

    Yields:
        Blocks of words and vectors, in the order of the file.

    Raises:
        InputError: If the file is damaged; the message names the line, or the word of a binary file.
    """
    try:
        with _open(path, member) as (stream, name):
            yield from (
                _binary_blocks(stream, name)
                if name.removesuffix(".gz").endswith(".bin")
                else _text_blocks(stream, name)
            )
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise InputError(
            f"expected word vectors in {str(path)!r}, cannot read it: {error}; is it whole?"
        ) from None


@contextmanager
def _open(path: Path, member: str | None) -> Iterator[tuple[IO[bytes], str]]:
    """Opens and unpacks a file; yields the stream and the name that determines its format."""
    if path.suffix == ".zip":
        with ExitStack() as stack:
            try:
                archive = stack.enter_context(zipfile.ZipFile(path))
                name = _choose(archive, path, member)
                stream = stack.enter_context(archive.open(name))
            except RuntimeError as error:  # encrypted, or compressed by an unknown method
                raise InputError(
                    f"expected word vectors in {str(path)!r}, cannot unpack it: {error}"
                ) from None
            yield stream, name
    else:
        with path.open("rb") as stream:
            plain = cast(IO[bytes], gzip.GzipFile(fileobj=stream)) if path.suffix == ".gz" else stream
            yield plain, path.name


def _choose(archive: zipfile.ZipFile, path: Path, member: str | None) -> str:
    """Chooses the file of a zip archive."""
    names = [
        info.filename
        for info in archive.infolist()
        if not info.is_dir() and not info.filename.startswith("__MACOSX")
    ]
    readable = [name for name in names if name.endswith((".txt", ".vec", ".bin"))]
    chosen = readable if member is None else [member]
    if len(chosen) != 1 or chosen[0] not in names:
        raise InputError(
            f"expected one file of word vectors in {str(path)!r}, found {', '.join(names) or 'none'}; "
            f"name the one that is meant: {path.name}!NAME"
        )
    return chosen[0]


def _text_blocks(stream: IO[bytes], name: str) -> Iterator[Block]:
    header = dimension = None
    number, count = 1, 0
    for lines in _line_blocks(stream, name):
        if dimension is None:
            header, dimension = _first_line(lines[0], name)
        start = 1 if number == 1 and header is not None else 0
        words, vectors = _parse_lines(lines[start:], dimension, name, number + start)
        yield words, vectors
        count += len(words)
        number += len(lines)
    _check_count(count, header, name)


def _line_blocks(stream: IO[bytes], name: str) -> Iterator[list[bytes]]:
    """Yields the lines of a file, some megabytes at a time; blank ones too, for numbering."""
    rest = b""
    while read := stream.read(BLOCK_BYTES):
        *lines, rest = (rest + read).split(b"\n")
        if len(rest) > MAX_LINE_BYTES:
            raise InputError(
                f"{name}: expected lines of at most {MAX_LINE_BYTES:,} bytes, "
                f"found one of {len(rest):,} or more; is it text?"
            )
        if lines:
            yield lines
    if rest:
        yield [rest]


def _first_line(line: bytes, name: str) -> tuple[int | None, int]:
    """Parses the first line: the number of words if it is word2vec's header, and the dimension."""
    fields = line.split()
    if len(fields) == 2 and all(field.isdigit() for field in fields):
        rows, dimension = map(int, fields)
    else:
        rows, dimension = None, len(fields) - 1
    if not 1 <= dimension <= MAX_DIMENSION:
        raise InputError(f"{name}: expected a word and its numbers in line 1, found {_quote(line)}")
    return rows, dimension


def _parse_lines(lines: list[bytes], dimension: int, name: str, number: int) -> Block:
    """Parses lines; `number` is the number of the first in the file."""
    words, numbers = [], []
    for offset, line in enumerate(lines):
        line = line.rstrip(b" \r")
        word, _, rest = line.partition(b" ")
        if rest.count(b" ") != dimension - 1:
            if not line:
                continue
            word, *fields = line.rsplit(b" ", dimension)  # a word may hold spaces
            if len(fields) != dimension:
                raise InputError(
                    f"{name}: expected a word and {dimension} numbers in line {number + offset}, "
                    f"found {_quote(line)}"
                )
            rest = b" ".join(fields)
        words.append(word.decode(errors="replace"))
        numbers.append(rest)
    vectors = _floats(b" ".join(numbers))
    if vectors.size != len(words) * dimension or not np.isfinite(vectors).all():
        _raise_for_line(lines, dimension, name, number)
    return words, vectors.reshape(-1, dimension)


def _raise_for_line(lines: list[bytes], dimension: int, name: str, number: int) -> None:
    """Raises an error for the first line with something that is no finite number."""
    for offset, line in enumerate(lines):
        for field in line.rstrip(b" \r").rsplit(b" ", dimension)[1:]:
            if (value := _floats(field)).size != 1 or not np.isfinite(value).all():
                raise InputError(
                    f"{name}: expected finite numbers in line {number + offset}, found {_quote(field)}"
                )


def _floats(text: bytes) -> np.ndarray:
    """Parses numbers; returns fewer or none if something is no number."""
    with warnings.catch_warnings():
        # Older numpy stops at what is no number, newer raises.
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            return np.fromstring(text, dtype=np.float32, sep=" ")
        except ValueError:
            return np.empty(0, dtype=np.float32)


def _binary_blocks(stream: IO[bytes], name: str) -> Iterator[Block]:
    first = stream.readline(100)
    fields = first.split()
    if (
        len(fields) != 2
        or not all(field.isdigit() for field in fields)
        or not 1 <= int(fields[1]) <= MAX_DIMENSION
    ):
        raise InputError(
            f"{name}: expected the number of words and their dimension in the first line, "
            f"found {_quote(first)}"
        )
    rows, dimension = map(int, fields)
    count, rest = 0, b""
    while count < rows and (read := stream.read(BLOCK_BYTES)):
        words, vectors, rest = _parse_records(rest + read, dimension, rows - count)
        bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        if bad.size:
            raise InputError(
                f"{name}: expected finite numbers, found others in word {count + bad[0] + 1} "
                f"({words[bad[0]]!r})"
            )
        count += len(words)
        yield words, vectors
    _check_count(count, rows, name)


def _parse_records(data: bytes, dimension: int, most: int) -> tuple[list[str], np.ndarray, bytes]:
    """Parses whole records (a word, a space, little-endian floats); returns the rest of the data as well."""
    words: list[str] = []
    numbers: list[bytes] = []
    begin = 0
    while len(words) < most:
        end = data.find(b" ", begin) + 1
        if not end or end + 4 * dimension > len(data):
            break
        words.append(data[begin : end - 1].lstrip(b"\n").decode(errors="replace"))
        begin = end + 4 * dimension
        numbers.append(data[end:begin])
    vectors = np.frombuffer(b"".join(numbers), dtype="<f4").reshape(-1, dimension)
    return words, vectors, data[begin:]


def _check_count(count: int, expected: int | None, name: str) -> None:
    if not count or (expected is not None and count != expected):
        wanted = "at least one word" if expected is None else f"{expected:,} words, as its first line says"
        raise InputError(f"{name}: expected {wanted}, found {count:,}; is it whole?")


def _quote(data: bytes) -> str:
    text = data.decode(errors="replace")
    return repr(text if len(text) <= 60 else f"{text[:60]}...")
