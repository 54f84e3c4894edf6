"""File formats: CSV, TSV, JSON Lines, JSON arrays and Arrow; Parquet has a module of its own.

Files may be untrusted, so each format checks sizes before it reserves memory: a few kilobytes can unpack to
gigabytes.
"""

from __future__ import annotations

import csv
import io
import json
import re
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc

from dallme.errors import InputError
from dallme.readers.rows import Column, Rows, declared_classes, readable_as

_HEADER_HINT = "; the first line of the file is read as the names of its columns: is there a header?"

#: Characters of the longest line, bytes read at once, and bytes of the smallest value in Python and in Arrow.
_MAX_LINE, _CHUNK, PYTHON_VALUE, ARROW_VALUE = 1 << 26, 1 << 20, 64, 8

#: Default limit on the bytes of a source in memory: this, or this multiple of its size if that is more.
_MAX_BYTES, _MAX_RATIO = 1 << 30, 100


def default_limit(size: int) -> int:
    """Returns the bytes that a source of some bytes on disk may take in memory."""
    return max(_MAX_BYTES, _MAX_RATIO * size)


class Allowance:
    """Bytes that all files of a source may take in memory together.

    Attributes:
        limit: Most bytes.
        hint: Advice in the error.
        used: Bytes of all files so far.
    """

    def __init__(
        self,
        limit: int,
        hint: str = "if you trust the file, raise the limit with max_bytes (--max-bytes)",
    ) -> None:
        """Stores the limit; nothing is used yet."""
        self.limit = limit
        self.hint = hint
        self.used = 0
        self._sizes: dict[str, int] = {}

    def check(self, name: str, size: int) -> None:
        """Records the size of a file, of which the largest counts, and checks the sum.

        Raises:
            InputError: If it is above the limit.
        """
        before = self._sizes.get(name, 0)
        self._sizes[name] = max(size, before)
        self.used += max(size - before, 0)
        if self.used > self.limit:
            together = " together with the files before it" if len(self._sizes) > 1 else ""
            raise InputError(
                f"{name}: expected content of at most {self.limit:,} bytes in memory{together}, found more; "
                f"{self.hint}"
            )


@dataclass(frozen=True)
class DataFile:
    """A file to read.

    Attributes:
        path: The file.
        name: Its name in messages.
        compression: Compression of the whole file (not Parquet's own): ``gzip``, ``zstd`` or None.
        allowance: Bytes that its content may take in memory, with the other files of the source.
    """

    path: Path
    name: str
    compression: str | None
    allowance: Allowance

    @property
    def limit(self) -> int:
        """Bytes that the source may take in memory."""
        return self.allowance.limit

    def open(self) -> IO[bytes]:
        """Opens the decompressed content; reading beyond the limit is an error."""
        return io.BufferedReader(_LimitedStream(self), _CHUNK)

    def read_all(self) -> pa.BufferReader:
        """Reads the decompressed content into memory."""
        with self.open() as stream:
            return pa.BufferReader(stream.read())

    def check_size(self, size: int) -> None:
        """Checks the number of bytes that the content takes in memory.

        Raises:
            InputError: If it is above the limit.
        """
        self.allowance.check(self.name, size)


class _LimitedStream(io.RawIOBase):
    """Decompressed content of a file up to its limit."""

    def __init__(self, file: DataFile) -> None:
        self._file, self._size = file, 0
        self._stream = pa.input_stream(str(file.path), compression=file.compression)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = self._stream.read(len(buffer))
        self._size += len(content)
        self._file.check_size(self._size)
        buffer[: len(content)] = content
        return len(content)

    def close(self) -> None:
        self._stream.close()
        super().close()


# Arrow


