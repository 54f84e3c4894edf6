"""One file, opened by its suffix; and what to say about a file that is not there."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from dallme.errors import InputError
from dallme.readers.formats import read_arrow, read_delimited, read_json, read_parquet
from dallme.readers.rows import Column, Rows
from dallme.scale.base import Engine, LocalEngine, in_order

_FORMATS: dict[str, Callable[[Path, str, str | None], Rows]] = {
    ".csv": partial(read_delimited, delimiter=","),
    ".tsv": partial(read_delimited, delimiter="\t"),
    ".jsonl": read_json,
    ".ndjson": read_json,
    ".json": read_json,
    ".parquet": read_parquet,
    ".arrow": read_arrow,
    ".feather": read_arrow,
}
_COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}


def split_suffix(name: str) -> tuple[str, str, str | None]:
    """Takes a file name apart.

    Returns:
        The stem, the suffix of its format (empty if it is none that can be read) and its compression.
    """
    path = Path(name)
    compression = _COMPRESSIONS.get(path.suffix.lower())
    if compression:
        path = path.with_suffix("")
    suffix = path.suffix.lower()
    return (path.stem, suffix, compression) if suffix in _FORMATS else (path.name, "", compression)


def read_file(path: Path, name: str) -> Rows:
    """Opens one file.

    Args:
        path: The file.
        name: What the user calls it.

    Raises:
        InputError: If its suffix is not known or it cannot be read.
    """
    _, suffix, compression = split_suffix(path.name)
    if not suffix:
        known = ", ".join(_FORMATS)
        raise InputError(
            f"{name}: expected a file that ends in {known} (or these with .gz or .zst), found {path.name!r}"
        )
    if not path.is_file():
        raise InputError(f"{name}: expected a file or a folder, found neither")
    return _FORMATS[suffix](path, name, compression)


def missing(path: Path, name: str) -> InputError:
    """The error for a path that is not there, with names beside it that look alike."""
    folder = path.parent
    if not os.path.isdir(folder):
        return InputError(f"{name}: no such file or folder, nor is there a folder {str(folder)!r}")
    beside = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    forgotten = [entry for entry in beside if split_suffix(entry)[0] == path.name]
    alike = forgotten or difflib.get_close_matches(path.name, beside, n=3)
    return InputError(
        f"{name}: no such file or folder"
        + (f"; did you mean {' or '.join(map(repr, alike))}?" if alike else "")
    )


#: Word in a file name to the split that it means, as the library `datasets` has them.
_SPLIT_WORDS = {
    **dict.fromkeys(("train", "training", "trainset"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev", "devset"), "validation"),
    **dict.fromkeys(("test", "testing", "testset", "eval", "evaluation"), "test"),
}

#: Formats of which columns are read when they are asked for: there is nothing to share out.
_COLUMNAR = (".parquet", ".arrow", ".feather")

#: Files that describe the data, and hold none.
_DESCRIPTIONS = (
    "manifest.json",
    "dataset_info.json",
    "dataset_infos.json",
    "dataset_dict.json",
    "state.json",
)


def read_folder(folder: Path, name: str, split: str | None, engine: Engine | None = None) -> Rows:
    """Opens the data files of a folder, in the order of their names.

    If a file name holds a word such as train, test or validation, files belong to splits, and one split is read.

    Args:
        folder: The folder; if it holds no data file itself, those of the folders in it are read.
        name: What the user calls it.
        split: The split to read, or None for ``train`` where there are splits.
        engine: Where files are parsed, as far as its workers find them; by default here.

    Raises:
        InputError: If there is no data file or no such split, or if the files have different columns.
    """
    files = data_files(folder)
    if not files:
        raise InputError(
            f"{name}: expected a folder with data files (CSV, TSV, JSONL, JSON, Parquet, Arrow), found none in it"
        )
    splits: dict[str | None, list[Path]] = {}
    for file in files:
        splits.setdefault(_split_of(file.relative_to(folder)), []).append(file)
    chosen = _choose_split(splits, name, split)
    source = name if split is None and chosen is None else f"{name}@{chosen}"
    others = [str(file.relative_to(folder)) for file in splits.get(None, ()) if chosen is not None]
    notes = (
        (f"left out files of {name} that are not named for a split: {', '.join(others)}",) if others else ()
    )
    return _joined(source, name, folder, splits[chosen], notes, engine or LocalEngine())


def data_files(folder: Path) -> list[Path]:
    """The data files of a folder in the order of their names, or, where there is none, of the folders in it."""
    for pattern in ("*", "*/*"):
        found = [
            path
            for path in sorted(folder.glob(pattern))
            if path.is_file() and _is_data(path.relative_to(folder))
        ]
        if found:
            return found
    return []


def _is_data(path: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.parts)
    named = path.name in _DESCRIPTIONS or path.name.lower().startswith("readme")
    return not hidden and not named and bool(split_suffix(path.name)[1])


def _split_of(path: Path) -> str | None:
    words = re.split(r"[^a-z]+", str(path.with_name(split_suffix(path.name)[0])).lower())
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


def _joined(
    source: str, name: str, folder: Path, files: list[Path], notes: tuple[str, ...], engine: Engine
) -> Rows:
    stems: dict[Path, Path] = {}
    for file in files:
        stem = file.with_name(split_suffix(file.name)[0])
        if stems.setdefault(stem, file) != file:
            raise InputError(
                f"{source}: expected each file once, found {stems[stem].name} and {file.name}, the same name in two formats; "
                "read one of them"
            )
    opened = _opened([(file, str(Path(name) / file.relative_to(folder))) for file in files], engine)
    head = opened[0]
    for rows in opened[1:]:
        if set(rows.names) != set(head.names):
            raise InputError(
                f"{source}: expected the same columns in all files, found {', '.join(head.names)} in {head.source} "
                f"and {', '.join(rows.names)} in {rows.source}"
            )
        if rows.classes != head.classes:
            raise InputError(
                f"{source}: expected the same class names in all files, {head.source} and {rows.source} differ"
            )
    parts = tuple(
        (str(file.relative_to(folder)), rows.count) for file, rows in zip(files, opened, strict=True)
    )
    return Rows(
        source,
        sum(rows.count for rows in opened),
        head.names,
        lambda column: _concatenated([rows.load(column) for rows in opened]),
        classes=head.classes,
        parts=parts if len(parts) > 1 else (),
        notes=notes,
        names_hint=head.names_hint,
    )


def _opened(files: list[tuple[Path, str]], engine: Engine) -> list[Rows]:
    """The rows of each file, given with what the user calls it; what has to be parsed as a whole may be so elsewhere."""
    parsed: dict[Path, Rows | None] = {}
    if engine.remote:
        texts = [
            (file.resolve(), name) for file, name in files if split_suffix(file.name)[1] not in _COLUMNAR
        ]
        parsed = dict(zip((file for file, _ in texts), in_order(engine.map(_parsed, texts)), strict=True))
    return [parsed.get(file.resolve()) or read_file(file, name) for file, name in files]


def _parsed(file: tuple[Path, str]) -> Rows | None:
    """The rows of a file with all columns in memory, fit to travel; None where there is no such file on a worker."""
    path, name = file
    if not path.is_file():
        return None
    rows = read_file(path, name)
    return replace(rows, load={column: rows.load(column) for column in rows.names}.__getitem__)


def _concatenated(columns: list[Column]) -> Column:
    """The values of all files one after the other: as Arrow where all are of one type, else as Python values."""
    arrays = [column for column in columns if not isinstance(column, list)]
    if len(arrays) == len(columns) and all(array.type == arrays[0].type for array in arrays):
        return pa.chunked_array([chunk for array in arrays for chunk in array.chunks], type=arrays[0].type)
    values: list[Any] = []
    for column in columns:
        values += column if isinstance(column, list) else column.to_pylist()
    return values
