"""The formats CSV, TSV, JSON Lines and JSON array."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, Any

from dallme.errors import InputError
from dallme.readers.formats import CHUNK, PYTHON_VALUE, DataFile, LimitedStream
from dallme.readers.rows import Column, Rows, readable_as

_HEADER_HINT = "; the first line of the file is read as the names of its columns: is there a header?"

#: Bytes of the longest line, and rows of a block.
_MAX_LINE, _BLOCK = 1 << 26, 1024


# CSV and TSV


def read_delimited(file: DataFile, delimiter: str) -> Rows:
    """Reads a delimited table with a header, in UTF-8 and with the quotes of Python's `csv`.

    Rows that repeat the header, and those whose quotes enclose other rows, are listed in `problems`.

    Args:
        file: The file.
        delimiter: Character between two fields.

    Raises:
        InputError: If the file is empty, too large or not UTF-8, repeats a name in its header, has a row
            with more or fewer fields than the header, or a quote that is not closed.
    """
    with _text(file, lines=True) as stream, _field_size(_MAX_LINE):
        blocks = _blocks(stream, file.name, delimiter)
        header = next(blocks, ([], [[]]))[1][0]
        if not header:
            raise InputError(f"{file.name}: expected a header and rows, found an empty file")
        table = _Table(file, header, delimiter)
        for lines, records in blocks:
            table.add(lines, records)
    columns, problems = table.columns, table.problems()
    names = tuple(name.strip() for name in header)
    load = dict(zip(names, columns, strict=True)).__getitem__
    return Rows(file.name, len(columns[0]), names, load, names_hint=_HEADER_HINT, problems=problems)


@dataclass
class _Table:
    """The rows of a delimited table, by column.

    Attributes:
        file: The file.
        header: The names of the columns.
        delimiter: Character between two fields.
        columns: The values of each column.
        repeated: Row to line, of the rows that repeat the header.
        quoted: Row, line and column of the fields that hold a line break and the delimiter.
    """

    file: DataFile
    header: list[str]
    delimiter: str
    columns: list[list[str]] = field(init=False)
    repeated: dict[int, int] = field(default_factory=dict)
    quoted: list[tuple[int, int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.columns = [[] for _ in self.header]

    def add(self, lines: list[int], records: list[list[str]]) -> None:
        """Appends records, each with its line; only a block that looks suspicious is checked one by one.

        Raises:
            InputError: If a record has not the fields of the header, or the table is too large.
        """
        start, width = len(self.columns[0]), len(self.header)
        if set(map(len, records)) != {width}:
            row = next(row for row, record in enumerate(records) if len(record) != width)
            raise InputError(
                f"{self.file.name}: expected {width} fields in each row, as in the header, "
                f"found {len(records[row])} in row {start + row:,} (line {lines[row]:,}); "
                "put fields that hold the delimiter in quotes"
            )
        self.file.check_size((start + len(records)) * width * PYTHON_VALUE)
        if self.header in records:
            pairs = enumerate(zip(lines, records, strict=True), start)
            self.repeated |= {row: line for row, (line, record) in pairs if record == self.header}
        for column, values in zip(self.columns, zip(*records, strict=True), strict=True):
            column += values
        # Without a gap in the lines, only the last record can hold a line break.
        first = 0 if lines[-1] - lines[0] >= len(lines) else len(lines) - 1
        self.quoted += [
            (start + row, lines[row], number)
            for row in range(first, len(lines))
            for number, value in enumerate(records[row])
            if "\n" in value and self.delimiter in value
        ]

    def problems(self) -> dict[int, str]:
        """Returns the rows that are no rows of their own, each with the reason."""
        found = {row: f"repeats the header (line {line:,})" for row, line in self.repeated.items()}
        columns = self.columns if self.quoted else []
        known = [{value for value in column if len(value) <= 64} for column in columns]
        for row, line, number in self.quoted:
            if enclosed := _enclosed_rows(self.columns[number][row], number, self.delimiter, known):
                found[row] = (
                    f"holds what looks like {enclosed} other rows in one field "
                    f"(line {line:,}: is a quote unpaired?)"
                )
        return found


def _blocks(stream: IO[str], name: str, delimiter: str) -> Iterator[tuple[list[int], list[list[str]]]]:
    """Yields the first lines of records and their fields, in blocks; the header is a block of its own.

    Blank lines are skipped. The records before one that cannot be read are yielded first.
    """
    reader = csv.reader(stream, delimiter=delimiter, strict=True)
    line, size, failure = 1, 1, None
    lines: list[int] = []
    records: list[list[str]] = []
    try:
        for record in reader:
            if record:
                lines.append(line)
                records.append(record)
                if len(records) == size:
                    yield lines, records
                    lines, records, size = [], [], _BLOCK
            line = reader.line_num + 1
    except csv.Error as error:
        failure = "a quote is never closed" if "end of data" in str(error) else str(error)
    if records:
        yield lines, records
    if failure is not None:
        raise InputError(
            f"{name}: the row that starts in line {line:,} cannot be read: {failure}; "
            "a quote inside a quoted field must be doubled"
        )


def _enclosed_rows(field: str, number: int, delimiter: str, known: list[set[str]]) -> int:
    """Counts the rows that a quoted field seems to enclose because of an unpaired quote.

    A line of the field counts if it has the fields of a row, none of them blank, and one of them is a value
    of the same column. Unlike in prose, no space follows a delimiter.

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
    """Reads one JSON object per line, or one JSON array of objects.

    Raises:
        InputError: If the file is too large or not UTF-8, or where a line is not a JSON object.
    """
    with _text(file) as stream:
        is_array = stream.read(65536).lstrip().startswith("[")
    columns: dict[str, tuple[list[int], list[Any]]] = {}  # rows and values: most rows may lack a key
    count = cells = 0
    with _text(file, lines=not is_array) as stream:
        for record in _json_array(stream, file.name) if is_array else _json_lines(stream, file.name):
            for key, value in record.items():
                if key not in columns:
                    columns[key] = [], []
                rows, values = columns[key]
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
    decode = json.JSONDecoder().raw_decode
    for number, line in enumerate(stream, start=1):
        try:
            end = None
            if line[0] == "{":
                record, end = decode(line)
            if end is None or line[end:] not in ("\n", "\r\n", ""):  # blank, white space, or an error
                if not line.strip():
                    continue
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


