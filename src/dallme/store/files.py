"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pyarrow as pa

from dallme.durable import replace_file, sync_folder
from dallme.errors import StoreError


def write_file(path: Path, content: bytes | pa.Buffer) -> None:
    """Writes a file that is there whole, and still there after a power cut, or not at all.

    Raises:
        StoreError: If it cannot be written; nothing of it is left.
    """
    try:
        replace_file(path, content, tidy=False)  # a table is swept as a whole
    except OSError as error:
        raise StoreError(
            f"cannot write to the embedding store {path.parent}: {error.strerror or error}; make room or choose another folder"
        ) from None


def make_folder(folder: Path) -> None:
    """Makes a folder, with those above it.

    Raises:
        StoreError: If it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"cannot make the embedding store {folder}: {error.strerror}; choose another folder") from None
    for parent in (folder.parent, folder.parent.parent):
        with contextlib.suppress(OSError):  # folders above the store may belong to somebody else
            sync_folder(parent)


def list_files(folder: Path, ending: str) -> list[Path]:
    """The files of a folder with an ending, by name; none where there is no folder.

    Raises:
        StoreError: If the folder cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            return sorted(Path(entry.path) for entry in entries if entry.name.endswith(ending))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StoreError(f"cannot read the embedding store {folder}: {error.strerror}; choose another folder") from None
