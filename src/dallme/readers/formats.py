"""File formats: CSV, TSV, JSON Lines, JSON arrays, Parquet and Arrow; errors name the line."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from dallme.errors import InputError
from dallme.readers.rows import Column, Rows, declared_classes, from_lists, readable_as

_HEADER_HINT = "; the first line of the file is read as the names of its columns: is there a header?"


def read_parquet(path: Path, name: str, compression: str | None) -> Rows:
    """Opens a Parquet file; a column is loaded on demand.

    Args:
        path: The file.
        name: Its name in messages.
        compression: Compression of the whole file (not Parquet's own): ``gzip``, ``zstd`` or None.

    Raises:
        InputError: If it is not a Parquet file.
    """
    with readable_as("Parquet", name):
        file = pq.ParquetFile(_unpacked(path, compression) if compression else path)
        schema = file.schema_arrow
        names = tuple(schema.names)

    def load(column: str) -> Column:
        with readable_as("Parquet", name):
            values = file.read(columns=[column]).column(column)
            if len(values) != file.metadata.num_rows:
                raise pa.ArrowInvalid(
                    f"column {column!r} holds {len(values):,} values for {file.metadata.num_rows:,} rows"
                )
            return values

    return Rows(name, file.metadata.num_rows, names, load, classes=declared_classes(schema))


def read_arrow(path: Path, name: str, compression: str | None) -> Rows:
    """Opens an Arrow file (also Feather version 2) or an Arrow stream.

    Files that are not compressed are mapped into memory.

    Args:
        path: The file.
        name: Its name in messages.
        compression: Compression of the whole file: ``gzip``, ``zstd`` or None.

    Raises:
        InputError: If it is neither.
    """
    with readable_as("Arrow", name):
        source = _unpacked(path, compression) if compression else pa.memory_map(str(path))
        is_file = source.read(6) == b"ARROW1"
        source.seek(0)
        opener: Callable[..., pa.RecordBatchFileReader] = pa.ipc.open_file if is_file else pa.ipc.open_stream
        table = opener(source).read_all()
        names = tuple(table.column_names)

    def load(column: str) -> Column:
        values = table.column(column)
        with readable_as("Arrow", name):
            values.validate(full=True)  # Arrow trusts the offsets in a file, which could point outside it
        return values

    return Rows(name, table.num_rows, names, load, classes=declared_classes(table.schema))


def _unpacked(path: Path, compression: str) -> pa.BufferReader:
    with pa.input_stream(str(path), compression=compression) as stream:
        return pa.BufferReader(stream.read())


def read_delimited(path: Path, name: str, compression: str | None, delimiter: str) -> Rows:
    """Reads a delimited table with a header, in UTF-8 and with the quotes of Python's `csv`.

    Args:
        path: The file.
        name: Its name in messages.
        compression: ``gzip``, ``zstd`` or None.
        delimiter: Character between two fields.

    Raises:
        InputError: If the file is empty, is not UTF-8, repeats a name in its header, has a row with more or
            fewer fields than the header, or a quote that is not closed.

    Rows that repeat the header, and those whose quotes enclose other rows, are listed in `problems`.
    """
    with _text(path, name, compression) as file, _any_field_size():
        records = _records(file, name, delimiter)
        _, header = next(records, (0, []))
        if not header:
            raise InputError(f"{name}: expected a header and rows, found an empty file")
        columns: list[list[str]] = [[] for _ in header]
        problems: dict[int, str] = {}
        quoted: list[tuple[int, int, int]] = []  # row, its line, and a column whose field could enclose rows
        for row, (line, record) in enumerate(records):
            if len(record) != len(header):
                raise InputError(
                    f"{name}: expected {len(header)} fields in each row, as in the header, "
                    f"found {len(record)} in row {row:,} (line {line:,}); "
                    "put fields that hold the delimiter in quotes"
                )
            if record == header:
                problems[row] = f"repeats the header (line {line:,})"
            for number, value in enumerate(record):
                columns[number].append(value)
                if "\n" in value and delimiter in value:
                    quoted.append((row, line, number))
    known = [{value for value in column if len(value) <= 64} for column in columns] if quoted else []
    for row, line, number in quoted:
        if enclosed := _enclosed_rows(columns[number][row], number, delimiter, known):
            problems[row] = (
                f"holds what looks like {enclosed} other rows in one field "
                f"(line {line:,}: is a quote unpaired?)"
            )
    names = tuple(field.strip() for field in header)
    by_name = dict(zip(names, columns, strict=True))
    return Rows(name, len(columns[0]), names, by_name.__getitem__, names_hint=_HEADER_HINT, problems=problems)


def read_json(path: Path, name: str, compression: str | None) -> Rows:
    """Reads one JSON object a line, or one JSON array of objects.

    Args:
        path: The file.
        name: Its name in messages.
        compression: ``gzip``, ``zstd`` or None.

    Raises:
        InputError: If the file is not UTF-8, or where a line is not a JSON object.
    """
    with _text(path, name, compression) as file:
        is_array = file.read(65536).lstrip().startswith("[")
    with _text(path, name, compression) as file:
        records = _json_array(file, name) if is_array else _json_lines(file, name)
        columns, count = _columns(records)
    return from_lists(name, columns, count)


def _records(file: IO[str], name: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yields the first line of each record and its fields; blank lines are skipped."""
    reader = csv.reader(file, delimiter=delimiter, strict=True)
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
def _any_field_size() -> Iterator[None]:
    """Lifts the limit of `csv` on the length of a field (131,072 characters) and restores it."""
    before = csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _json_lines(file: IO[str], name: str) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            reason = (
                f"{error.msg} at character {error.pos}"
                if isinstance(error, json.JSONDecodeError)
                else str(error)
            )
            raise InputError(
                f"{name}: expected one JSON object a line, found in line {number:,}: {reason}"
            ) from None
        if not isinstance(record, dict):
            raise InputError(
                f"{name}: expected one JSON object a line, found {type(record).__name__} in line {number:,}"
            )
        yield record


def _json_array(file: IO[str], name: str) -> Iterator[dict[str, Any]]:
    try:
        records = json.load(file)
    except UnicodeDecodeError:
        raise
    except (ValueError, RecursionError) as error:
        raise InputError(f"{name}: expected a JSON array of objects, found: {error}") from None
    for number, record in enumerate(records):
        if not isinstance(record, dict):
            raise InputError(
                f"{name}: expected a JSON array of objects, "
                f"found {type(record).__name__} in element {number:,}"
            )
        yield record


def _columns(records: Iterable[dict[str, Any]]) -> tuple[dict[str, list[Any]], int]:
    """Turns records into columns of one length; a missing key is None."""
    columns: dict[str, list[Any]] = {}
    count = 0
    for record in records:
        for key, value in record.items():
            column = columns.setdefault(key, [])
            if len(column) < count:
                column.extend([None] * (count - len(column)))
            column.append(value)
        count += 1
    for column in columns.values():
        column.extend([None] * (count - len(column)))
    return columns, count


@contextmanager
def _text(path: Path, name: str, compression: str | None) -> Iterator[IO[str]]:
    """Opens a file as UTF-8, with or without a byte order mark; line endings are kept."""

    def binary() -> IO[bytes]:
        stream: IO[bytes] = pa.input_stream(str(path), compression=compression)
        return stream

    with readable_as("text", name):
        with binary() as stream:
            _refuse_utf16(stream.read(4096), name)
        try:
            with io.TextIOWrapper(binary(), encoding="utf-8-sig", newline="") as file:
                yield file
        except UnicodeDecodeError:
            raise InputError(
                f"{name}: expected UTF-8, found other bytes in {_bad_line(binary)}; save it as UTF-8"
            ) from None


def _refuse_utf16(head: bytes, name: str) -> None:
    if head[:2] in (b"\xff\xfe", b"\xfe\xff") or head.count(0) * 4 > len(head):
        raise InputError(f"{name}: expected UTF-8, found what looks like UTF-16; save it as UTF-8")


def _bad_line(binary: Callable[[], IO[bytes]]) -> str:
    """Names the first line that is not UTF-8, and its first invalid byte."""
    with binary() as stream:
        for number, line in enumerate(io.BufferedReader(stream), start=1):  # type: ignore[type-var]
            try:
                line.decode()
            except UnicodeDecodeError as error:
                return f"line {number:,}: byte 0x{line[error.start]:02x}"
    return "its last line"
