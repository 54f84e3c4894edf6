"""Files by their suffix, folders of files by their split, and suggestions for paths that do not exist."""

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
from dallme.readers.formats import Allowance, DataFile, default_limit, read_arrow
from dallme.readers.parquet import read_parquet
from dallme.readers.rows import Column, Rows
from dallme.readers.text_formats import read_delimited, read_json
from dallme.scale import Engine, LocalEngine, in_order

_FORMATS: dict[str, Callable[[DataFile], Rows]] = {
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
    """Splits a file name.

    Returns:
        The stem, the suffix of the format (empty if it is not supported) and the compression.
    """
    path = Path(name)
    compression = _COMPRESSIONS.get(path.suffix.lower())
    if compression:
        path = path.with_suffix("")
    suffix = path.suffix.lower()
    return (path.stem, suffix, compression) if suffix in _FORMATS else (path.name, "", compression)


def make_allowance(max_bytes: int | None, *files: Path) -> Allowance:
    """Returns the bytes that files may take in memory; by default 1 GiB, or 100 times their size."""
    size = sum(file.stat().st_size for file in files)
    return Allowance(default_limit(size) if max_bytes is None else max_bytes)


def read_file(path: Path, name: str, allowance: Allowance) -> Rows:
    """Opens a file in the format of its suffix.

    Args:
        path: The file.
        name: Its name in messages.
        allowance: Bytes that it may take in memory.

    Raises:
        InputError: If its suffix is not supported or it cannot be read.
    """
    _, suffix, compression = split_suffix(path.name)
    if not suffix:
        known = ", ".join(_FORMATS)
        raise InputError(
            f"{name}: expected a file that ends in {known} (or these with .gz or .zst), found {path.name!r}"
        )
    if not path.is_file():
        raise InputError(f"{name}: expected a file or a folder, found neither")
    return _FORMATS[suffix](DataFile(path, name, compression, allowance))


def missing(path: Path, name: str) -> InputError:
    """Returns the error for a path that does not exist, with similar names in its folder."""
    folder = path.parent
    if not os.path.isdir(folder):
        return InputError(f"{name}: no such file or folder, nor is there a folder {str(folder)!r}")
    entries = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    without_suffix = [entry for entry in entries if split_suffix(entry)[0] == path.name]
    similar = without_suffix or difflib.get_close_matches(path.name, entries, n=3)
    hint = f"; did you mean {' or '.join(map(repr, similar))}?" if similar else ""
    return InputError(f"{name}: no such file or folder{hint}")


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
    folder: Path, name: str, split: str | None, engine: Engine | None = None, max_bytes: int | None = None
) -> Rows:
    """Opens the data files of a folder, in the order of their names.

    If file names hold words such as train, test or validation, the files belong to splits, and one split
    is read.

    Args:
        folder: The folder; if it holds no data file, those of its subfolders are read.
        name: Its name in messages.
        split: The split to read; by default ``train`` if there are splits.
        engine: Engine that parses files which its workers can open; by default this process.
        max_bytes: Bytes that all files together may take in memory; see :func:`make_allowance`.

    Raises:
        InputError: If there is no data file or no such split, or if the files have different columns.
    """
    files = data_files(folder)
    if not files:
        raise InputError(
            f"{name}: expected a folder with data files (CSV, TSV, JSONL, JSON, Parquet, Arrow), "
            "found none in it"
        )
    splits: dict[str | None, list[Path]] = {}
    for file in files:
        splits.setdefault(_split_of(file.relative_to(folder)), []).append(file)
    chosen = _choose_split(splits, name, split)
    source = name if split is None and chosen is None else f"{name}@{chosen}"
    notes: tuple[str, ...] = ()
    if chosen is not None and None in splits:
        others = ", ".join(str(file.relative_to(folder)) for file in splits[None])
        notes = (f"left out files of {name} that are not named for a split: {others}",)
    _check_stems(splits[chosen], source)
    pairs = [(file, str(Path(name) / file.relative_to(folder))) for file in splits[chosen]]
    allowance = make_allowance(max_bytes, *splits[chosen])
    opened = _open_all(pairs, engine or LocalEngine(), allowance)
    return _joined(source, folder, splits[chosen], opened, notes)


def data_files(folder: Path) -> list[Path]:
    """Returns the data files of a folder in the order of their names, or of its subfolders if it has none."""
    for pattern in ("*", "*/*"):
        files = [
            path
            for path in sorted(folder.glob(pattern))
            if path.is_file() and _is_data(path.relative_to(folder))
        ]
        if files:
            return files
    return []


def _is_data(path: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.parts)
    described = path.name in _DESCRIPTIONS or path.name.lower().startswith("readme")
    return not hidden and not described and bool(split_suffix(path.name)[1])


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
    return replace(
        head,
        source=source,
        count=sum(counts),
        load=lambda column: _concatenated([rows.load(column) for rows in opened]),
        parts=tuple(zip(names, counts, strict=True)) if len(files) > 1 else (),
        notes=notes,
        problems={
            start + row: problem
            for start, rows in zip(starts, opened, strict=True)
            for row, problem in rows.problems.items()
        },
    )


def _open_all(files: list[tuple[Path, str]], engine: Engine, allowance: Allowance) -> list[Rows]:
    """Opens files, each with its name in messages; a remote engine parses text files."""
    parsed: dict[Path, Rows] = {}
    if engine.remote:
        texts = [
            (file.resolve(), name) for file, name in files if split_suffix(file.name)[1] not in _COLUMNAR
        ]
        results = in_order(engine.map(partial(_parse, limit=allowance.limit), texts))
        for (file, name), result in zip(texts, results, strict=True):
            if result is not None:
                parsed[file], size = result
                allowance.check(name, size)
    return [parsed.get(file.resolve()) or read_file(file, name, allowance) for file, name in files]


def _parse(file: tuple[Path, str], limit: int) -> tuple[Rows, int] | None:
    """Loads all columns of a file, so that the rows can be pickled, and counts the bytes in memory.

    Returns:
        The rows and the bytes; None if the worker has no such file.
    """
    path, name = file
    if not path.is_file():
        return None
    allowance = Allowance(limit)
    rows = read_file(path, name, allowance)
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
