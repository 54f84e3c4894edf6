"""Files by their suffix, and suggestions for paths that do not exist."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from dallme.errors import InputError
from dallme.readers.delimited import read_delimited
from dallme.readers.formats import DETECTED, Allowance, DataFile, FormatOptions, default_limit, read_arrow
from dallme.readers.parquet import read_parquet
from dallme.readers.rows import Rows
from dallme.readers.spreadsheets import read_ods, read_xlsx
from dallme.readers.sqlite import read_sqlite
from dallme.readers.text_formats import read_fasttext, read_json


@dataclass(frozen=True)
class _Format:
    """A format of files.

    Attributes:
        read: Function that opens a file.
        options: Fields of :class:`~dallme.readers.formats.FormatOptions` that it uses.
    """

    read: Callable[[DataFile], Rows]
    options: tuple[str, ...] = ()


_JSON, _ARROW = _Format(read_json, ("encoding",)), _Format(read_arrow)
_SQLITE = _Format(read_sqlite, ("table",))
_TABLE = ("delimiter", "encoding", "header")

_FORMATS = {
    ".csv": _Format(partial(read_delimited, delimiter=","), _TABLE),
    ".tsv": _Format(partial(read_delimited, delimiter="\t"), _TABLE),
    ".jsonl": _JSON,
    ".ndjson": _JSON,
    ".json": _JSON,
    ".parquet": _Format(read_parquet),
    ".arrow": _ARROW,
    ".feather": _ARROW,
    ".xlsx": _Format(read_xlsx, ("sheet", "header")),
    ".ods": _Format(read_ods, ("sheet", "header")),
    ".db": _SQLITE,
    ".sqlite": _SQLITE,
    ".sqlite3": _SQLITE,
    ".txt": _Format(read_fasttext, ("encoding",)),
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


def read_file(path: Path, name: str, allowance: Allowance, options: FormatOptions = DETECTED) -> Rows:
    """Opens a file in the format of its suffix.

    Args:
        path: The file.
        name: Its name in messages.
        allowance: Bytes that it may take in memory.
        options: Properties that the user named; a note lists those that the format does not have.

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
    form = _FORMATS[suffix]
    rows = form.read(DataFile(path, name, compression, allowance, options))
    if unused := options.unused(form.options):
        note = f"{name}: a {suffix} file has no use for {' and '.join(unused)}"
        rows = replace(rows, notes=(*rows.notes, note))
    return rows


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
