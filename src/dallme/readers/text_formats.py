"""JSON Lines, JSON arrays, the format of fastText, and texts in files of their own."""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from dallme.errors import InputError
from dallme.readers.formats import PYTHON_VALUE, Allowance, DataFile, FormatOptions
from dallme.readers.rows import Column, Rows, readable_as
from dallme.readers.text_stream import find_encoding, open_text

# JSON


#: Beginning of an array, in any encoding of Unicode.
_ARRAY = re.compile(rb"(?:\xef\xbb\xbf|\xff\xfe|\xfe\xff)?[\s\0]*\[")

#: Rows that are searched for nested keys, and most nested keys that are listed.
_SEARCHED, _MAX_NESTED = 100, 50


def read_json(file: DataFile) -> Rows:
    """Reads one JSON object per line, or one JSON array of objects.

    Raises:
        InputError: If the file is too large or in no known encoding, or where a line is not a JSON object.
    """
    with readable_as("text", file.name), file.open() as content:
        is_array = _ARRAY.match(content.read(65536)) is not None
    encoding = find_encoding(file, lines=not is_array)
    columns: dict[str, tuple[list[int], list[Any]]] = {}  # rows and values: most rows may lack a key
    lines = array("q")
    count = cells = 0
    with open_text(file, encoding, lines=not is_array) as stream:
        for line, record in _json_array(stream, file.name) if is_array else _json_lines(stream, file.name):
            for key, value in record.items():
                if key not in columns:
                    columns[key] = [], []
                rows, values = columns[key]
                rows.append(count)
                values.append(value)
            lines.append(line)
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

    nested = dict.fromkeys(
        path
        for name, (_, values) in columns.items()
        for value in values[:_SEARCHED]
        for path in _paths(name, value)
    )
    return Rows(
        file.name,
        count,
        tuple(columns),
        load,
        notes=encoding.notes(file.name),
        lines=None if is_array else np.frombuffer(lines, dtype=np.int64),
        nested=tuple(nested)[:_MAX_NESTED],
    )


def _paths(name: str, value: Any, depth: int = 3) -> Iterator[str]:
    """Yields the dotted paths to the strings and numbers within an object."""
    if isinstance(value, dict) and depth:
        for key, inner in value.items():
            if isinstance(inner, (str, int, float)):
                yield f"{name}.{key}"
            else:
                yield from _paths(f"{name}.{key}", inner, depth - 1)


def _json_lines(stream: IO[str], name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields the objects with the number of their line."""
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
        yield number, record


def _json_array(stream: IO[str], name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields the objects of an array, each with its number from 0.

    All at once would take twenty times the size of the file.
    """
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
            yield number, record
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


# fastText


_PREFIX = "__label__"


def read_fasttext(file: DataFile) -> Rows:
    """Reads lines that begin with a label, ``__label__x text``, as fastText does; blank lines are skipped.

    Raises:
        InputError: If the file is too large or in no known encoding, or no line begins with a label.
    """
    encoding = find_encoding(file, lines=True)
    columns: dict[str, list[Any]] = {"text": [], "label": []}
    lines, problems = array("q"), dict[int, str]()
    with open_text(file, encoding, lines=True) as stream:
        for number, line in enumerate(stream, start=1):
            if not (rest := line.strip()):
                continue
            labels = []
            while rest.startswith(_PREFIX):
                head, *tail = rest.split(maxsplit=1)
                labels.append(head.removeprefix(_PREFIX))
                rest = "".join(tail)
            if len(labels) > 1:
                problems[len(lines)] = f"has {len(labels)} labels"
            columns["text"].append(rest)
            columns["label"].append(labels[0] if labels else None)
            lines.append(number)
            if not len(lines) & 0xFFF:
                file.check_size(len(lines) * 3 * PYTHON_VALUE)
        file.check_size(len(lines) * 3 * PYTHON_VALUE)
    if not any(columns["label"]):
        raise InputError(
            f"{file.name}: expected lines that begin with {_PREFIX}NAME, the format of fastText, found none; "
            "for one text in each file, give each class a folder"
        )
    return Rows(
        file.name,
        len(lines),
        tuple(columns),
        columns.__getitem__,
        notes=encoding.notes(file.name),
        problems=problems,
        lines=np.frombuffer(lines, dtype=np.int64),
    )


# A file for each text


def read_class_folders(
    folder: Path, files: Sequence[Path], source: str, allowance: Allowance, options: FormatOptions
) -> Rows:
    """Reads one text from each file; the folder of a file is its class.

    Args:
        folder: The folder that the names of files in messages refer to.
        files: The files.
        source: Name of the source.
        allowance: Bytes that they may take in memory together.
        options: Properties of the files that the user named.

    Raises:
        InputError: If they are too large, or a file is in no known encoding.
    """
    columns: dict[str, list[Any]] = {"text": [], "label": []}
    notes: dict[str, int] = {}
    for path in files:
        file = DataFile(path, str(path), None, allowance, options)
        encoding = find_encoding(file)
        with open_text(file, encoding) as stream:
            columns["text"].append(stream.read().removesuffix("\n").removesuffix("\r"))
        file.check_size(PYTHON_VALUE * 2 + path.stat().st_size)
        columns["label"].append(path.parent.name)
        if encoding.signs:
            notes[encoding.title] = notes.get(encoding.title, 0) + 1
    return Rows(
        source,
        len(files),
        tuple(columns),
        columns.__getitem__,
        parts=tuple((str(path.relative_to(folder)), 1) for path in files),
        notes=tuple(
            f"{source}: read {count:,} files as {title}; --encoding overrules"
            for title, count in notes.items()
        ),
    )
