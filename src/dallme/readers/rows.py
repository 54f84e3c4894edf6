"""The common form of all sources: named columns that are loaded on demand; and the choice of columns."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

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
        """Names a row by its number from 0, and by that in its file if there are several files."""
        start = 0
        for name, count in self.parts:
            if row < start + count:
                return f"row {row:,} (row {row - start:,} of {name})"
            start += count
        return f"row {row:,}"


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


#: Usual names of the text column, by descending likelihood.
TEXT_NAMES = (
    "text", "sentence", "content", "review", "document", "body", "utterance", "query", "question", "comment",
    "tweet", "message", "post", "description", "headline", "title",
)  # fmt: skip

#: Usual names of the label column, by descending likelihood.
LABEL_NAMES = (
    "label", "labels", "class", "category", "target", "sentiment", "topic", "intent", "emotion", "stars",
    "rating", "coarse_label", "fine_label", "label_coarse", "label_fine", "label_text", "label_name",
)  # fmt: skip


@dataclass(frozen=True)
class Choice:
    """The columns to read.

    Attributes:
        text: Column of the texts.
        label: Column of the labels; None if there are none and none are needed.
        label_name: Column of the labels' names, or None.
        row_id: Column of the row ids, or None.
        notes: Remarks on other columns that could have been meant.
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
    """Chooses the columns named by the user, else those of usual names in any case.

    If labels are not needed, a source without a usual label column has none.

    Raises:
        InputError: If a named column is missing, if two of the three are the same, or if no column has a
            usual name.
    """
    named = [name for name in (text_column, label_column, id_column) if name is not None]
    for name in named:
        if name not in rows.names:
            raise InputError(f"{rows.source}: expected a column {name!r}, found {_listed(rows)}")
        if named.count(name) > 1:
            raise InputError(
                f"{rows.source}: expected different columns for texts, labels and ids, "
                f"found {name!r} more than once"
            )
    text, text_notes = _find(rows, "text", text_column, TEXT_NAMES, taken=named)
    if not labelled and label_column is None and not _matches(rows, LABEL_NAMES, [*named, text]):
        return Choice(text, None, None, id_column, text_notes)
    label, label_notes = _find(rows, "label", label_column, LABEL_NAMES, taken=[*named, text])
    name_columns = (f"{label}_text", f"{label}_name", "label_text", "label_name")
    label_name = next(iter(_matches(rows, name_columns, taken=[*named, text, label])), None)
    return Choice(text, label, label_name, id_column, text_notes + label_notes)


def _find(
    rows: Rows, role: str, named: str | None, usual: Sequence[str], taken: Sequence[str]
) -> tuple[str, tuple[str, ...]]:
    """The column of a role, and a note if another column has a usual name too."""
    if named is not None:
        return named, ()
    matches = _matches(rows, usual, taken)
    if not matches:
        raise InputError(
            f"{rows.source}: expected a {role} column with a usual name ({', '.join(usual[:6])}, ...), "
            f"found {_listed(rows)}; name yours with --{role}-column"
        )
    others = [name for name in matches[1:] if name.lower() not in ("label_text", "label_name")]
    if not others:
        return matches[0], ()
    return matches[0], (
        f"took {matches[0]!r} as the {role} column; "
        f"to use {' or '.join(map(repr, others))} give --{role}-column",
    )


def _matches(rows: Rows, usual: Sequence[str], taken: Sequence[str]) -> list[str]:
    """Columns that are not taken and have one of the usual names, in the order of these."""
    lowered = [(name.lower(), name) for name in rows.names if name not in taken]
    return [name for wanted in usual for lower, name in lowered if lower == wanted.lower()]


def _listed(rows: Rows) -> str:
    shown = ", ".join(repr(name if len(name) <= 40 else f"{name[:37]}...") for name in rows.names[:20])
    more = f" and {len(rows.names) - 20} more" if len(rows.names) > 20 else ""
    return f"the columns {shown}{more}{rows.names_hint}"
