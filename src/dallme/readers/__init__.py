"""Readers: any source of labelled texts becomes :class:`~dallme.data.LabelledTexts`.

:func:`read` checks the rows. `files` and `folders`, with a module for each format, and `memory` open a source
as :class:`~dallme.readers.rows.Rows`, `columns` chooses its columns, and `labels` makes class ids of labels.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dallme.data import LabelledTexts
from dallme.errors import InputError
from dallme.readers.columns import Choice, choose, load_texts
from dallme.readers.files import make_allowance, missing, read_file, split_suffix
from dallme.readers.folders import read_folder
from dallme.readers.formats import DETECTED, FormatOptions
from dallme.readers.labels import (
    Classes,
    LabelOptions,
    align,
    as_labels,
    decoded,
    make_classes,
    merge_spellings,
    missing_labels,
    multi_label_note,
    similar_names,
)
from dallme.readers.memory import read_hub, read_object, read_sequence
from dallme.readers.rows import Column, Rows
from dallme.scale import Engine
from dallme.text import nfc
from dallme.validation import check_positive, is_missing, text_problem


def read(
    source: Any,
    labels: Any = None,
    *,
    text_column: str | None = None,
    label_column: str | None = None,
    id_column: str | None = None,
    drop_bad_rows: bool = False,
    normalize_labels: bool = False,
    missing_labels: Collection[str] | str | None = None,
    like: LabelledTexts | None = None,
    labelled: bool = True,
    engine: Engine | None = None,
    max_bytes: int | None = None,
    delimiter: str | None = None,
    encoding: str | None = None,
    header: bool = True,
    sheet: str | None = None,
    table: str | None = None,
) -> LabelledTexts:
    """Reads labelled texts from a file, a folder, the Hugging Face Hub or memory.

    Args:
        source: One of

            - a file: CSV, TSV, JSON Lines, a JSON array, Parquet, Arrow, a spreadsheet, SQLite or fastText
              (``.csv .tsv .jsonl .ndjson .json .parquet .arrow .feather .xlsx .ods .db .sqlite .sqlite3
              .txt``), also with ``.gz`` or ``.zst``;
            - a folder of such files, also with partition folders ``label=x``, or with a folder of ``.txt``
              files per class; ``folder@test`` for a split other than ``train``;
            - the id of a Hugging Face dataset: ``fancyzhx/ag_news``, ``glue:sst2@validation``;
            - a pandas frame, a polars frame or lazy frame, a pyarrow Table, a dataset, iterable dataset or
              dictionary of splits of the library `datasets` (``train`` is read), or :class:`LabelledTexts`;
            - a sequence of strings, with `labels`.
        labels: The labels of a sequence of strings, one each.
        text_column: Column of the texts; by default the first with a usual name (text, sentence, content,
            ...). Several, separated by commas, are joined by a line break. A dotted path leads into nested
            objects: ``fields.text``.
        label_column: Column of the labels; by default the first with a usual name (label, labels, class,
            ...).
        id_column: Column of unique row ids; by default rows are numbered from 0.
        drop_bad_rows: Whether to skip rows without a usable text or label, with a note; by default they are
            an error.
        normalize_labels: Whether labels that differ only in case, white space or invisible characters are one
            class, with a note.
        missing_labels: Labels that mean a missing one, a list or separated by commas. By default a usual
            spelling, such as ``NA`` or ``-``, is an error; an empty list keeps all labels.
        like: Data whose class ids and names the labels take, such as the training data of a test set.
        labelled: Whether labels are needed. If not, a source without a label column is one unnamed class.
        engine: Engine that parses the files of a folder; by default this process.
        max_bytes: Bytes that all files of the source may take in memory together; by default 1 GiB, or 100
            times their size if that is more. A larger source is an error: a few kilobytes can unpack to
            gigabytes.
        delimiter: Character between two fields of a CSV file, in place of the one that is detected.
        encoding: Encoding of text files, in place of the one that is detected.
        header: Whether the first line of a CSV file or spreadsheet holds column names; if not, they are
            ``column_1``, ``column_2`` and so on.
        sheet: Sheet of a spreadsheet; by default the first.
        table: Table or view of a SQLite file; by default the only one.

    Returns:
        The texts. Whole numbers keep their value as class ids; names are sorted and numbered from 0.

    Raises:
        InputError: If the source or its columns cannot be found or read, or rows are unusable. Or if the
            labels are no classes, fewer than two (without `like`), or not those of `like`.
    """
    options = FormatOptions(delimiter, encoding, header, sheet, table)
    rows = open_rows(source, labels, options, engine=engine, max_bytes=max_bytes)
    choice = choose(rows, text_column, label_column, id_column, labelled=labelled)
    spellings = LabelOptions(normalize_labels, missing_labels)
    return build_texts(rows, choice, spellings, drop_bad_rows=drop_bad_rows, like=like, several=labelled)


def open_rows(
    source: Any,
    labels: Any = None,
    options: FormatOptions = DETECTED,
    *,
    engine: Engine | None = None,
    max_bytes: int | None = None,
) -> Rows:
    """Opens a source without a choice of columns; the arguments are those of :func:`read`."""
    if max_bytes is not None:
        check_positive(max_bytes, "max_bytes")
    if isinstance(source, (str, Path)):
        rows: Rows | None = _open_path(source, options, engine, max_bytes)
    else:
        rows = read_object(source, max_bytes)
        if unused := options.unused(()):
            raise InputError(f"expected {' and '.join(unused)} with a file, found {type(source).__name__}")
    if rows is None:
        return read_sequence(source, labels)
    if labels is not None:
        raise InputError(
            f"expected labels only with a list of texts, found them with {type(source).__name__}; "
            "name its column with label_column"
        )
    return rows


def _open_path(
    source: str | Path, options: FormatOptions, engine: Engine | None, max_bytes: int | None
) -> Rows:
    """Opens a file, a folder, a split of a folder, or a dataset of the Hub."""
    name = str(source)
    if not name.strip():
        raise InputError("expected a path or a dataset id, found an empty string")
    path = os.path.expanduser(name)  # os.path accepts any string, unlike Path
    if os.path.isdir(path):
        return read_folder(Path(path), name, None, options, engine, max_bytes)
    if os.path.exists(path):
        return read_file(Path(path), name, make_allowance(max_bytes, Path(path)), options)
    base, _, split = path.rpartition("@")
    if os.path.isdir(base):
        return read_folder(Path(base), name.rpartition("@")[0], split, options, engine, max_bytes)
    if os.path.exists(base):
        raise InputError(f"{name}: expected a folder before '@{split}', found a file; a file has no splits")
    wanted = base if base and not split_suffix(split)[1] else path
    if isinstance(source, Path) or name.startswith((".", "/", "~")) or split_suffix(wanted)[1]:
        raise missing(Path(wanted), name)
    return read_hub(name)


def build_texts(
    rows: Rows,
    choice: Choice,
    spellings: LabelOptions,
    *,
    drop_bad_rows: bool,
    like: LabelledTexts | None,
    several: bool,
) -> LabelledTexts:
    """Loads and checks the chosen columns; without a label column, all rows are one unnamed class.

    Args:
        rows: The source.
        choice: Its columns.
        spellings: Treatment of the spellings of labels.
        drop_bad_rows: Whether to skip unusable rows.
        like: Data whose class ids and names the labels take.
        several: Whether one class alone is an error.

    Raises:
        InputError: As :func:`read`.
    """
    texts = _load_texts(rows, choice)
    labels, unlabelled = None, np.zeros(rows.count, dtype=bool)
    merged: tuple[str, ...] = ()
    if choice.label is not None:
        what = f"{rows.source}: column {choice.label!r}"
        declared = rows.classes.get(choice.label, {})
        known = () if like is None else like.label_names.values()
        labels = as_labels(rows.column(choice.label), what)
        unlabelled = missing_labels(labels, declared, what, spellings.missing, known)
        if spellings.normalize:
            labels, merged = merge_spellings(labels, known)
    usable, notes = _usable_rows(rows, texts, unlabelled, drop_bad_rows)
    if len(usable) < len(texts):
        texts = [texts[row] for row in usable]
    row_ids = _load_row_ids(rows, choice.row_id)[usable]
    if choice.row_id is not None:
        _check_row_ids(row_ids, f"{rows.source}: column {choice.row_id!r}")
    if labels is None:
        classes = Classes(np.zeros(len(texts), dtype=np.int64), {0: ""}, own_ids=False)
    else:
        names = None if choice.label_name is None else _label_names(rows.load(choice.label_name))
        names = None if names is None else names.take(usable)
        classes = make_classes(labels.take(usable), declared, names, what)
        if like is not None:
            classes, more = align(classes, like, rows.source)
            notes += more
        elif several and len(present := np.unique(classes.ids)) < 2:
            only = classes.names[int(present[0])]
            raise InputError(f"{what}: expected at least two classes, found only {only!r}")
        notes += (*merged, *similar_names(classes), *_repetitions(texts, classes.ids))
        notes += () if like else multi_label_note(classes, what)
    notes = tuple(dict.fromkeys((*rows.notes, *choice.notes, *notes)))
    return LabelledTexts(
        texts,
        classes.ids,
        classes.names,
        row_ids,
        rows.source,
        notes,
        own_ids=rows.own_ids and classes.own_ids,
        columns=(choice.text, choice.label or ""),
    )


def _load_texts(rows: Rows, choice: Choice) -> list[Any]:
    """Loads the texts in Unicode form C; single values may still be unusable."""
    column = load_texts(rows, choice.texts)
    if isinstance(column, list):
        return _composed(column)
    what = f"{rows.source}: column {choice.text!r}"
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_null)
    if not any(test(kind) for test in tests):
        raise InputError(
            f"{what}: expected texts, found values of type {kind}; choose the texts with --text-column"
        )
    try:
        return _composed(column.to_pylist())
    except UnicodeDecodeError:
        raise InputError(
            f"{what}: expected texts in UTF-8, found other bytes; write the file again as UTF-8"
        ) from None


def _composed(values: list[Any]) -> list[Any]:
    """Composes the texts among the values; those in ASCII need no look of their own."""
    try:
        composed = np.fromiter(map(str.isascii, values), dtype=bool, count=len(values))
    except TypeError:  # not all are texts
        return [nfc(value) if isinstance(value, str) else value for value in values]
    texts = list(values)
    for row in np.flatnonzero(~composed).tolist():
        texts[row] = nfc(texts[row])
    return texts


def _label_names(column: Column) -> pa.Array | None:
    """Converts a column of class names, or returns None if it holds something else."""
    try:
        names = decoded(column)
    except (ValueError, TypeError, OverflowError, pa.ArrowException):
        return None
    return pa.concat_arrays(names.chunks) if pa.types.is_large_string(names.type) else None


def _usable_rows(
    rows: Rows, texts: list[Any], unlabelled: np.ndarray, drop_bad_rows: bool
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Returns the positions of the usable rows, and a note on the others."""
    problems = dict.fromkeys(np.flatnonzero(unlabelled).tolist(), "has no label")
    problems |= {row: problem for row, text in enumerate(texts) if (problem := text_problem(text))}
    problems |= rows.problems
    if not problems:
        return np.arange(rows.count), ()
    usable = np.delete(np.arange(rows.count), list(problems))
    count = len(problems)
    shown = [f"{rows.locate(row)} {problems[row]}" for row in sorted(problems)[:3]]
    first = ", ".join(shown) + (f" and {count - 3:,} more" if count > 3 else "")
    if not len(usable):
        raise InputError(
            f"{rows.source}: expected rows with a text and a label, "
            f"none of the {rows.count:,} has both: {first}"
        )
    if drop_bad_rows:
        return usable, (f"left out {count:,} of {rows.count:,} rows: {first}",)
    counted = " (rows count from 0)" if any(each.startswith("row ") for each in shown) else ""
    raise InputError(
        f"{rows.source}: {count:,} of {rows.count:,} rows cannot be used: {first}{counted}; "
        "correct them, or skip them with --drop-bad-rows"
    )


