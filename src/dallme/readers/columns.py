"""Which columns of a source are the texts and the labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dallme.errors import InputError
from dallme.readers.rows import Rows

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
    rows: Rows, text_column: str | None, label_column: str | None, id_column: str | None, *, labelled: bool = True
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


def _find(rows: Rows, role: str, asked: str | None, usual: Sequence[str], taken: Sequence[str]) -> tuple[str, tuple[str, ...]]:
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
    return found[0], (f"took {found[0]!r} as the {role} column; to use {' or '.join(map(repr, others))} give --{role}-column",)


def _matches(rows: Rows, usual: Sequence[str], taken: Sequence[str]) -> list[str]:
    """Columns that are not taken and have one of the usual names, in the order of these."""
    return [name for wanted in usual for name in rows.names if name.lower() == wanted.lower() and name not in taken]


def _listed(rows: Rows) -> str:
    shown = ", ".join(repr(name if len(name) <= 40 else f"{name[:37]}...") for name in rows.names[:20])
    more = f" and {len(rows.names) - 20} more" if len(rows.names) > 20 else ""
    return f"the columns {shown}{more}{rows.names_hint}"
