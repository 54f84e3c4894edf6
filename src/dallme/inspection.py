"""Inspection of a source before it is distilled: columns, classes, lengths, repetitions, personal data."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from dallme.data import LabelledTexts
from dallme.errors import DallmeError, InputError
from dallme.personal import count_kinds, find_personal
from dallme.readers import build_texts, open_rows
from dallme.readers.columns import TEXT_NAMES, Choice, choose
from dallme.readers.formats import FormatOptions
from dallme.readers.labels import LabelOptions, look_alikes
from dallme.readers.rows import Column, Rows
from dallme.text import is_blank, words
from dallme.validation import is_missing

#: Most texts that are searched for personal data; they are spread evenly over the source.
SEARCHED = 20_000


@dataclass(frozen=True)
class ColumnSummary:
    """A column of a source.

    Attributes:
        name: Its name.
        kind: ``text``, ``number``, ``other``, or ``mixed``.
        filled: Rows with a value that is neither missing nor blank.
        distinct: Number of different values.
        characters: Mean length of its texts; 0 without texts.
        use: ``texts``, ``labels``, ``names of labels``, ``ids``, or blank.
        reason: Reason for the use.
    """

    name: str
    kind: str
    filled: int
    distinct: int
    characters: float
    use: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Inspection:
    """Findings about a source.

    Attributes:
        source: Name of the source.
        rows: Rows of the source.
        columns: Its columns.
        problem: Error that stops :func:`dallme.read`; None if the source can be read as it is.
        suggestion: Options that solve the problem; blank if there are none.
        usable: Rows with a usable text and label.
        classes: Class name to number of usable rows.
        words: Words of the texts: ``mean``, ``median`` and ``max``; empty without texts.
        repeated: Rows that repeat the text of an earlier row.
        ambiguous: Different texts that come with several labels.
        similar_labels: Groups of labels that differ only in case, white space or invisible characters.
        personal: Kind of possible personal data to the number of places.
        personal_texts: Texts that have such places.
        searched: Texts that were searched for personal data.
        notes: Notes of the reader.
        seconds: Time to embed the texts; None if it was not measured.
        seconds_are: Origin of the time.
    """

    source: str
    rows: int
    columns: tuple[ColumnSummary, ...]
    problem: str | None = None
    suggestion: str = ""
    usable: int = 0
    classes: dict[str, int] | None = None
    words: dict[str, float] | None = None
    repeated: int = 0
    ambiguous: int = 0
    similar_labels: tuple[tuple[str, ...], ...] = ()
    personal: dict[str, int] | None = None
    personal_texts: int = 0
    searched: int = 0
    notes: tuple[str, ...] = ()
    seconds: float | None = None
    seconds_are: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Returns all fields, for JSON."""
        return asdict(self)


def inspect(
    source: Any,
    labels: Any = None,
    *,
    text_column: str | None = None,
    label_column: str | None = None,
    id_column: str | None = None,
    drop_bad_rows: bool = False,
    normalize_labels: bool = False,
    missing_labels: Collection[str] | str | None = None,
    max_bytes: int | None = None,
    embedder: Any = None,
    **options: Any,
) -> Inspection:
    """Describes a source, also one that cannot be distilled as it is.

    Args:
        source: As in :func:`dallme.read`.
        labels: As in :func:`dallme.read`; so are the other arguments, where not listed.
        text_column: Column of the texts.
        label_column: Column of the labels.
        id_column: Column of the row ids.
        drop_bad_rows: Whether unusable rows are no problem.
        normalize_labels: Whether labels that look alike are merged.
        missing_labels: Labels that mean a missing one.
        max_bytes: Bytes that the source may take in memory.
        embedder: Embedder whose time is measured on a sample; None measures none.
        **options: ``delimiter``, ``encoding``, ``header``, ``sheet`` and ``table``.

    Returns:
        The findings; ``problem`` is the error that :func:`dallme.read` raises, if it does.

    Raises:
        InputError: If the source cannot be opened.
    """
    rows = open_rows(source, labels, FormatOptions(**options), max_bytes=max_bytes)
    columns = tuple(_summarize(name, rows) for name in rows.names)
    found = Inspection(rows.source, rows.count, columns, notes=rows.notes)
    try:
        choice = choose(rows, text_column, label_column, id_column)
    except InputError as error:
        suggestion = _suggest(columns, text_column, label_column)
        return replace(found, problem=str(error), suggestion=suggestion)
    found = replace(found, columns=_with_uses(columns, choice, (text_column, label_column)))
    spellings = LabelOptions(normalize_labels, missing_labels)
    for attempt in (spellings, replace(spellings, missing=spellings.missing or ())):
        try:
            texts = build_texts(rows, choice, attempt, drop_bad_rows=True, like=None, several=False)
            return _describe(found, texts, embedder, drop_bad_rows=drop_bad_rows)
        except InputError as error:
            found = replace(found, problem=found.problem or str(error))
    return found