class _LineStream(LimitedStream):
    """Content in which a line of more than :data:`_MAX_LINE` bytes is an error."""

    def __init__(self, file: DataFile) -> None:
        super().__init__(file)
        self._start = 0  # of the line that goes on in the next chunk

    def _next(self, size: int) -> bytes:
        before, content = self._size, super()._next(size)
        if self._size - self._start > _MAX_LINE:
            end = re.search(rb"[\r\n]", content)
            if (before + end.start() if end else self._size) - self._start > _MAX_LINE:
                raise InputError(
                    f"{self._file.name}: expected lines of at most {_MAX_LINE:,} bytes, "
                    f"found line {_line_number(self._file, self._start):,}"
                )
        if last := 1 + max(content.rfind(b"\n"), content.rfind(b"\r")):
            self._start = before + last
        return content


@contextmanager
def _text(file: DataFile, *, lines: bool = False) -> Iterator[IO[str]]:
    """Opens a file as UTF-8, with or without a byte order mark; line endings are kept.

    Args:
        file: The file.
        lines: Whether a line of more than :data:`_MAX_LINE` bytes is an error.
    """
    with readable_as("text", file.name):
        with file.open() as stream:
            head = stream.read(4096)
        if head[:2] in (b"\xff\xfe", b"\xfe\xff") or head.count(0) * 4 > len(head):
            raise InputError(f"{file.name}: expected UTF-8, found what looks like UTF-16; save it as UTF-8")
        try:
            content = _LineStream(file) if lines else LimitedStream(file)
            with io.TextIOWrapper(content, encoding="utf-8-sig", newline="") as stream:  # type: ignore[type-var]
                yield stream
        except UnicodeDecodeError:
            raise InputError(
                f"{file.name}: expected UTF-8, found other bytes in {_bad_line(file)}; save it as UTF-8"
            ) from None


def _line_number(file: DataFile, position: int) -> int:
    """Returns the number of the line at a position in the content."""
    number = 1
    with file.open() as stream:
        while position and (chunk := stream.read(min(position, CHUNK))):
            number += chunk.count(b"\n") or chunk.count(b"\r")
            position -= len(chunk)
    return number


def _bad_line(file: DataFile) -> str:
    """Names the first line that is not UTF-8, and its first invalid byte."""
    with file.open() as stream:
        for number, line in enumerate(stream, start=1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                return f"line {number:,}: byte 0x{line[error.start]:02x}"
    return "its last line"
