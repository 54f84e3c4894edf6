"""The common form of all sources: named columns that are loaded on demand."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dallme.errors import InputError, redact

#: Values of one column: an Arrow array, or Python values where the source is untyped (JSON) or not valid
#: Unicode.
Column: TypeAlias = "pa.ChunkedArray | list[Any]"


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of a source.

    Attributes:
        source: Name of the source as the user gave it.
        count: Number of rows, n.
        names: Names of the columns.
        load: Function from a column's name to its n values.
        classes: Column name to class id to class name, where the source declares them (a `ClassLabel`
            feature).
        parts: File name and number of rows of each file, where there are several.
        row_ids: Id of each row, of shape (n,), or None for the numbers from 0.
        notes: Remarks for the user.
        names_hint: Addition to errors about the column names.
        own_ids: Whether class ids come from the source; else dallme numbered its sorted class names.
        problems: Position of a row to the reason why it is unusable, where the file itself shows it.
        lines: Line of the file in which each row begins, int64 of shape (n,), or None; 0 is unknown.
        nested: Dotted paths to values within columns, for messages.
    """

    source: str
    count: int
    names: tuple[str, ...]
    load: Callable[[str], Column]
    classes: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    parts: tuple[tuple[str, int], ...] = ()
    row_ids: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    names_hint: str = ""
    own_ids: bool = True
    problems: Mapping[int, str] = field(default_factory=dict)
    lines: np.ndarray | None = None
    nested: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Checks that there are rows and that column names are unique."""
        repeated = sorted(name for name, count in Counter(self.names).items() if count > 1)
        if repeated:
            raise InputError(
                f"{self.source}: expected columns of different names, "
                f"found {', '.join(map(repr, repeated))} more than once{self.names_hint}"
            )
        if self.count == 0:
            raise InputError(f"{self.source}: expected rows with texts and labels, found none")

    def locate(self, row: int) -> str:
        """Names a row by its line and file where these are known, else by its number from 0."""
        line = 0 if self.lines is None else int(self.lines[row])
        start = 0
        for name, count in self.parts:
            if row < start + count:
                if line:
                    return f"line {line:,} of {name}"
                return name if count == 1 else f"row {row:,} (row {row - start:,} of {name})"
            start += count
        return f"line {line:,}" if line else f"row {row:,}"

    def has(self, name: str) -> bool:
        """Returns whether there is a column of a name, or one that a dotted path begins with."""
        return name in self.names or self._split(name) is not None

    def column(self, name: str) -> Column:
        """Loads a column, or the values at a dotted path within one: ``fields.text``.

        Raises:
            InputError: If no value has the path.
        """
        if name in self.names:
            return self.load(name)
        head, keys = self._split(name) or (name, [])
        column = self.load(head)
        if len(column) != self.count:
            raise InputError(
                f"{self.source}: expected a column of plain values, found nested ones in {head!r}, "
                "which are read from JSON only; give them a column of their own"
            )
        return _within(column, keys, f"{self.source}: column {head!r}")

    def _split(self, name: str) -> tuple[str, list[str]] | None:
        """Splits a dotted path into the longest name of a column and the keys within it."""
        parts = name.split(".")
        for length in range(len(parts) - 1, 0, -1):
            if (head := ".".join(parts[:length])) in self.names:
                return head, parts[length:]
        return None


def _within(column: Column, keys: list[str], what: str) -> Column:
    """Returns the values at the path of keys within the objects of a column, None where there are none."""
    for key in keys:
        if not isinstance(column, list):
            if not pa.types.is_struct(column.type):
                column = column.to_pylist()
            elif key in [field.name for field in column.type]:
                column = pc.struct_field(column, key)
                continue
            else:
                column = column.to_pylist()
        known = dict.fromkeys(name for value in column if isinstance(value, dict) for name in value)
        if key not in known:
            found = f"the keys {', '.join(map(repr, list(known)[:20]))}" if known else "no objects"
            raise InputError(f"{what}: expected objects with the key {key!r}, found {found}")
        column = [value.get(key) if isinstance(value, dict) else None for value in column]
    return column


def from_lists(source: str, columns: Mapping[str, list[Any]], count: int) -> Rows:
    """Rows whose columns are Python lists."""
    return Rows(source, count, tuple(columns), columns.__getitem__)


def from_table(source: str, table: pa.Table) -> Rows:
    """Rows of an Arrow table."""
    names = tuple(table.column_names)
    return Rows(source, table.num_rows, names, table.column, classes=declared_classes(table.schema))


def declared_classes(schema: pa.Schema) -> dict[str, dict[int, str]]:
    """Returns the class names that `datasets` stores in the metadata of an Arrow schema, by column."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {
            column: dict(enumerate(feature["names"]))
            for column, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
            if _are_names(feature.get("names"))
        }
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError):
        return {}  # metadata of another program


def _are_names(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(name, str) for name in value)


@contextmanager
def readable_as(kind: str, name: str) -> Iterator[None]:
    """Converts errors of reading a file into an :class:`InputError` of one line that names the file."""
    try:
        yield
    except (OSError, EOFError, UnicodeDecodeError, pa.ArrowException) as error:
        reason = redact(" ".join(str(error).split()))
        raise InputError(
            f"{name}: cannot be read as {kind} (is the file damaged or misnamed?): {reason}"
        ) from None