def _summarize(name: str, rows: Rows) -> ColumnSummary:
    try:
        column = rows.load(name)
        values = _values(column, rows.count)
    except (InputError, pa.ArrowException):
        values = None
    if values is None:
        return ColumnSummary(name, "other", 0, 0, 0.0)
    filled = [value for value in values if not (is_missing(value) or value == "")]
    lengths = [len(value) for value in filled if isinstance(value, str) and not is_blank(value)]
    numbers = sum(isinstance(value, (int, float)) for value in filled)
    others = len(filled) - numbers - sum(isinstance(value, str) for value in filled)
    kinds = [kind for kind, count in (("text", lengths), ("number", numbers), ("other", others)) if count]
    return ColumnSummary(
        name,
        kinds[0] if len(kinds) == 1 else "mixed" if kinds else "empty",
        len(lengths) + numbers + others,
        len({value if isinstance(value, (str, int, float)) else repr(value) for value in filled}),
        float(np.mean(lengths)) if lengths else 0.0,
    )


def _values(column: Column, count: int) -> list[Any] | None:
    """Returns the values of a column; None if the reader does not load values of its type."""
    values = column if isinstance(column, list) else column.to_pylist()
    return values if len(values) == count else None


def _with_uses(
    columns: tuple[ColumnSummary, ...], choice: Choice, named: tuple[str | None, str | None]
) -> tuple[ColumnSummary, ...]:
    def reason(given: str | None) -> str:
        return "its usual name" if given is None else "named by you"

    uses = {name: ("texts", reason(named[0])) for name in choice.texts}
    if choice.label is not None:
        uses[choice.label] = ("labels", reason(named[1]))
    if choice.label_name is not None:
        uses[choice.label_name] = ("names of labels", "its usual name")
    if choice.row_id is not None:
        uses[choice.row_id] = ("ids", "named by you")
    return tuple(
        replace(column, use=uses[column.name][0], reason=uses[column.name][1])
        if column.name in uses
        else column
        for column in columns
    )


def _suggest(columns: tuple[ColumnSummary, ...], text_column: str | None, label_column: str | None) -> str:
    """Returns options that name the longest texts, and the column with the fewest different values."""
    names = [column.name for column in columns]
    texts = sorted(
        (column for column in columns if column.kind == "text"),
        key=lambda column: (column.name.lower() not in TEXT_NAMES, -column.characters),
    )
    text = text_column if text_column in names else texts[0].name if texts else None
    groups = sorted(
        (
            column
            for column in columns
            if column.name != text and column.kind in ("text", "number") and column.distinct > 1
            if column.distinct * 2 <= column.filled
        ),
        key=lambda column: column.distinct,
    )
    label = label_column if label_column in names else groups[0].name if groups else None
    if text is None or label is None:
        return ""
    return f"--text-column {text!r} --label-column {label!r}"


def _describe(found: Inspection, texts: LabelledTexts, embedder: Any, *, drop_bad_rows: bool) -> Inspection:
    counts = [len(words(text)) for text in texts.texts]
    names: dict[str, set[int]] = {}
    for text, label in zip(texts.texts, texts.labels.tolist(), strict=True):
        names.setdefault(text, set()).add(label)
    step = max(1, -(-len(texts) // SEARCHED))
    matches = [find_personal(text) for text in texts.texts[::step]]
    classes = {texts.label_names[label]: count for label, count in texts.class_counts.items()}
    seconds, origin = _time(texts, embedder)
    problem, suggestion = found.problem, found.suggestion
    if problem is None and len(classes) < 2:
        problem = f"{found.source}: expected at least two classes, found only {next(iter(classes))!r}"
    if problem is None and len(texts) < found.rows and not drop_bad_rows:
        reasons = next(note for note in texts.notes if note.startswith("left out")).partition(": ")[2]
        count = found.rows - len(texts)
        problem = f"{found.source}: {count:,} of {found.rows:,} rows cannot be used: {reasons}"
        suggestion = "--drop-bad-rows"
    return replace(
        found,
        problem=problem,
        suggestion=suggestion,
        usable=len(texts),
        classes=classes,
        words={
            "mean": float(np.mean(counts)),
            "median": float(np.median(counts)),
            "max": float(max(counts)),
        },
        repeated=len(texts) - len(names),
        ambiguous=sum(len(own) > 1 for own in names.values()),
        similar_labels=look_alikes(classes),
        personal=count_kinds(match for own in matches for match in own),
        personal_texts=sum(bool(own) for own in matches),
        searched=len(matches),
        notes=texts.notes,
        seconds=seconds,
        seconds_are=origin,
    )


def _time(texts: LabelledTexts, embedder: Any) -> tuple[float | None, str]:
    """Returns the time that an embedder takes for the texts, and where the figure comes from."""
    if embedder is None:
        return None, "not measured"
    from dallme.embedders import resolve
    from dallme.embedders.cost import make_plan

    try:
        plan = make_plan(resolve(embedder), texts.texts)
    except DallmeError as error:
        return None, str(error)
    return plan.seconds, f"to embed with {plan.embedder}, {plan.seconds_are}"