def _load_row_ids(rows: Rows, name: str | None) -> np.ndarray:
    """Loads the ids of the rows as strings, None where there is none; without a column, their numbers."""
    if name is None:
        return np.arange(rows.count, dtype=np.int64) if rows.row_ids is None else rows.row_ids
    column = rows.column(name)
    if len(column) != rows.count and not isinstance(column, list):
        what = f"{rows.source}: column {name!r}"
        raise InputError(f"{what}: expected ids, numbers or strings, found values of type {column.type}")
    values = column if isinstance(column, list) else column.to_pylist()
    ids = [None if is_missing(value) or str(value) == "" else str(value) for value in values]
    return np.array(ids, dtype=object)


def _check_row_ids(row_ids: np.ndarray, what: str) -> None:
    seen: set[str] = set()
    for position, name in enumerate(row_ids.tolist()):
        if name is None:
            raise InputError(
                f"{what}: expected an id in each row, found none in row {position:,} of those used"
            )
        if name in seen:
            raise InputError(f"{what}: expected ids that differ, found {name!r} more than once")
        seen.add(name)


def _repetitions(texts: list[str], labels: np.ndarray) -> tuple[str, ...]:
    """Returns a note on repeated texts, if there are any."""
    first: dict[str, int] = {}
    ambiguous: set[str] = set()
    for text, label in zip(texts, labels.tolist(), strict=True):
        if first.setdefault(text, label) != label:
            ambiguous.add(text)
    repeated = len(texts) - len(first)
    if not repeated:
        return ()
    return (
        f"{repeated:,} of {len(texts):,} rows repeat the text of an earlier row; "
        f"{len(ambiguous):,} texts come with different labels",
    )
