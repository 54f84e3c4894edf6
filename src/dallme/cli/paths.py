"""Output paths of the verbs: checked before any work, and written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from dallme.errors import OutputError

#: Characters that a writer adds to a name while it stages a file or a folder.
_STAGING = 32


def check_folder(output: Path, *sources: str | Path | None, overwrite: bool) -> None:
    """Checks that a set can be written to a folder; nothing is changed.

    Args:
        output: The folder.
        *sources: Inputs of the verb; names that are no path are ignored.
        overwrite: Whether files of an earlier run may be replaced.

    Raises:
        OutputError: If it holds files, cannot be written, or would replace a source.
    """
    from dallme.files import folders

    _check_name(output)
    folders.check(output, overwrite=overwrite)
    check_apart(output, *sources)


def check_file(
    output: Path, *sources: str | Path | None, overwrite: bool = True, parents: bool = False
) -> None:
    """Checks that a file can be written; nothing is changed.

    Args:
        output: The file.
        *sources: Inputs of the verb; names that are no path are ignored.
        overwrite: Whether a file that exists may be replaced.
        parents: Whether missing folders are made when the file is written.

    Raises:
        OutputError: If it exists, cannot be written, or is a source or in the folder of one.
    """
    _check_name(output)
    if output.is_dir():
        raise OutputError(
            f"expected a file to write to, found the folder {str(output)!r}; name a file with --output"
        )
    if output.exists() and not overwrite:
        raise OutputError(f"expected a new file, found {str(output)!r}; choose another, or --overwrite")
    if not (parents or output.parent.is_dir()):
        raise OutputError(
            "expected a file to write to in a folder that is there, found no folder at "
            f"{str(output.parent)!r}; choose another --output"
        )
    check_apart(output, *sources)


def write_file(path: Path, content: bytes) -> None:
    """Writes a file, whole or not at all, and the folders that it lies in.

    The audit and the page of a distilled set go on its record of files; those of the user are not replaced.

    Raises:
        OutputError: If it cannot be written, or would replace a file of the user in the folder of a set.
    """
    from dallme.files import folders
    from dallme.files.atomic import write_output

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.name in folders.SET_FILES and folders.is_distilled(path.parent):
            folders.add(path.parent, path.name, content)
        else:
            write_output(path, content)
    except OSError as error:
        raise OutputError(
            f"expected to write {str(path)!r}, could not: {error.strerror or error}; nothing was written"
        ) from error


def _check_name(output: Path) -> None:
    """Refuses a name that the file system cannot hold while it is staged."""
    parent = output.absolute().parent
    try:
        while not parent.exists():
            parent = parent.parent
        longest = os.pathconf(parent, "PC_NAME_MAX") - _STAGING
    except (
        OSError,
        AttributeError,
        ValueError,
    ):  # a parent is too long itself, or the system has no such limit
        longest = 255 - _STAGING
    for name in output.parts:
        if len(os.fsencode(name)) > longest:
            raise OutputError(
                f"expected names of at most {longest} bytes in --output, found {len(os.fsencode(name))}; "
                "choose a shorter name"
            )


def check_apart(output: Path, *sources: str | Path | None) -> None:
    """Refuses an output that is a source, lies in one, or is the folder that holds one.

    Raises:
        OutputError: If it would replace or change what is read.
    """
    target = output.resolve()
    for source in sources:
        if not source or not _exists(Path(source).expanduser()):
            continue
        path = Path(source).expanduser().resolve()
        if target == path or path in target.parents or (path.is_file() and target == path.parent):
            raise OutputError(
                f"expected an --output apart from what is read, found {str(output)!r} with the source "
                f"{str(source)!r}; choose another"
            )


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # no path, as a text with a NUL or a very long one
        return False
