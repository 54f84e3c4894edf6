"""Delimited tables: CSV, TSV and files with another delimiter, which is detected."""

from __future__ import annotations

import csv
import io
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO

import numpy as np

from dallme.errors import InputError
from dallme.readers.formats import PYTHON_VALUE, DataFile
from dallme.readers.rows import Rows
from dallme.readers.text_stream import MAX_LINE, Encoding, find_encoding, open_text

_HEADER_HINT = (
    "; the first line of the file is read as the names of its columns: if it is a row, give --no-header"
)

#: Rows of a block, and characters of the sample that the delimiter is detected on.
_BLOCK, _SAMPLE = 1024, 1 << 16

#: Delimiters that are detected.
_DELIMITERS = (",", ";", "\t", "|")


def read_delimited(file: DataFile, delimiter: str) -> Rows:
    """Reads a delimited table with the quotes of Python's `csv`.

    Rows that repeat the header, and those whose quotes enclose other rows, are listed in `problems`.

    Args:
        file: The file; its options overrule what is detected.
        delimiter: Character between two fields, unless another one is detected.

    Raises:
        InputError: If the file is empty, too large or in no known encoding, repeats a name in its header, has
            a row with more or fewer fields than the header, or a quote that is not closed.
    """
    encoding = find_encoding(file, lines=True)
    with _field_size(MAX_LINE):
        usual, delimiter = delimiter, file.options.delimiter or _find_delimiter(file, encoding, delimiter)
        with open_text(file, encoding, lines=True) as stream:
            blocks = _blocks(stream, file.name, delimiter)
            empty: tuple[list[int], list[list[str]]] = ([], [[]])
            lines, records = next(blocks, empty)
            if not records[0]:
                raise InputError(f"{file.name}: expected a header and rows, found an empty file")
            if file.options.header:
                table = _Table(file, records[0], delimiter)
            else:
                table = _Table(file, [f"column_{number + 1}" for number in range(len(records[0]))], delimiter)
                table.add(lines, records)
            for lines, records in blocks:
                table.add(lines, records)
    names = tuple(name.strip() for name in table.header)
    return Rows(
        file.name,
        len(table.columns[0]),
        names,
        dict(zip(names, table.columns, strict=True)).__getitem__,
        notes=_notes(file, encoding, "" if delimiter == usual else delimiter),
        names_hint=_HEADER_HINT if file.options.header else "",
        problems=table.problems(),
        lines=np.frombuffer(table.lines, dtype=np.int64),
    )


def _notes(file: DataFile, encoding: Encoding, delimiter: str) -> tuple[str, ...]:
    """Returns a note on the encoding and the delimiter, if these were detected and are not as usual."""
    if not delimiter or file.options.delimiter is not None:
        return encoding.notes(file.name)
    if not encoding.signs:
        return (f"{file.name}: read with the delimiter {delimiter!r}; --delimiter overrules",)
    return (
        f"{file.name}: read as {encoding}, with the delimiter {delimiter!r}; "
        "--encoding and --delimiter overrule",
    )


def _find_delimiter(file: DataFile, encoding: Encoding, usual: str) -> str:
    """Detects the delimiter on the first rows.

    The usual one stays if it gives each row the same number of fields, at least two. Otherwise one that does
    so is taken, or one that divides the header where the usual one does not.

    Raises:
        InputError: If several delimiters fit.
    """
    with open_text(file, encoding, lines=True) as stream:
        sample = stream.read(_SAMPLE)
    complete = len(sample) < _SAMPLE
    widths, fits = _widths(sample, usual, complete)
    if fits or not widths:
        return usual
    others = {
        delimiter: _widths(sample, delimiter, complete) for delimiter in _DELIMITERS if delimiter != usual
    }
    found = [delimiter for delimiter, (_, other_fits) in others.items() if other_fits]
    if not found and widths[0] == 1:
        found = [delimiter for delimiter, (other, _) in others.items() if _divides_most(other)]
    if len(found) > 1:
        raise InputError(
            f"{file.name}: expected one delimiter, found several that fit: "
            f"{' and '.join(map(repr, found))}; name it with --delimiter"
        )
    return found[0] if found else usual


def _widths(sample: str, delimiter: str, complete: bool) -> tuple[list[int], bool]:
    """Returns the number of fields of each record, and whether all have the same, at least two."""
    widths: list[int] = []
    clean = True
    records = csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter, strict=True)
    try:
        widths.extend(len(record) for record in records if record)
        if not complete:
            widths = widths[:-1] or widths
    except csv.Error as error:
        clean = not complete and "end of data" in str(error)
    return widths, clean and len(set(widths)) == 1 and widths[0] > 1


def _divides_most(widths: list[int]) -> bool:
    return bool(widths) and widths[0] > 1 and widths.count(widths[0]) * 2 > len(widths)


@dataclass
class _Table:
    """The rows of a delimited table, by column.

    Attributes:
        file: The file.
        header: The names of the columns.
        delimiter: Character between two fields.
        columns: The values of each column.
        lines: The first line of each row.
        repeated: Rows that repeat the header.
        quoted: Row and column of the fields that hold a line break and the delimiter.
    """

    file: DataFile
    header: list[str]
    delimiter: str
    columns: list[list[str]] = field(init=False)
    lines: array[int] = field(default_factory=lambda: array("q"))
    repeated: list[int] = field(default_factory=list)
    quoted: list[tuple[int, int]] = field(default_factory=list)

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
            model = "header" if self.file.options.header else "first row"
            raise InputError(
                f"{self.file.name}: expected {width} fields in each row, as in the {model}, "
                f"found {len(records[row])} in row {start + row:,} (line {lines[row]:,}); "
                "put fields that hold the delimiter in quotes"
            )
        self.file.check_size((start + len(records)) * width * PYTHON_VALUE)
        self.lines.extend(lines)
        if self.header in records:
            self.repeated += [row for row, record in enumerate(records, start) if record == self.header]
        for column, values in zip(self.columns, zip(*records, strict=True), strict=True):
            column += values
        # Without a gap in the lines, only the last record can hold a line break.
        first = 0 if lines[-1] - lines[0] >= len(lines) else len(lines) - 1
        self.quoted += [
            (start + row, number)
            for row in range(first, len(lines))
            for number, value in enumerate(records[row])
            if "\n" in value and self.delimiter in value
        ]

    def problems(self) -> dict[int, str]:
        """Returns the rows that are no rows of their own, each with the reason."""
        found = dict.fromkeys(self.repeated, "repeats the header")
        columns = self.columns if self.quoted else []
        known = [{value for value in column if len(value) <= 64} for column in columns]
        for row, number in self.quoted:
            if enclosed := _enclosed_rows(self.columns[number][row], number, self.delimiter, known):
                found[row] = (
                    f"holds what looks like {enclosed} other rows in one field (is a quote unpaired?)"
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
