"""What every kind of source is opened to: named columns, of which only those that are needed get loaded."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from dallme.errors import InputError

#: Usual names of the column with the texts, the likeliest first.
TEXT_NAMES = (
    "text", "sentence", "content", "review", "document", "body", "utterance", "query", "question", "comment", "tweet",
    "message", "post", "description", "headline", "title",
)  # fmt: skip

#: Usual names of the column with the labels, the likeliest first.
LABEL_NAMES = (
    "label", "labels", "class", "category", "target", "sentiment", "topic", "intent", "emotion", "stars", "rating",
    "coarse_label", "fine_label", "label_coarse", "label_fine", "label_text", "label_name",
)  # fmt: skip


@dataclass(frozen=True)
class Choice:
    """The columns to read.

    Attributes:
        text: The texts.
        label: The labels; None if there are none and none are needed.
        label_name: Names of the labels, or None.
        row_id: What the source calls each row, or None.
        notes: Which other columns could have been meant.
    """

    text: str
    label: str | None
    label_name: str | None = None
    row_id: str | None = None
    notes: tuple[str, ...] = ()


def choose(
    rows: Rows,
    text_column: str | None,
    label_column: str | None,
    id_column: str | None,
    *,
    labelled: bool = True,
) -> Choice:
    """Finds the columns by what the user says, else by their usual names, in any case.

    Where labels are not needed, a source without a usual name for them has none.

    Raises:
        InputError: If a column that was asked for is not there, if two of the three are the same, or if no column has a
            usual name.
    """
    asked = [name for name in (text_column, label_column, id_column) if name is not None]
    for name in asked:
        if name not in rows.names:
            raise InputError(f"{rows.source}: expected a column {name!r}, found {_listed(rows)}")
        if asked.count(name) > 1:
            raise InputError(
                f"{rows.source}: expected different columns for texts, labels and ids, found {name!r} more than once"
            )
    text, text_notes = _find(rows, "text", text_column, TEXT_NAMES, taken=asked)
    if not labelled and label_column is None and not _matches(rows, LABEL_NAMES, [*asked, text]):
        return Choice(text, None, None, id_column, text_notes)
    label, label_notes = _find(rows, "label", label_column, LABEL_NAMES, taken=[*asked, text])
    names_of_label = (f"{label}_text", f"{label}_name", "label_text", "label_name")
    label_name = next(iter(_matches(rows, names_of_label, taken=[*asked, text, label])), None)
    return Choice(text, label, label_name, id_column, text_notes + label_notes)


def _find(
    rows: Rows, role: str, asked: str | None, usual: Sequence[str], taken: Sequence[str]
) -> tuple[str, tuple[str, ...]]:
    """The column of a role, and a note if another column has a usual name too."""
    if asked is not None:
        return asked, ()
    found = _matches(rows, usual, taken)
    if not found:
        raise InputError(
            f"{rows.source}: expected a {role} column with a usual name ({', '.join(usual[:6])}, ...), "
            f"found {_listed(rows)}; name yours with --{role}-column"
        )
    others = [name for name in found[1:] if name.lower() not in ("label_text", "label_name")]
    if not others:
        return found[0], ()
    return found[0], (
        f"took {found[0]!r} as the {role} column; to use {' or '.join(map(repr, others))} give --{role}-column",
    )


def _matches(rows: Rows, usual: Sequence[str], taken: Sequence[str]) -> list[str]:
    """Columns that are not taken and have one of the usual names, in the order of these."""
    return [
        name
        for wanted in usual
        for name in rows.names
        if name.lower() == wanted.lower() and name not in taken
    ]


def _listed(rows: Rows) -> str:
    shown = ", ".join(repr(name if len(name) <= 40 else f"{name[:37]}...") for name in rows.names[:20])
    more = f" and {len(rows.names) - 20} more" if len(rows.names) > 20 else ""
    return f"the columns {shown}{more}{rows.names_hint}"


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
        raise InputError(
            f"{name}: cannot be read as {kind} (is the file damaged or misnamed?): {reason}"
        ) from None


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
            if isinstance(feature, dict)
            and feature.get("_type") == "ClassLabel"
            and _are_names(feature.get("names"))
        }
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError):
        return {}  # metadata that another program wrote; the columns are read all the same


def _are_names(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(name, str) for name in value)
