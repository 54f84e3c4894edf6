"""Output folders that are whole or absent."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path

from dallme.durable import alone_in, sync_folder, write_new
from dallme.errors import OutputError

#: Ending of a folder whose files are still being written.
PARTIAL = ".partial"

#: Folder in a target with files that are all written and take the place of others now; and what it says is to be removed.
COMMITTED, _OUTDATED = ".dallme-commit", ".outdated"


def check(path: Path, *, overwrite: bool) -> None:
    """Checks, before any work is done, that a folder can be written to.

    What a process that was killed has left in it does not count, and what one had all but written is put in its place.

    Raises:
        OutputError: If it holds something and `overwrite` is not given, or it cannot be written to.
    """
    if path.exists() and not path.is_dir():
        raise OutputError(f"expected a folder to write to, found a file at {str(path)!r}; choose another --output")
    finish(path)
    held = sorted(entry.name for entry in path.iterdir()) if path.is_dir() else []
    held = [name for name in held if not _is_left_over(name, path.resolve().name)]
    if held and not overwrite:
        shown = ", ".join(held[:3]) + (" …" if len(held) > 3 else "")
        raise OutputError(
            f"expected an empty or missing folder, found {str(path)!r} with {shown}; choose another, or --overwrite"
        )
    parent = path.resolve()
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir():
        raise OutputError(f"expected a folder to write to, found a file at {str(parent)!r}; choose another --output")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise OutputError(f"expected a folder that can be written to, found {str(parent)!r} without write permission")


def write(path: Path, files: Mapping[str, bytes], *, overwrite: bool, outdated: Collection[str] = ()) -> Path:
    """Writes files into a folder, all or nothing; other processes that write there wait meanwhile.

    The files are written and synchronised in a folder of their own first. A target that is missing comes to be in one
    step. In a target that is there, be it a link or a mount point, other files stay; the new ones are put beside them in one
    step, and take their places one by one: should the process be killed then, :func:`finish` does the rest.

    Args:
        path: The folder.
        files: Name to content.
        overwrite: Whether files that stand there may be replaced.
        outdated: Names of files that are removed if they are not among `files`: they tell of what stood there before.

    Returns:
        The folder.

    Raises:
        OutputError: As :func:`check`, or if the disk is full.
    """
    check(path, overwrite=overwrite)
    target = path.resolve()
    staged: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with alone_in(target.parent) as locked:
            _finish(target)
            check(path, overwrite=overwrite)  # another process may have written it since
            exists = target.is_dir()
            place = target if exists else target.parent
            if locked:
                _sweep(target)
            staged = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=PARTIAL, dir=place))
            for name, content in files.items():
                write_new(staged / name, content)
            if exists:
                write_new(staged / _OUTDATED, json.dumps(sorted(set(outdated) - set(files))).encode())
                sync_folder(staged)
                try:
                    os.rename(staged, target / COMMITTED)
                    sync_folder(target)
                    _finish(target)
                except BaseException:
                    _finish(target)  # whoever interrupts: what is committed is put in its place
                    raise
            else:
                staged.chmod(0o777 & ~_umask())
                sync_folder(staged)
                os.replace(staged, target)
            sync_folder(place)
    except OSError as error:
        reason = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror or str(error)
        raise OutputError(
            f"expected to write {len(files)} files to {str(path)!r}, could not: {reason}; nothing was written; "
            "make room or choose another folder"
        ) from error
    finally:
        if staged is not None:
            shutil.rmtree(staged, ignore_errors=True)
    return path


def finish(path: Path) -> None:
    """Does the rest of what a process that was killed while it overwrote a folder had left to do.

    Raises:
        OutputError: If there is such a rest and the folder cannot be written to.
    """
    if not (path / COMMITTED).is_dir():
        return
    target = path.resolve()
    try:
        with alone_in(target.parent):
            _finish(target)
    except OSError as error:
        raise OutputError(
            f"expected a whole folder, found {str(path)!r}, which was being overwritten when the process was killed; "
            f"could not do the rest: {error.strerror or error}; make it writable"
        ) from error


def _finish(target: Path) -> None:
    """Puts the files of a committed write into their places; it may be done again from any point."""
    committed = target / COMMITTED
    if not committed.is_dir():
        return
    with contextlib.suppress(FileNotFoundError):  # then all of them are removed, and all files in their places
        for name in json.loads((committed / _OUTDATED).read_bytes()):
            (target / name).unlink(missing_ok=True)
    for file in sorted(committed.iterdir(), key=lambda file: file.name):
        if file.name != _OUTDATED:
            os.replace(file, target / file.name)
    sync_folder(target)
    shutil.rmtree(committed)


def _sweep(target: Path) -> None:
    """Removes what killed processes left in a folder and beside it; for one that nobody else writes to now."""
    for place in (target.parent, target):
        for left in place.iterdir() if place.is_dir() else ():
            if _is_left_over(left.name, target.name):
                shutil.rmtree(left, ignore_errors=True)


def _is_left_over(name: str, target: str) -> bool:
    """Whether a name in a folder is one that a process gave that was killed while it wrote."""
    return name.startswith(f".{target}.") and name.endswith(PARTIAL)


def _umask() -> int:
    """The process's file mode mask; it can be read only by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
