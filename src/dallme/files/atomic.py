"""Crash-safe writes, and locks between processes."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import socket
import sys
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from filelock import FileLock, Timeout, lock_descriptor

#: Ending of a file that is being written.
TEMPORARY = ".tmp"

#: Age in seconds at which a temporary file counts as abandoned where the file system has no locks.
STALE_SECONDS = 3600

#: Seconds after which a waiting process names the holder of a lock, and after which it gives up.
NOTICE_SECONDS, FOLDER_SECONDS = 2.0, 60.0

_TEMPORARY_NAME = re.compile(r"(.+)\.[0-9a-f]{8}\.tmp")
#: Content of a lock file: the process that holds the lock and its machine.
_HOLDER = re.compile(rb"dallme process (\d{1,10}) on ([\w.-]{1,64})\n?")


def write_new(path: Path, content: Any) -> None:
    """Writes a new file and waits until it is on the disk.

    Args:
        path: The file, which must not exist.
        content: Bytes, or an object with the buffer protocol.

    Raises:
        OSError: If it cannot be written; a partly written file stays.
    """
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def atomic_write(path: Path, content: Any, *, tidy: bool = True) -> None:
    """Creates or replaces a file in one step: readers see the old content or the new, never a part.

    Args:
        path: The file.
        content: Bytes, or an object with the buffer protocol.
        tidy: Whether to remove temporary files of this name that killed processes left.

    Raises:
        OSError: If it cannot be written; the old content stays.
    """
    if tidy:
        remove_stale(path.parent, path.name)
    for attempt in range(3):
        temporary = path.with_name(f"{path.name}.{uuid4().hex[:8]}{TEMPORARY}")
        try:
            with temporary.open("xb") as file:
                _try_lock(file.fileno())  # marks the file as in use
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
                if sys.platform == "win32":
                    file.close()  # an open file cannot be renamed there
                os.replace(temporary, path)
            sync_folder(path.parent)
            return
        except FileNotFoundError:
            # Another process can remove the file between its creation and its lock.
            if attempt == 2 or not path.parent.is_dir():
                raise
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()


def remove_stale(folder: Path, name: str | None = None) -> None:
    """Removes temporary files of killed processes; files in use, or that cannot be removed, stay.

    Args:
        folder: The folder to search; it need not exist.
        name: The file that was to be written, or None for any.
    """
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            match = _TEMPORARY_NAME.fullmatch(entry.name)
            if match and name in (None, match[1]):
                with contextlib.suppress(OSError), open(entry.path, "r+b") as file:
                    locked = _try_lock(file.fileno())
                    if locked or (locked is None and time.time() - entry.stat().st_mtime >= STALE_SECONDS):
                        os.unlink(entry.path)


@contextmanager
def in_use(folder: Path) -> Iterator[None]:
    """Marks a folder as in use while the block runs, by a locked temporary file in it.

    A folder that is missing or cannot be written is not marked. :func:`remove_stale` removes the file if the
    process is killed.
    """
    with contextlib.ExitStack() as stack:
        for _ in range(3):  # another process can remove the file between its creation and its lock
            path = folder / f"in-use.{uuid4().hex[:8]}{TEMPORARY}"
            try:
                file = stack.enter_context(path.open("xb"))
            except OSError:
                break
            stack.callback(path.unlink, missing_ok=True)
            _try_lock(file.fileno())
            if path.exists():
                break
        yield


def _try_lock(descriptor: int) -> bool | None:
    """Locks an open file until it is closed.

    Returns:
        Whether it is locked; None where the file system has no locks.
    """
    if sys.platform == "win32":  # a locked file cannot be renamed there
        return None
    try:
        return lock_descriptor(descriptor, blocking=False)
    except OSError:
        return None


@contextmanager
def file_lock(path: Path, *, wait: bool = True, limit: float | None = None) -> Iterator[None]:
    """Holds a lock file while the block runs; other processes wait.

    The operating system releases the lock when the process ends, also when it is killed. A process that
    waits for more than :data:`NOTICE_SECONDS` writes one line to standard error that names the holder.

    Args:
        path: The lock file; it is created if necessary and stays.
        wait: Whether to wait for another holder.
        limit: Seconds to wait at most; by default :data:`FOLDER_SECONDS`.

    Raises:
        BlockingIOError: If another process holds the lock and `wait` is False.
        TimeoutError: If another process holds the lock after `limit` seconds.
        OSError: If the file cannot be opened for writing.
    """
    lock = FileLock(path)
    _acquire(lock, path, (FOLDER_SECONDS if limit is None else limit) if wait else 0)
    try:
        _write_holder(path)
        yield
    finally:
        lock.release()


@contextmanager
def folder_lock(folder: Path, *, wait: bool = True) -> Iterator[bool]:
    """Locks a folder for this process while the block runs; others wait up to :data:`FOLDER_SECONDS`.

    The lock is a file next to the folder, ``.NAME.lock``. Locks of other programs on the folder or its parent
    have no effect. The file is removed at the end; one that a killed process leaves is harmless.

    Args:
        folder: The folder; it need not exist yet.
        wait: Whether to wait for another holder.

    Yields:
        Whether it is locked; some network file systems have no locks.

    Raises:
        BlockingIOError: If another process holds the lock and `wait` is False.
        TimeoutError: If another process holds the lock for too long.
    """
    path = _lock_path(folder)
    lock = FileLock(path)
    try:
        if not path.parent.is_dir():  # FileLock would create it
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path.parent))
        _acquire(lock, path, FOLDER_SECONDS if wait else 0)
    except (BlockingIOError, TimeoutError):
        raise
    except OSError:
        yield False
        return
    owned = _write_holder(path)
    try:
        yield True
    finally:
        if owned:
            with contextlib.suppress(OSError):
                path.unlink()  # while it is locked: a waiting process notices, and opens a new file
        lock.release()


def _lock_path(folder: Path) -> Path:
    """Returns the lock file of a folder: next to it, or inside it if its parent is read-only."""
    folder = folder.resolve()
    if folder.name and os.access(folder.parent, os.W_OK | os.X_OK):
        return folder.with_name(f".{folder.name}.lock")
    return folder / f".{folder.name}.lock.partial"  # of that ending, it does not count as content


def _acquire(lock: FileLock, path: Path, limit: float) -> None:
    """Acquires a lock within `limit` seconds; a long wait is announced on standard error."""
    with contextlib.suppress(Timeout):
        lock.acquire(timeout=min(limit, NOTICE_SECONDS))
        return
    if limit == 0:
        raise BlockingIOError(errno.EAGAIN, f"{_holder(path)} holds the lock", str(path))
    if limit > NOTICE_SECONDS:
        sys.stderr.write(
            f"note: waiting for {_holder(path)}, which holds {str(path)!r}, for {limit:g} seconds at most\n"
        )
        with contextlib.suppress(Timeout):
            lock.acquire(timeout=limit - NOTICE_SECONDS)
            return
    raise TimeoutError(
        errno.ETIMEDOUT,
        f"{_holder(path)} has held the lock for {limit:g} seconds; wait for it to end, or end it",
        str(path),
    )


def _write_holder(path: Path) -> bool:
    """Records the holder in a lock file; returns False if the file belongs to another program."""
    flags = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0)
    with contextlib.suppress(OSError), os.fdopen(os.open(path, flags), "r+b", buffering=0) as file:
        content = file.read(200)
        if os.fstat(file.fileno()).st_nlink != 1 or (content and not _HOLDER.fullmatch(content)):
            return False
        file.seek(0)
        file.truncate()
        host = re.sub(r"[^\w.-]", "-", socket.gethostname())[:64] or "localhost"
        file.write(f"dallme process {os.getpid()} on {host}\n".encode())
        return True
    return False


def _holder(path: Path) -> str:
    """Returns the name of the process that holds a lock, if its file records one."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        if match := _HOLDER.fullmatch(file.read(200)):
            return f"process {match[1].decode()} on {match[2].decode()}"
    return "another process"


def checksum(*parts: Any) -> str:
    """Returns the CRC-32 of several buffers in sequence, as hexadecimal; it detects damage, not forgery."""
    crc = 0
    for part in parts:
        crc = zlib.crc32(part, crc)
    return f"{crc:08x}"


def sha256_of(parts: Iterable[bytes | str | Path]) -> str:
    """Returns the SHA-256 of several parts in sequence, as hexadecimal.

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
    """Waits until the entries of a folder are on the disk, for example after a rename.

    Raises:
        OSError: If the folder cannot be opened.
    """
    if os.name != "posix":  # other systems cannot open a folder
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_output(path: Path, content: Any) -> None:
    """Writes a file that the user named, atomically where it is a regular file.

    A link is followed to the file it names, so the link stays. A device or a named pipe is written to.

    Args:
        path: The file; its folder exists.
        content: Bytes, or anything with their buffer.

    Raises:
        OSError: If it cannot be written.
    """
    target = path.resolve() if path.is_symlink() else path
    if target.exists() and not target.is_file():
        with target.open("wb") as file:  # a folder raises IsADirectoryError
            file.write(content)
    else:
        atomic_write(target, content)
