"""Spreadsheets of Excel (.xlsx) and OpenDocument (.ods), parsed row by row within the limit.

A cell can lie anywhere on a sheet, and OpenDocument repeats rows and cells by a number: a small file can
stand for billions of cells. Parsers that build the sheet in memory fail on these, so rows are streamed.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from array import array
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import IO, Any
from xml.parsers import expat

import numpy as np

from dallme.errors import InputError
from dallme.readers.formats import PYTHON_VALUE, DataFile
from dallme.readers.rows import Rows

#: Most columns of a sheet, as in Excel.
_MAX_COLUMNS = 16_384

#: Bytes that are parsed at once; their rows are in memory before they are counted.
_CHUNK = 4096

#: A row: its number from 1, how often it is repeated, and its values by column.
_Row = tuple[int, int, dict[int, Any]]


def read_xlsx(file: DataFile) -> Rows:
    """Reads a sheet of an Excel workbook; formulas count as the values that Excel stored.

    Raises:
        InputError: If it is no workbook or too large, or the sheet is not there.
    """
    with _archive(file) as archive:
        book = _Workbook()
        _parse_all(file, archive, "xl/workbook.xml", book)
        _parse_all(file, archive, "xl/_rels/workbook.xml.rels", book)
        sheet = _choose_sheet(file, list(book.sheets))
        strings = _SharedStrings()
        if strings.part in archive.namelist():
            _parse_all(file, archive, strings.part, strings)
        target = book.targets.get(book.sheets[sheet], "")
        part = target.lstrip("/") if target.startswith("/") else f"xl/{target}"
        parser = _ExcelSheet(strings.values)
        with _opened(file, archive, part) as stream:
            return _collect(file, _rows(stream, parser), _sheet_note(file, sheet, list(book.sheets)))


def read_ods(file: DataFile) -> Rows:
    """Reads a sheet of an OpenDocument spreadsheet.

    Raises:
        InputError: If it is no spreadsheet or too large, or the sheet is not there.
    """
    with _archive(file) as archive:
        names = _TableNames()
        _parse_all(file, archive, "content.xml", names)
        sheet = _choose_sheet(file, names.names)
        with _opened(file, archive, "content.xml") as stream:
            return _collect(file, _rows(stream, _OpenSheet(sheet)), _sheet_note(file, sheet, names.names))


@contextmanager
def _archive(file: DataFile) -> Iterator[zipfile.ZipFile]:
    """Opens the archive that a spreadsheet is; its parts are bounded by the sizes that it states."""
    try:
        with zipfile.ZipFile(file.read_all() if file.compression else file.path) as archive:
            yield archive
    except InputError:
        raise
    except (zipfile.BadZipFile, zipfile.LargeZipFile, KeyError, ValueError, IndexError, EOFError) as error:
        raise _unreadable(file, str(error)) from None
    except (OSError, NotImplementedError, RuntimeError, zlib.error, expat.ExpatError) as error:
        raise _unreadable(file, str(error)) from None


def _unreadable(file: DataFile, reason: str) -> InputError:
    return InputError(
        f"{file.name}: cannot be read as a spreadsheet (is it damaged, encrypted or an old .xls?): "
        f"{' '.join(reason.split())}; save it as .xlsx, .ods or .csv"
    )


@contextmanager
def _opened(file: DataFile, archive: zipfile.ZipFile, part: str) -> Iterator[IO[bytes]]:
    """Opens a part of an archive; `zipfile` ends it at the size that is checked here."""
    file.check_size(archive.getinfo(part).file_size)
    with archive.open(part) as stream:
        yield stream


def _choose_sheet(file: DataFile, sheets: list[str]) -> str:
    wanted = file.options.sheet
    if not sheets or (wanted is not None and wanted not in sheets):
        listed = ", ".join(map(repr, sheets[:20])) or "none"
        raise InputError(
            f"{file.name}: expected {f'the sheet {wanted!r}' if wanted else 'a sheet'}, found {listed}"
        )
    return wanted or sheets[0]


def _sheet_note(file: DataFile, sheet: str, sheets: list[str]) -> tuple[str, ...]:
    if len(sheets) == 1 or file.options.sheet is not None:
        return ()
    others = ", ".join(repr(each) for each in sheets[:10] if each != sheet)
    return (f"{file.name}: took the first sheet {sheet!r}; for another ({others}) give --sheet",)


# XML


class _Parser:
    """Handler of the events of a part; names come without their prefix.

    Attributes:
        rows: Rows that are complete and not yet taken.
    """

    def __init__(self) -> None:
        self.rows: list[_Row] = []
        self._text: list[str] | None = None  # parts of the text that is collected

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """Handles the start of an element."""

    def end(self, name: str) -> None:
        """Handles the end of an element."""

    def characters(self, text: str) -> None:
        """Collects text, where it is wanted."""
        if self._text is not None:
            self._text.append(text)


def _rows(stream: IO[bytes], parser: _Parser) -> Iterator[_Row]:
    """Parses a stream in chunks and yields the rows of each."""
    reader = expat.ParserCreate()

    def refuse(*_: Any) -> None:
        raise ValueError("a document type declaration, which could define entities")

    def start(name: str, attributes: dict[str, str]) -> None:
        parser.start(_local(name), {_local(key): value for key, value in attributes.items()})

    reader.StartDoctypeDeclHandler = refuse
    reader.StartElementHandler = start
    reader.EndElementHandler = lambda name: parser.end(_local(name))
    reader.CharacterDataHandler = parser.characters
    while chunk := stream.read(_CHUNK):
        reader.Parse(chunk)
        yield from parser.rows
        parser.rows.clear()
    reader.Parse(b"", True)
    yield from parser.rows


def _local(name: str) -> str:
    return name.rpartition(":")[2]


def _parse_all(file: DataFile, archive: zipfile.ZipFile, part: str, parser: _Parser) -> None:
    with _opened(file, archive, part) as stream:
        for _ in _rows(stream, parser):
            pass


class _Workbook(_Parser):
    """Sheets of a workbook, name to relation, and relations to parts."""

    def __init__(self) -> None:
        super().__init__()
        self.sheets: dict[str, str] = {}
        self.targets: dict[str, str] = {}

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if name == "sheet":
            self.sheets[attributes["name"]] = attributes["id"]
        elif name == "Relationship" and attributes["Type"].endswith("/worksheet"):
            self.targets[attributes["Id"]] = attributes["Target"]


class _SharedStrings(_Parser):
    """Texts that cells refer to by number; phonetic hints are left out."""

    part = "xl/sharedStrings.xml"

    def __init__(self) -> None:
        super().__init__()
        self.values: list[str] = []
        self._parts: list[str] = []
        self._hint = False

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if name == "si":
            self._parts = []
        elif name == "rPh":
            self._hint = True
        elif name == "t" and not self._hint:
            self._text = self._parts

    def end(self, name: str) -> None:
        if name == "si":
            self.values.append(_unescaped("".join(self._parts)))
        elif name == "rPh":
            self._hint = False
        elif name == "t":
            self._text = None


class _ExcelSheet(_Parser):
    """Rows of a sheet of Excel."""

    def __init__(self, strings: list[str]) -> None:
        super().__init__()
        self._strings = strings
        self._number = 0
        self._cells: dict[int, Any] = {}
        self._column, self._kind, self._hint = -1, "n", False
        self._parts: list[str] = []

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if name == "row":
            self._number = _count(attributes.get("r", str(self._number + 1)))
            self._cells, self._column = {}, -1
        elif name == "c":
            self._column = _column(attributes["r"]) if "r" in attributes else self._column + 1
            _check_column(self._column)
            self._kind, self._parts = attributes.get("t", "n"), []
        elif name == "rPh":
            self._hint = True
        elif name in ("v", "t") and not self._hint:
            self._text = self._parts

    def end(self, name: str) -> None:
        if name in ("v", "t"):
            self._text = None
        elif name == "rPh":
            self._hint = False
        elif name == "c" and (text := "".join(self._parts)):
            self._cells[self._column] = self._value(text)
        elif name == "row":
            self.rows.append((self._number, 1, self._cells))

    def _value(self, text: str) -> Any:
        if self._kind == "s":
            return self._strings[int(text)]
        if self._kind == "b":
            return text == "1"
        return _number(text) if self._kind == "n" else _unescaped(text)


def _column(reference: str) -> int:
    """Returns the number of a column from 0, of a reference such as ``AB12``."""
    number = 0
    for letter in reference.rstrip("0123456789")[:4]:
        number = number * 26 + ord(letter.upper()) - ord("A") + 1
    return number - 1


def _check_column(column: int) -> None:
    if not 0 <= column < _MAX_COLUMNS:
        raise ValueError(f"column {column + 1:,}, of at most {_MAX_COLUMNS:,}")


def _count(text: str) -> int:
    if not 0 < (number := int(text)) < 2**31:
        raise ValueError(f"the number {number:,}")
    return number


def _number(text: str) -> int | float:
    value = float(text)
    return int(value) if value.is_integer() and abs(value) < 2**53 else value


def _unescaped(text: str) -> str:
    """Decodes characters that Excel writes as ``_x000D_``; its line breaks become those of the system."""
    text = (
        re.sub(r"_x([0-9A-Fa-f]{4})_", lambda match: chr(int(match[1], 16)), text) if "_x" in text else text
    )
    return text.replace("\r\n", "\n")


class _TableNames(_Parser):
    """Names of the sheets of an OpenDocument spreadsheet."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if name == "table" and attributes.get("name"):
            self.names.append(attributes["name"])


