"""Folders: files by their split, partitions, and text files by the folder of their class."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pyarrow as pa

from dallme.errors import InputError
from dallme.readers.files import make_allowance, read_file, split_suffix
from dallme.readers.formats import DETECTED, Allowance, FormatOptions
from dallme.readers.rows import Column, Rows
from dallme.readers.text_formats import read_class_folders
from dallme.scale import Engine, LocalEngine, in_order

#: Word in a file name to the split that it means, as in the library `datasets`.
_SPLIT_WORDS = {
    **dict.fromkeys(("train", "training", "trainset"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev", "devset"), "validation"),
    **dict.fromkeys(("test", "testing", "testset", "eval", "evaluation"), "test"),
}

#: Formats whose columns are loaded on demand; parsing them elsewhere gains nothing.
_COLUMNAR = (".parquet", ".arrow", ".feather")

#: Files that describe a dataset and hold no rows.
_DESCRIPTIONS = (
    "manifest.json",
    "dataset_info.json",
    "dataset_infos.json",
    "dataset_dict.json",
    "state.json",
)


def read_folder(
    folder: Path,
    name: str,
    split: str | None,
    options: FormatOptions = DETECTED,
    engine: Engine | None = None,
    max_bytes: int | None = None,
) -> Rows:
    """Opens the data files of a folder, in the order of their names.

    If file names hold words such as train, test or validation, the files belong to splits, and one split
    is read. Folders with names such as ``label=x`` add a column. Without data files, each text file is a
    row, and its folder names the class.

    Args:
        folder: The folder; if it holds no data file, those of its subfolders are read.
        name: Its name in messages.
        split: The split to read; by default ``train`` if there are splits.
        options: Properties of the files that the user named.
        engine: Engine that parses files which its workers can open; by default this process.
        max_bytes: Bytes that all files together may take in memory; see :func:`make_allowance`.

    Raises:
        InputError: If there is no data file or no such split, or if the files have different columns.
    """
    files = data_files(folder)
    by_class = not files
    files = files or _text_files(folder)
    if not files:
        raise InputError(
            f"{name}: expected a folder with data files (CSV, TSV, JSONL, JSON, Parquet, Arrow, "
            "spreadsheets, SQLite), or a folder of .txt files for each class, found none in it"
        )
    splits: dict[str | None, list[Path]] = {}
    for file in files:
        splits.setdefault(_split_of(file.relative_to(folder), by_class=by_class), []).append(file)
    chosen = _choose_split(splits, name, split)
    source = name if split is None and chosen is None else f"{name}@{chosen}"
    notes: tuple[str, ...] = ()
    if chosen is not None and None in splits:
        others = ", ".join(str(file.relative_to(folder)) for file in splits[None])
        notes = (f"left out files of {name} that are not named for a split: {others}",)
    allowance = make_allowance(max_bytes, *splits[chosen])
    if by_class:
        return read_class_folders(folder, splits[chosen], source, allowance, options)
    _check_stems(splits[chosen], source)
    pairs = [(file, str(Path(name) / file.relative_to(folder))) for file in splits[chosen]]
    opened = _open_all(pairs, engine or LocalEngine(), allowance, options)
    opened = [
        _with_partitions(rows, file.relative_to(folder))
        for file, rows in zip(splits[chosen], opened, strict=True)
    ]
    return _joined(source, folder, splits[chosen], opened, notes)


def data_files(folder: Path) -> list[Path]:
    """Returns the data files of a folder in the order of their names, or of its subfolders if it has none."""
    for pattern in ("*", "*/*", "*/*/*"):
        files = [
            path
            for path in sorted(folder.glob(pattern))
            if path.is_file() and _is_data(path.relative_to(folder))
        ]
        if files:
            return files
    return []


def _is_data(path: Path) -> bool:
    hidden = any(part.startswith((".", "~$")) for part in path.parts)  # Excel locks a.xlsx by ~$a.xlsx
    described = path.name in _DESCRIPTIONS or path.name.lower().startswith("readme")
    return not hidden and not described and split_suffix(path.name)[1] not in ("", ".txt")


def _text_files(folder: Path) -> list[Path]:
    """Returns the text files of class folders, ``class/1.txt`` or ``split/class/1.txt``."""
    for pattern in ("*/*.txt", "*/*/*.txt"):
        files = [path.relative_to(folder) for path in sorted(folder.glob(pattern)) if path.is_file()]
        files = [path for path in files if not any(part.startswith(".") for part in path.parts)]
        if pattern == "*/*.txt":  # those in the folder of a split describe it
            files = [path for path in files if path.parts[0].lower() not in _SPLIT_WORDS]
        if files:
            return [folder / path for path in files]
    return []


def _partitions(path: Path) -> dict[str, str]:
    """Returns the columns that folders such as ``label=x`` in a path name, with their values."""
    pairs = (part.partition("=") for part in path.parent.parts if "=" in part.strip("="))
    return {unquote(name): unquote(value) for name, _, value in pairs}


def _with_partitions(rows: Rows, path: Path) -> Rows:
    """Adds the columns that the folders of a file name, unless the file has them."""
    values = {name: value for name, value in _partitions(path).items() if name not in rows.names}
    if not values:
        return rows

    def load(name: str) -> Column:
        if name not in values:
            return rows.load(name)
        value = None if values[name] == "__HIVE_DEFAULT_PARTITION__" else values[name]
        return pa.chunked_array([pa.repeat(pa.scalar(value, pa.large_string()), rows.count)])

    return replace(rows, names=(*rows.names, *values), load=load)


def _split_of(path: Path, *, by_class: bool = False) -> str | None:
    """Returns the split that a word in a path names; names of classes and of partitions are no such words."""
    if by_class:
        return _SPLIT_WORDS.get(path.parts[0].lower()) if len(path.parts) > 2 else None
    named = [value for name, value in _partitions(path).items() if name == "split"]
    parts = [part for part in path.parent.parts if "=" not in part]
    words = re.split(r"[^a-z]+", "/".join([*named, *parts, split_suffix(path.name)[0]]).lower())
    return next((_SPLIT_WORDS[word] for word in words if word in _SPLIT_WORDS), None)


def _choose_split(splits: dict[str | None, list[Path]], name: str, split: str | None) -> str | None:
    known = [known for known in splits if known is not None]
    if split is None and (not known or "train" in known):
        return "train" if known else None
    wanted = _SPLIT_WORDS.get(split or "train", split)
    if wanted in known:
        return wanted
    choices = (
        f"choose one: {', '.join(f'{name}@{other}' for other in known)}"
        if known
        else "no file is named for a split"
    )
    raise InputError(f"{name}: expected files of the split {wanted!r}, found none; {choices}")


def _check_stems(files: list[Path], source: str) -> None:
    stems: dict[Path, Path] = {}
    for file in files:
        other = stems.setdefault(file.with_name(split_suffix(file.name)[0]), file)
        if other != file:
            raise InputError(
                f"{source}: expected each file once, found {other.name} and {file.name}, "
                "the same name in two formats; read one of them"
            )


def _joined(source: str, folder: Path, files: list[Path], opened: list[Rows], notes: tuple[str, ...]) -> Rows:
    head = opened[0]
    for rows in opened[1:]:
        if set(rows.names) != set(head.names):
            raise InputError(
                f"{source}: expected the same columns in all files, "
                f"found {', '.join(head.names)} in {head.source} and {', '.join(rows.names)} in {rows.source}"
            )
        if rows.classes != head.classes:
            raise InputError(
                f"{source}: expected the same class names in all files, "
                f"{head.source} and {rows.source} differ"
            )
    counts = [rows.count for rows in opened]
    starts = [sum(counts[:number]) for number in range(len(counts))]
    names = [str(file.relative_to(folder)) for file in files]
    said = [note.replace(rows.source, source, 1) for rows in opened for note in rows.notes]
    lines = [np.zeros(rows.count, dtype=np.int64) if rows.lines is None else rows.lines for rows in opened]
    return replace(
        head,
        source=source,
        count=sum(counts),
        load=lambda column: _concatenated([rows.load(column) for rows in opened]),
        parts=tuple(zip(names, counts, strict=True)) if len(files) > 1 else (),
        notes=(*notes, *dict.fromkeys(said)),
        problems={
            start + row: problem
            for start, rows in zip(starts, opened, strict=True)
            for row, problem in rows.problems.items()
        },
        lines=np.concatenate(lines),
    )


def _open_all(
    files: list[tuple[Path, str]], engine: Engine, allowance: Allowance, options: FormatOptions
) -> list[Rows]:
    """Opens files, each with its name in messages; a remote engine parses text files."""
    parsed: dict[Path, Rows] = {}
    if engine.remote:
        texts = [
            (file.resolve(), name) for file, name in files if split_suffix(file.name)[1] not in _COLUMNAR
        ]
        results = in_order(engine.map(partial(_parse, limit=allowance.limit, options=options), texts))
        for (file, name), result in zip(texts, results, strict=True):
            if result is not None:
                parsed[file], size = result
                allowance.check(name, size)
    return [parsed.get(file.resolve()) or read_file(file, name, allowance, options) for file, name in files]


def _parse(file: tuple[Path, str], limit: int, options: FormatOptions) -> tuple[Rows, int] | None:
    """Loads all columns of a file, so that the rows can be pickled, and counts the bytes in memory.

    Returns:
        The rows and the bytes; None if the worker has no such file.
    """
    path, name = file
    if not path.is_file():
        return None
    allowance = Allowance(limit)
    rows = read_file(path, name, allowance, options)
    return replace(
        rows, load={column: rows.load(column) for column in rows.names}.__getitem__
    ), allowance.used


def _concatenated(columns: list[Column]) -> Column:
    """Joins the values of all files: as Arrow if all are of one type, else as Python values."""
    arrays = [column for column in columns if not isinstance(column, list)]
    if len(arrays) == len(columns) and all(array.type == arrays[0].type for array in arrays):
        return pa.chunked_array([chunk for array in arrays for chunk in array.chunks], type=arrays[0].type)
    values: list[Any] = []
    for column in columns:
        values += column if isinstance(column, list) else column.to_pylist()
    return values