def read_arrow(file: DataFile) -> Rows:
    """Opens an Arrow file (also Feather version 2) or an Arrow stream.

    A file is read as the stream that it holds, so that the messages that are checked are those that are read.
    Files that are not compressed are mapped into memory.

    Raises:
        InputError: If it is neither, or too large.
    """
    with readable_as("Arrow", file.name):
        source = file.read_all() if file.compression else pa.memory_map(str(file.path))
        start = 8 if source.read(6) == b"ARROW1" else 0
        source.seek(start)
        _check_messages(file, source)
        source.seek(start)
        table = pa.ipc.open_stream(source).read_all()
        names = tuple(table.column_names)

    def load(column: str) -> Column:
        values = table.column(column)
        with readable_as("Arrow", file.name):
            values.validate(full=True)  # Arrow trusts the offsets in a file, which could point outside it
            return expanded(file, values) if is_text(values.type) else values

    return Rows(file.name, table.num_rows, names, load, classes=declared_classes(table.schema))


def _check_messages(file: DataFile, source: Any) -> None:
    """Adds up the sizes that compressed buffers state, before Arrow reserves memory for them."""
    size, rows = 0, 0
    reader = pa.ipc.MessageReader.open_stream(source)
    while True:
        try:
            message = reader.read_next_message()
        except StopIteration:
            return
        try:
            length, sizes = _batch_sizes(message.metadata.to_pybytes(), message.body)
        except (struct.error, IndexError, AttributeError):
            raise pa.ArrowInvalid("a message of the stream is damaged") from None
        size, rows = size + sum(sizes), rows + length
        file.check_size(max(size, rows))


def _batch_sizes(metadata: bytes, body: Any) -> tuple[int, list[int]]:
    """Returns the rows of a record batch and the decompressed sizes of its buffers, from its FlatBuffer."""

    def number(form: str, position: int) -> int:
        return int(struct.unpack_from(f"<{form}", metadata, position)[0])

    def field(table: int, index: int) -> int | None:
        vtable = table - number("i", table)
        offset = number("H", vtable + 4 + 2 * index) if 4 + 2 * index < number("H", vtable) else 0
        return table + offset if offset else None

    def follow(position: int | None) -> int:
        if position is None:
            raise IndexError
        return position + number("I", position)

    message = follow(0)
    kind = field(message, 1)
    kind = 0 if kind is None else number("B", kind)
    if kind not in (2, 3):  # a dictionary batch, a record batch
        return 0, []
    batch = follow(field(message, 2))
    if kind == 2:
        batch = follow(field(batch, 1))
    length, compressed = field(batch, 0), field(batch, 3) is not None
    sizes: list[int] = []
    if (buffers := field(batch, 2)) is not None:
        vector = follow(buffers)
        for index in range(number("I", vector)):
            offset, size = (number("q", vector + 4 + 16 * index + part) for part in (0, 8))
            if compressed and size >= 8:
                stated = int(struct.unpack_from("<q", body, offset)[0])
                size = size if stated < 0 else stated  # -1: not compressed
            sizes.append(max(size, 0))
    return 0 if length is None else number("q", length), sizes


def is_text(kind: pa.DataType) -> bool:
    """Says whether a type is one of strings."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return any(test(kind) for test in tests)


def is_unusable(kind: pa.DataType) -> bool:
    """Returns whether values of a type are neither texts nor labels, so that they are refused unread."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    primitive = pa.types.is_primitive(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind)
    return not (is_text(kind) or primitive)