class _OpenSheet(_Parser):
    """Rows of a sheet of an OpenDocument spreadsheet."""

    def __init__(self, sheet: str) -> None:
        super().__init__()
        self._sheet, self._inside = sheet, False
        self._number, self._repeated = 0, 1
        self._cells: dict[int, Any] = {}
        self._column, self._columns = 0, 1
        self._given: Any = None
        self._paragraphs: list[str] = []
        self._depth = 0  # of comments, whose paragraphs are not those of the cell

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if name == "table":
            self._inside = attributes.get("name") == self._sheet
        elif not self._inside:
            return
        elif name == "table-row":
            self._repeated = _count(attributes.get("number-rows-repeated", "1"))
            self._cells, self._column = {}, 0
        elif name in ("table-cell", "covered-table-cell"):
            self._columns = _count(attributes.get("number-columns-repeated", "1"))
            self._given, self._paragraphs = _given(attributes), []
        elif name == "annotation":
            self._depth += 1
        elif name == "p" and not self._depth:
            self._text = []
        elif self._text is not None and name in ("s", "tab", "line-break"):
            count = min(_count(attributes.get("c", "1")), _MAX_COLUMNS)
            self._text.append({"s": " " * count, "tab": "\t", "line-break": "\n"}[name])

    def end(self, name: str) -> None:
        if not self._inside:
            return
        if name == "table":
            self._inside = False
        elif name == "annotation":
            self._depth -= 1
        elif name == "p" and self._text is not None:
            self._paragraphs.append("".join(self._text))
            self._text = None
        elif name in ("table-cell", "covered-table-cell"):
            value = "\n".join(self._paragraphs) or None if self._given is None else self._given
            if value is not None:
                _check_column(self._column + self._columns - 1)
                self._cells |= dict.fromkeys(range(self._column, self._column + self._columns), value)
            self._column += self._columns
        elif name == "table-row":
            self.rows.append((self._number + 1, self._repeated, self._cells))
            self._number += self._repeated


