"""The choice of columns: those that the user names, else those of usual names."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from dallme.errors import InputError
from dallme.readers.rows import Column, Rows
from dallme.text import is_blank
from dallme.validation import is_missing

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
        texts: Columns of the texts; several are joined.
        label: Column of the labels; None if there are none and none are needed.
        label_name: Column of the labels' names, or None.
        row_id: Column of the row ids, or None.
        notes: Remarks on the choice.
    """

    texts: tuple[str, ...]
    label: str | None
    label_name: str | None = None
    row_id: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The columns of the texts, for messages."""
        return ", ".join(self.texts)


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

    Args:
        rows: The source.
        text_column: Column of the texts, or several separated by commas; dots lead into nested objects.
        label_column: Column of the labels.
        id_column: Column of the row ids.
        labelled: Whether labels are needed.

    Raises:
        InputError: If a named column is missing, if two of them are the same, or if no column has a
            usual name.
    """
    texts: tuple[str, ...] = () if text_column is None else _text_columns(rows, text_column)
    named = [*texts, *(name for name in (label_column, id_column) if name is not None)]
    for name in named:
        if not rows.has(name):
            raise _unknown(rows, name)
        if named.count(name) > 1:
            raise InputError(
                f"{rows.source}: expected different columns for texts, labels and ids, "
                f"found {name!r} more than once"
            )
    notes: tuple[str, ...] = ()
    if len(texts) > 1:
        notes = (f"joined the columns {' and '.join(map(repr, texts))} by a line break",)
    elif not texts:
        text, notes = _find(rows, "text", TEXT_NAMES, taken=named)
        texts = (text,)
    taken = [*named, *texts]
    if not labelled and label_column is None and not _matches(rows, LABEL_NAMES, taken):
        return Choice(texts, None, None, id_column, notes)
    label, more = (label_column, ()) if label_column else _find(rows, "label", LABEL_NAMES, taken)
    name_columns = (f"{label}_text", f"{label}_name", "label_text", "label_name")
    label_name = next(iter(_matches(rows, name_columns, taken=[*taken, label])), None)
    return Choice(texts, label, label_name, id_column, notes + more)


def _text_columns(rows: Rows, named: str) -> tuple[str, ...]:
    """Splits names at commas, unless the whole is the name of a column."""
    parts = tuple(name.strip() for name in named.split(",") if name.strip())
    return (named,) if rows.has(named) or len(parts) < 2 else parts


def _unknown(rows: Rows, name: str) -> InputError:
    """Returns the error for a column that does not exist, with the name that is most similar."""
    folded = {known.strip().casefold(): known for known in (*rows.names, *rows.nested)}
    similar = difflib.get_close_matches(name.strip().casefold(), folded, n=1)
    hint = f"; did you mean {folded[similar[0]]!r}?" if similar else rows.names_hint
    return InputError(f"{rows.source}: expected a column {name!r}, found {_listed(rows)}{hint}")


def _find(rows: Rows, role: str, usual: Sequence[str], taken: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """The column of a role, and a note if another column has a usual name too."""
    matches = _matches(rows, usual, taken)
    if not matches:
        raise InputError(
            f"{rows.source}: expected a {role} column with a usual name ({', '.join(usual[:6])}, ...), "
            f"found {_listed(rows)}{rows.names_hint}; name yours with --{role}-column"
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
    shown = ", ".join(_short(name) for name in rows.names[:20])
    more = f" and {len(rows.names) - 20} more" if len(rows.names) > 20 else ""
    nested = f", and within them {', '.join(map(_short, rows.nested[:20]))}" if rows.nested else ""
    return f"the columns {shown}{more}{nested}"


def _short(name: str) -> str:
    return repr(name if len(name) <= 40 else f"{name[:37]}...")


def load_texts(rows: Rows, names: Sequence[str]) -> Column:
    """Loads one column, or joins the values of several by line breaks; missing and blank values are left out.

    A row with something else than texts keeps that value, so that it is reported.
    """
    if len(names) == 1:
        return rows.column(names[0])
    columns = [
        column if isinstance(column, list) else column.to_pylist() for column in map(rows.column, names)
    ]
    return [_joined_values(values) for values in zip(*columns, strict=True)]


def _joined_values(values: Sequence[object]) -> object:
    texts = []
    for value in values:
        if isinstance(value, str):
            if not is_blank(value):
                texts.append(value)
        elif not is_missing(value):
            return value
    return "\n".join(texts) if texts else None
