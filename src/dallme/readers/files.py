"""One file, opened by its suffix; and what to say about a file that is not there."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from dallme.errors import InputError
from dallme.readers.columnar import read_arrow, read_parquet
from dallme.readers.rows import Rows
from dallme.readers.text_files import read_delimited, read_json

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
        raise InputError(f"{name}: expected a file that ends in {known} (or these with .gz or .zst), found {path.name!r}")
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
    return InputError(f"{name}: no such file or folder" + (f"; did you mean {' or '.join(map(repr, alike))}?" if alike else ""))
