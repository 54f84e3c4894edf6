"""Output folders that are whole or absent."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path

from dallme.durable import sync_folder, write_new
from dallme.errors import OutputError


def check(path: Path, *, overwrite: bool) -> None:
    """Checks, before any work is done, that a folder can be written to.

    Raises:
        OutputError: If it holds something and `overwrite` is not given, or it cannot be written to.
    """
    if path.exists() and not path.is_dir():
        raise OutputError(f"expected a folder to write to, found a file at {str(path)!r}; choose another --output")
    held = sorted(entry.name for entry in path.iterdir()) if path.is_dir() else []
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
    """Writes files into a folder, all or nothing.

    The files are written and synchronised in a folder of their own first. A target that is missing comes to be in one
    step; in a target that is there, be it a link or a mount point, each file is replaced in one step and other files stay.

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
    exists = target.is_dir()
    place = target if exists else target.parent
    staged: Path | None = None
    try:
        place.mkdir(parents=True, exist_ok=True)
        staged = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=place))
        for name, content in files.items():
            write_new(staged / name, content)
        if exists:
            for name in set(outdated) - set(files):
                (target / name).unlink(missing_ok=True)
            for name in files:
                os.replace(staged / name, target / name)
        else:
            staged.chmod(0o777 & ~_umask())
            os.replace(staged, target)
        sync_folder(place)
    except OSError as error:
        reason = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror or str(error)
        raise OutputError(
            f"expected to write {len(files)} files to {str(path)!r}, could not: {reason}; nothing was written"
        ) from error
    finally:
        if staged is not None:
            shutil.rmtree(staged, ignore_errors=True)
    return path


def _umask() -> int:
    """The process's file mode mask; it can be read only by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
