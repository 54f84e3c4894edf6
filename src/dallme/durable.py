"""Writing to disk so that it is still there after a power cut."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

#: Ending of a file that is being written.
TEMPORARY = ".tmp"


def write_new(path: Path, content: Any) -> None:
    """Writes a new file and waits until it is on the disk.

    Args:
        path: Where; nothing may be there.
        content: Bytes, or anything with their buffer.

    Raises:
        OSError: If it cannot be written; what was written of it is left.
    """
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def replace_file(path: Path, content: Any) -> None:
    """Writes a file that is there whole, or not at all, in place of one of that name.

    Args:
        path: Where.
        content: Bytes, or anything with their buffer.

    Raises:
        OSError: If it cannot be written; nothing of it is left, and what was there stays.
    """
    temporary = path.with_name(f"{path.name}.{uuid4().hex[:8]}{TEMPORARY}")
    try:
        write_new(temporary, content)
        os.replace(temporary, path)
        sync_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):  # it is there only if something went wrong
            temporary.unlink()


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Waits until no other process is in a block with the same path, and keeps others waiting while this one runs.

    The system holds the lock on the file, which is made if need be, and drops it when the process ends, however it ends.
    Windows has no such locks, and nothing is locked there.

    Raises:
        OSError: If the file cannot be opened for writing.
    """
    with path.open("ab") as file:
        if sys.platform != "win32":
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def sync_folder(path: Path) -> None:
    """Waits until the names in a folder are on the disk, as after a rename in it.

    Raises:
        OSError: If the folder cannot be opened.
    """
    if os.name != "posix":  # such systems cannot open a folder, and see to it themselves
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