def _given(attributes: dict[str, str]) -> Any:
    """Returns the value of a cell that is no text."""
    kind = attributes.get("value-type")
    if kind in ("float", "percentage", "currency"):
        return _number(attributes["value"])
    if kind == "boolean":
        return attributes["boolean-value"] == "true"
    return attributes.get("date-value") or attributes.get("time-value") or attributes.get("string-value")


# Table


def _collect(file: DataFile, rows: Iterable[_Row], notes: tuple[str, ...]) -> Rows:
    """Makes columns of rows; the first row that is not empty is the header. Empty rows are skipped."""
    names: dict[int, str] = {}
    columns: dict[int, list[Any]] = {}
    lines = array("q")
    size, beside = 0, set[int]()
    for number, repeated, cells in rows:
        if not cells:
            continue
        if not names:
            if file.options.header:
                names = {column: str(value).strip() for column, value in sorted(cells.items())}
                columns = {column: [] for column in names}
                continue
            names = {column: f"column_{column + 1}" for column in range(max(cells) + 1)}
            columns = {column: [] for column in names}
        beside |= cells.keys() - names.keys()
        bytes_of_row = PYTHON_VALUE * (len(names) + len(cells)) + sum(
            len(value) for value in cells.values() if isinstance(value, str)
        )
        file.check_size(size := size + bytes_of_row * repeated)
        for column, values in columns.items():
            values += [cells.get(column)] * repeated
        lines.extend(range(number, number + repeated))
    if not names:
        raise InputError(f"{file.name}: expected a header and rows, found an empty sheet")
    if beside:
        left = ", ".join(f"{column + 1}" for column in sorted(beside)[:10])
        notes = (*notes, f"{file.name}: left out columns without a name in the header: number {left}")
    index = {name: column for column, name in names.items()}
    return Rows(
        file.name,
        len(lines),
        tuple(names.values()),
        lambda name: columns[index[name]],
        notes=notes,
        lines=np.frombuffer(lines, dtype=np.int64),
    )