def expanded(file: DataFile, values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Converts strings to plain ones, unless dictionaries or views make them larger than the limit."""
    size = 0
    for chunk in values.chunks:
        if pa.types.is_dictionary(chunk.type):
            lengths = pc.binary_length(chunk.dictionary.cast(pa.large_string())).take(chunk.indices)
            size += pc.sum(lengths).as_py() or 0
        elif pa.types.is_string_view(chunk.type):
            views = chunk.buffers()[1]
            size += sum(memoryview(views).cast("i")[chunk.offset * 4 : (chunk.offset + len(chunk)) * 4 : 4])
        file.check_size(size)
    return values.cast(pa.large_string())


# CSV and TSV


def read_delimited(file: DataFile, delimiter: str) -> Rows:
    """Reads a delimited table with a header, in UTF-8 and with the quotes of Python's `csv`.

    Rows that repeat the header, and those whose quotes enclose other rows, are listed in `problems`.

    Args:
        file: The file.
        delimiter: Character between two fields.

    Raises:
        InputError: If the file is empty, too large or not UTF-8, or its header repeats a name. Or if a row
            has more or fewer fields than the header, or a quote is not closed.
    """
    with _text(file) as stream, _field_size(_MAX_LINE):
        records = _records(stream, file.name, delimiter)
        _, header = next(records, (0, []))
        if not header:
            raise InputError(f"{file.name}: expected a header and rows, found an empty file")
        columns: list[list[str]] = [[] for _ in header]
        problems: dict[int, str] = {}
        quoted: list[tuple[int, int, int]] = []  # row, its line, and a column whose field could enclose rows
        for row, (line, record) in enumerate(records):
            if len(record) != len(header):
                raise InputError(
                    f"{file.name}: expected {len(header)} fields in each row, as in the header, "
                    f"found {len(record)} in row {row:,} (line {line:,}); "
                    "put fields that hold the delimiter in quotes"
                )
            if record == header:
                problems[row] = f"repeats the header (line {line:,})"
            for number, value in enumerate(record):
                columns[number].append(value)
                if "\n" in value and delimiter in value:
                    quoted.append((row, line, number))
            if not row & 0xFFFF:
                file.check_size(row * len(header) * PYTHON_VALUE)
        file.check_size(len(columns[0]) * len(header) * PYTHON_VALUE)
    known = [{value for value in column if len(value) <= 64} for column in columns] if quoted else []
    for row, line, number in quoted:
        if enclosed := _enclosed_rows(columns[number][row], number, delimiter, known):
            problems[row] = (
                f"holds what looks like {enclosed} other rows in one field "
                f"(line {line:,}: is a quote unpaired?)"
            )
    names = tuple(field.strip() for field in header)
    load = dict(zip(names, columns, strict=True)).__getitem__
    return Rows(file.name, len(columns[0]), names, load, names_hint=_HEADER_HINT, problems=problems)


def _records(stream: IO[str], name: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yields the first line of each record and its fields; blank lines are skipped."""
    reader = csv.reader(_lines(stream, name), delimiter=delimiter, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            reason = "a quote is never closed" if "end of data" in str(error) else str(error)
            raise InputError(
                f"{name}: the row that starts in line {line:,} cannot be read: {reason}; "
                "a quote inside a quoted field must be doubled"
            ) from None
        if record:
            yield line, record


def _enclosed_rows(field: str, number: int, delimiter: str, known: list[set[str]]) -> int:
    """Counts the rows that a quoted field seems to enclose because of an unpaired quote.

    A line of the field counts if it has as many fields as a row, none of them blank, and one is a known value
    of its column. Unlike in prose, no space follows a delimiter.

    Args:
        field: The field.
        number: Its column.
        delimiter: Character between two fields.
        known: The short values of each column.
    """
    first, *lines = field.splitlines()
    rows = [[*[""] * number, *first.split(delimiter)], *(line.split(delimiter) for line in lines[:-1])]
    return sum(
        len(row) == len(known)
        and all(value.strip() for value in row[number if start == 0 else 0 :])
        and not any(value[:1].isspace() for value in row[1:])
        and any(value in known[column] for column, value in enumerate(row) if value and column != number)
        for start, row in enumerate(rows)
    )


@contextmanager
def _field_size(limit: int) -> Iterator[None]:
    """Sets the limit of `csv` on the length of a field (131,072 characters) and restores it."""
    before = csv.field_size_limit(limit)
    try:
        yield
    finally:
        csv.field_size_limit(before)


# JSON


def read_json(file: DataFile) -> Rows:
    """Reads JSON objects, one per line, or a JSON array of objects.

    Raises:
        InputError: If the file is too large or not UTF-8, or where a line is not a JSON object.
    """
    with _text(file) as stream:
        is_array = stream.read(65536).lstrip().startswith("[")
    columns: dict[str, tuple[list[int], list[Any]]] = {}  # rows and values: most rows may lack a key
    count = cells = 0
    with _text(file) as stream:
        for record in _json_array(stream, file.name) if is_array else _json_lines(stream, file.name):
            for key, value in record.items():
                rows, values = columns.setdefault(key, ([], []))
                rows.append(count)
                values.append(value)
            count += 1
            cells += len(record)
            if not count & 0xFFFF:
                file.check_size((count + cells) * PYTHON_VALUE)
        file.check_size((count + cells) * PYTHON_VALUE)

    def load(name: str) -> Column:
        rows, values = columns[name]
        if len(values) == count:
            return values
        column: list[Any] = [None] * count
        for row, value in zip(rows, values, strict=True):
            column[row] = value
        return column

    return Rows(file.name, count, tuple(columns), load)


def _json_lines(stream: IO[str], name: str) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(_lines(stream, name), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            reason = str(error)
            if isinstance(error, json.JSONDecodeError):
                reason = f"{error.msg} at character {error.pos}"
            raise InputError(
                f"{name}: expected one JSON object per line, found in line {number:,}: {reason}"
            ) from None
        if not isinstance(record, dict):
            raise InputError(
                f"{name}: expected one JSON object per line, found {type(record).__name__} in line {number:,}"
            )
        yield record


def _json_array(stream: IO[str], name: str) -> Iterator[dict[str, Any]]:
    """Yields the objects of an array one by one, as all at once take twenty times the size of the file."""
    text = stream.read()
    decoder, space = json.JSONDecoder(), re.compile(r"[ \t\n\r]*")

    def skip(position: int) -> int:
        match = space.match(text, position)
        assert match is not None
        return match.end()

    try:
        position, number = skip(text.index("[") + 1), 0
        while text[position : position + 1] != "]" or number:
            record, position = decoder.raw_decode(text, position)
            if not isinstance(record, dict):
                raise InputError(
                    f"{name}: expected a JSON array of objects, "
                    f"found {type(record).__name__} in element {number:,}"
                )
            yield record
            number, position = number + 1, skip(position)
            if text[position : position + 1] == "]":
                break
            if text[position : position + 1] != ",":
                raise json.JSONDecodeError("Expecting ',' delimiter", text, position)
            position = skip(position + 1)
        if (position := skip(position + 1)) < len(text):
            raise json.JSONDecodeError("Extra data", text, position)
    except InputError:
        raise
    except (ValueError, RecursionError) as error:
        raise InputError(f"{name}: expected a JSON array of objects, found: {error}") from None


# Text


@contextmanager
def _text(file: DataFile) -> Iterator[IO[str]]:
    """Opens a file as UTF-8, with or without a byte order mark; line endings are kept."""
    with readable_as("text", file.name):
        with file.open() as stream:
            head = stream.read(4096)
        if head[:2] in (b"\xff\xfe", b"\xfe\xff") or head.count(0) * 4 > len(head):
            raise InputError(f"{file.name}: expected UTF-8, found what looks like UTF-16; save it as UTF-8")
        try:
            with io.TextIOWrapper(file.open(), encoding="utf-8-sig", newline="") as lines:
                yield lines
        except UnicodeDecodeError:
            raise InputError(
                f"{file.name}: expected UTF-8, found other bytes in {_bad_line(file)}; save it as UTF-8"
            ) from None


def _lines(stream: IO[str], name: str) -> Iterable[str]:
    """Yields the lines of a file, up to :data:`_MAX_LINE` characters each."""
    for number, line in enumerate(iter(partial(stream.readline, _MAX_LINE), ""), start=1):
        if len(line) == _MAX_LINE:
            raise InputError(
                f"{name}: expected lines of at most {_MAX_LINE:,} characters, found line {number:,}"
            )
        yield line


def _bad_line(file: DataFile) -> str:
    """Names the first line that is not UTF-8, and its first invalid byte."""
    with file.open() as stream:
        for number, line in enumerate(stream, start=1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                return f"line {number:,}: byte 0x{line[error.start]:02x}"
    return "its last line"
