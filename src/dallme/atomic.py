"""Writing to disk so that it is still there after a power cut, and so that two processes do not write at once."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import sys
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

#: Ending of a file that is being written.
TEMPORARY = ".tmp"

#: Seconds after which a temporary file is taken for the remains of a killed process, where nothing tells whether one has it open.
STALE_SECONDS = 3600

_TEMPORARY_NAME = re.compile(r"(.+)\.[0-9a-f]{8}\.tmp")


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


def atomic_write(path: Path, content: Any, *, tidy: bool = True) -> None:
    """Writes a file that is there whole, or not at all, in place of one of that name.

    Args:
        path: Where.
        content: Bytes, or anything with their buffer.
        tidy: Whether to look for what killed processes have left of a file of that name, and to remove it.

    Raises:
        OSError: If it cannot be written; nothing of it is left, and what was there stays.
    """
    if tidy:
        remove_stale(path.parent, path.name)
    for attempt in range(3):
        temporary = path.with_name(f"{path.name}.{uuid4().hex[:8]}{TEMPORARY}")
        try:
            with temporary.open("xb") as file:
                _lock(file.fileno())  # as long as it is held, the file is not taken for remains
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
                if sys.platform == "win32":
                    file.close()  # an open file cannot be renamed there
                os.replace(temporary, path)
            sync_folder(path.parent)
            return
        except FileNotFoundError:
            if attempt == 2 or not path.parent.is_dir():
                raise  # else it was swept away in the moment between its making and its lock
        finally:
            with contextlib.suppress(OSError):  # it is there only if something went wrong
                temporary.unlink()


def remove_stale(folder: Path, name: str | None = None) -> None:
    """Removes the temporary files of killed processes; those of running ones, and what cannot be removed, stay.

    Args:
        folder: Where to look; nothing happens if there is no such folder.
        name: The file that was to be written; None stands for any.
    """
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            match = _TEMPORARY_NAME.fullmatch(entry.name)
            if match and name in (None, match[1]):
                _remove_if_dead(Path(entry.path))


def _remove_if_dead(path: Path) -> None:
    """Removes a temporary file that no process holds; where locks are not to be had, one that is old."""
    with contextlib.suppress(OSError), path.open("r+b") as file:
        if _lock(file.fileno()) is None and time.time() - path.stat().st_mtime < STALE_SECONDS:
            return
        path.unlink()


@contextmanager
def file_lock(path: Path) -> Iterator[None]:
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


@contextmanager
def folder_lock(folder: Path, *, wait: bool = True) -> Iterator[bool]:
    """Keeps a folder for this process while the block runs; no file is made for it. Others wait, or are told.

    The system drops the lock when the process ends, however it ends.

    Args:
        folder: The folder, which is there.
        wait: Whether to wait for a process that has it.

    Yields:
        Whether it is locked; Windows, and some file systems of networks, have no locks on folders.

    Raises:
        BlockingIOError: If another process has it and `wait` is False.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows cannot open a folder
        yield False
        return
    try:
        yield _lock(descriptor, wait=wait) is not None
    finally:
        os.close(descriptor)


def _lock(descriptor: int, *, wait: bool = False) -> int | None:
    """Locks an open file or folder until it is closed; None where there are no such locks.

    Raises:
        BlockingIOError: If another process holds the lock and `wait` is False.
    """
    if sys.platform == "win32":
        return None
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        raise
    except OSError:
        return None
    return descriptor


def checksum(*parts: Any) -> str:
    """CRC-32 of several buffers one after the other, as hexadecimal; detects damage, not forgery."""
    crc = 0
    for part in parts:
        crc = zlib.crc32(part, crc)
    return f"{crc:08x}"


def sha256_of(parts: Iterable[bytes | str | Path]) -> str:
    """SHA-256 of several parts one after the other, as hexadecimal.

    Args:
        parts: Bytes, strings (hashed as UTF-8) and files (their contents, read in blocks).

    Raises:
        OSError: If a file cannot be read.
    """
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            with part.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
        else:
            digest.update(part.encode() if isinstance(part, str) else part)
    return digest.hexdigest()


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
