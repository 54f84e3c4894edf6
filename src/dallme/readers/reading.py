"""The public function :func:`read`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dallme.data import LabelledTexts
from dallme.errors import InputError
from dallme.readers.files import missing, read_file, read_folder, split_suffix
from dallme.readers.hub import read_hub
from dallme.readers.labels import Classes, align, as_labels, classes, decoded, missing_labels
from dallme.readers.memory import read_object, read_sequence
from dallme.readers.rows import Choice, Column, Rows, choose
from dallme.scale.base import Engine
from dallme.validation import text_problem


def build(rows: Rows, choice: Choice, *, drop_bad_rows: bool, like: LabelledTexts | None) -> LabelledTexts:
    """Reads the chosen columns.

    Raises:
        InputError: If rows cannot be used and are not to be dropped, if none is left, if the labels are no classes or,
            without `like`, all the same.
    """
    if choice.label is None:
        return _unlabelled(rows, choice, drop_bad_rows=drop_bad_rows)
    what = f"{rows.source}: column {choice.label!r}"
    declared = rows.classes.get(choice.label, {})
    labels = as_labels(rows.load(choice.label), what)
    texts = _texts(rows.load(choice.text), f"{rows.source}: column {choice.text!r}")
    kept, notes = _usable(rows, _problems(texts, missing_labels(labels, declared)), drop_bad_rows)
    names = None if choice.label_name is None else _label_names(rows.load(choice.label_name))
    row_ids = _ids(rows, choice)
    if len(kept) < rows.count:
        texts, labels, row_ids = [texts[row] for row in kept], labels.take(kept), row_ids[kept]
        names = None if names is None else names.take(kept)
    if choice.row_id is not None:
        _check_row_ids(row_ids, f"{rows.source}: column {choice.row_id!r}")
    found = classes(labels, declared, names, what)
    if like is not None:
        found, more = align(found, like, rows.source)
        notes += more
    else:
        _check_several(found, what)
    notes = (*rows.notes, *choice.notes, *notes, *_repetitions(texts, found.ids))
    return LabelledTexts(texts, found.ids, found.names, row_ids, rows.source, tuple(dict.fromkeys(notes)))


def _unlabelled(rows: Rows, choice: Choice, *, drop_bad_rows: bool) -> LabelledTexts:
    """Reads texts that have no labels: one class without a name."""
    texts = _texts(rows.load(choice.text), f"{rows.source}: column {choice.text!r}")
    kept, notes = _usable(rows, _problems(texts, np.zeros(rows.count, dtype=bool)), drop_bad_rows)
    texts, row_ids = [texts[row] for row in kept], _ids(rows, choice)[kept]
    if choice.row_id is not None:
        _check_row_ids(row_ids, f"{rows.source}: column {choice.row_id!r}")
    ids = np.zeros(len(texts), dtype=np.int64)
    return LabelledTexts(texts, ids, {0: ""}, row_ids, rows.source, (*rows.notes, *choice.notes, *notes))


def _ids(rows: Rows, choice: Choice) -> np.ndarray:
    """The id of each row: what its id column says, else its number."""
    if choice.row_id is not None:
        return _row_ids(rows.load(choice.row_id))
    return np.arange(rows.count, dtype=np.int64) if rows.row_ids is None else rows.row_ids


def _texts(column: Column, what: str) -> list[Any]:
    """The values of a text column, of which single ones may still be unusable."""
    if isinstance(column, list):
        return column
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_null)
    if not any(test(kind) for test in tests):
        raise InputError(
            f"{what}: expected texts, found values of type {kind}; choose the texts with --text-column"
        )
    try:
        texts: list[Any] = column.to_pylist()
    except UnicodeDecodeError:
        raise InputError(
            f"{what}: expected texts in UTF-8, found other bytes; write the file again as UTF-8"
        ) from None
    return texts


def _label_names(column: Column) -> pa.Array | None:
    """The names beside the labels, or None if the column holds something else."""
    try:
        names = decoded(column)
    except (ValueError, TypeError, OverflowError):
        return None
    return pa.concat_arrays(names.chunks) if pa.types.is_large_string(names.type) else None


def _problems(texts: list[Any], missing: np.ndarray) -> dict[int, str]:
    """Position to what makes the row unusable, in the order of the rows."""
    problems = {row: problem for row, text in enumerate(texts) if (problem := text_problem(text))}
    for row in np.flatnonzero(missing).tolist():
        problems.setdefault(row, "has no label")
    return dict(sorted(problems.items()))


def _usable(rows: Rows, problems: dict[int, str], drop_bad_rows: bool) -> tuple[np.ndarray, tuple[str, ...]]:
    """The positions of the rows to use, and a note on those that are not."""
    usable = np.ones(rows.count, dtype=bool)
    usable[list(problems)] = False
    kept = np.flatnonzero(usable)
    if not problems:
        return kept, ()
    first = ", ".join(f"{rows.place(row)} {problem}" for row, problem in list(problems.items())[:3])
    first += f" and {len(problems) - 3:,} more" if len(problems) > 3 else ""
    if not len(kept):
        raise InputError(
            f"{rows.source}: expected rows with a text and a label, none of the {rows.count:,} has both: {first}"
        )
    if drop_bad_rows:
        return kept, (f"left out {len(problems):,} of {rows.count:,} rows: {first}",)
    raise InputError(
        f"{rows.source}: {len(problems):,} of {rows.count:,} rows cannot be used: {first} (rows count from 0); "
        "mend them or leave them out with --drop-bad-rows"
    )


def _row_ids(column: Column) -> np.ndarray:
    """The values of an id column as strings, None where there is none; object of shape (n,)."""
    values = column if isinstance(column, list) else column.to_pylist()
    names = [None if value is None or value != value or value == "" else str(value) for value in values]
    return np.array(names, dtype=object)


def _check_row_ids(row_ids: np.ndarray, what: str) -> None:
    places: dict[str | None, int] = {}
    for position, name in enumerate(row_ids.tolist()):
        if name is None:
            raise InputError(
                f"{what}: expected an id in each row, found none in row {position:,} of those used"
            )
        if places.setdefault(name, position) != position:
            raise InputError(f"{what}: expected ids that differ, found {name!r} more than once")


def _check_several(found: Classes, what: str) -> None:
    present = np.unique(found.ids)
    if len(present) < 2:
        raise InputError(
            f"{what}: expected at least two classes, found only {found.names[int(present[0])]!r}"
        )


def _repetitions(texts: list[str], labels: np.ndarray) -> tuple[str, ...]:
    """A note on texts that come more than once."""
    first: dict[str, int] = {}
    torn: set[str] = set()
    for text, label in zip(texts, labels.tolist(), strict=True):
        if first.setdefault(text, label) != label:
            torn.add(text)
    repeated = len(texts) - len(first)
    if not repeated:
        return ()
    return (
        f"{repeated:,} of {len(texts):,} rows repeat the text of an earlier row; {len(torn):,} texts come with different labels",
    )


def read(
    source: Any,
    labels: Any = None,
    *,
    text_column: str | None = None,
    label_column: str | None = None,
    id_column: str | None = None,
    drop_bad_rows: bool = False,
    like: LabelledTexts | None = None,
    labelled: bool = True,
    engine: Engine | None = None,
) -> LabelledTexts:
    """Reads labelled texts from whatever holds them.

    Args:
        source: One of

            - a file: CSV, TSV, JSON Lines, a JSON array, Parquet or Arrow (``.csv .tsv .jsonl .ndjson .json .parquet .arrow
              .feather``), also with ``.gz`` or ``.zst``;
            - a folder of such files; ``folder@test`` for a split other than ``train``;
            - the id of a Hugging Face dataset: ``fancyzhx/ag_news``, ``glue:sst2@validation``;
            - a pandas or polars DataFrame, a pyarrow Table, a `datasets.Dataset`, or :class:`LabelledTexts`;
            - a sequence of strings, with `labels`.
        labels: The labels of a sequence of strings, one each.
        text_column: Column with the texts; by default the first with a usual name (text, sentence, content, ...).
        label_column: Column with the labels; by default the first with a usual name (label, labels, class, ...).
        id_column: Column with an id of each row, all different; by default rows are numbered from 0.
        drop_bad_rows: Leaves out rows without a usable text or label, with a note, in place of an error.
        labelled: Whether labels are needed. If not, a source without a column for them is one class without a name.
        engine: Where the files of a folder are parsed; by default here.
        like: Data whose class ids and names the labels are to have, such as the training data of a test set.

    Returns:
        The texts. Whole numbers keep their value as class ids; names are sorted and numbered from 0.

    Raises:
        InputError: If the source is not there or cannot be read, if its columns are not found, if rows are unusable, or if
            the labels are no classes, fewer than two (without `like`), or not those of `like`.
    """
    rows = _open(source, labels, engine)
    return build(
        rows,
        choose(rows, text_column, label_column, id_column, labelled=labelled),
        drop_bad_rows=drop_bad_rows,
        like=like,
    )


def _open(source: Any, labels: Any, engine: Engine | None) -> Rows:
    rows = _open_path(source, engine) if isinstance(source, (str, Path)) else read_object(source)
    if rows is None:
        return read_sequence(source, labels)
    if labels is not None:
        raise InputError(
            f"expected labels only with a list of texts, found them with {type(source).__name__}; "
            "name its column with label_column"
        )
    return rows


def _open_path(source: str | Path, engine: Engine | None) -> Rows:
    """A file, a folder, a split of a folder, or the name of a dataset of the Hub."""
    name = str(source)
    if not name.strip():
        raise InputError("expected a path or a dataset id, found an empty string")
    # os.path, as unlike Path it takes any string without an error.
    path = os.path.expanduser(name)
    if os.path.isdir(path):
        return read_folder(Path(path), name, None, engine)
    if os.path.exists(path):
        return read_file(Path(path), name)
    base, _, split = path.rpartition("@")
    if os.path.isdir(base):
        return read_folder(Path(base), name.rpartition("@")[0], split, engine)
    if os.path.exists(base):
        raise InputError(f"{name}: expected a folder before '@{split}', found a file; a file has no splits")
    is_split = bool(base) and not split_suffix(split)[1]
    wanted = base if is_split else path
    if isinstance(source, Path) or name.startswith((".", "/", "~")) or split_suffix(wanted)[1]:
        raise missing(Path(wanted), name)
    return read_hub(name)
