"""What every kind of source is opened to: named columns, of which only those that are needed get loaded."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from dallme.errors import InputError

#: The values of one column: an Arrow array in chunks, or Python values where a source is not typed (JSON) or not valid
#: Unicode.
Column: TypeAlias = "pa.ChunkedArray | list[Any]"


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of a source, before it is known which columns are the texts and the labels.

    Attributes:
        source: What the user calls it.
        count: Number of rows, n.
        names: Names of the columns.
        load: Column name to its n values.
        classes: Column name to class id to class name, where the source declares them (a `ClassLabel` feature).
        parts: File name and number of rows of each file, where there are several.
        row_ids: What the source calls each row, of shape (n,), or None for their numbers from 0.
        notes: What the user should know about how it was read.
        names_hint: What may be wrong where the names of the columns are not the expected ones.
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

    def __post_init__(self) -> None:
        """Checks that there are rows and that no two columns share a name."""
        repeated = sorted({name for name in self.names if self.names.count(name) > 1})
        if repeated:
            raise InputError(
                f"{self.source}: expected columns of different names, found {', '.join(map(repr, repeated))} more than once"
                f"{self.names_hint}"
            )
        if self.count == 0:
            raise InputError(f"{self.source}: expected rows with texts and labels, found none")

    def place(self, row: int) -> str:
        """Says where a row is: its number from 0, and where there are several files, that in its file."""
        start = 0
        for name, count in self.parts:
            if row < start + count:
                return f"row {row:,} (row {row - start:,} of {name})"
            start += count
        return f"row {row:,}"


@contextmanager
def readable_as(kind: str, name: str) -> Iterator[None]:
    """Turns what goes wrong inside the block while a file is read into one :class:`InputError` that names the file."""
    try:
        yield
    except (OSError, EOFError, UnicodeDecodeError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{name}: cannot be read as {kind} (is the file damaged or misnamed?): {reason}") from None


def from_lists(source: str, columns: Mapping[str, list[Any]], count: int, **more: Any) -> Rows:
    """Rows whose columns are Python lists; `more` are further attributes of :class:`Rows`."""
    return Rows(source, count, tuple(columns), columns.__getitem__, **more)


def from_table(source: str, table: pa.Table, **more: Any) -> Rows:
    """Rows of an Arrow table."""
    return Rows(
        source,
        table.num_rows,
        tuple(table.column_names),
        table.column,
        classes=declared_classes(table.schema),
        **more,
    )


def declared_classes(schema: pa.Schema) -> dict[str, dict[int, str]]:
    """The class names that the library `datasets` keeps in the metadata of an Arrow schema, by column."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {
            column: dict(enumerate(feature["names"]))
            for column, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and _are_names(feature.get("names"))
        }
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError):
        return {}  # metadata that another program wrote; the columns are read all the same


def _are_names(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(name, str) for name in value)
