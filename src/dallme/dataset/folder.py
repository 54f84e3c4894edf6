"""Output folders that are whole or absent.

A folder that exists is overwritten in two steps. The new files are staged in :data:`COMMITTED` with a journal that names
them; then each is moved into its place. A process killed between the two leaves the staged folder behind. Readers see the
new files through it and change nothing (:func:`read_files`); the next writer completes the move (:func:`finish`).

The folder may come from somebody else, so the journal is input as well: names must be among :data:`SET_FILES`, sums must
match, and links are never followed.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from dallme.atomic import folder_lock, sha256_of, sync_folder, write_new
from dallme.errors import InputError, OutputError

#: Ending of a folder whose files are still being written.
PARTIAL = ".partial"

#: Folder in a target with staged files that replace others, and the journal in it that lists them.
COMMITTED, JOURNAL = ".dallme-commit", "journal.json"

#: The only files that a write may put into a folder that exists, or remove from it.
SET_FILES = frozenset(
    {"README.md", "audit.json", "changes.json", "manifest.json", "report.html", "train.parquet"}
)

#: Reads of a folder before its writer is taken for dead, the seconds between two, and the largest journal in bytes.
_READS, _PAUSE, _MAX_JOURNAL = 20, 0.05, 65_536


class _JournalError(ValueError):
    """A staged write that cannot be trusted."""


@dataclass(frozen=True)
class _Journal:
    """The staged files of a write and the files that it removes.

    Attributes:
        files: Name to SHA-256 of the content.
        outdated: Names of files to remove.
    """

    files: dict[str, str]
    outdated: tuple[str, ...]

    def encode(self) -> bytes:
        """The journal as bytes, with a checksum over its content."""
        body = {"files": dict(sorted(self.files.items())), "outdated": sorted(self.outdated), "version": 1}
        return json.dumps(body | {"sha256": _digest(json.dumps(body).encode())}).encode()

    @classmethod
    def decode(cls, content: bytes) -> _Journal:
        """Parses and checks a journal.

        Raises:
            _JournalError: If it is damaged or names other files than those of a distilled set.
        """
        try:
            document = json.loads(content)
            journal = cls(dict(document["files"]), tuple(document["outdated"]))
            intact = journal.encode() == content
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise _JournalError(f"its journal is damaged ({type(error).__name__})") from None
        if not intact:
            raise _JournalError("its journal is damaged (checksum)")
        foreign = sorted({*journal.files, *journal.outdated} - SET_FILES)
        if foreign:
            raise _JournalError(f"its journal names {foreign[0]!r}, which is no file of a distilled set")
        return journal


def check(path: Path, *, overwrite: bool) -> None:
    """Checks, before any work is done, that a folder can be written to; nothing is changed.

    Unfinished folders that a killed process left behind do not count as content.

    Raises:
        OutputError: If it holds something and `overwrite` is not given, or it cannot be written to.
    """
    if path.exists() and not path.is_dir():
        raise OutputError(
            f"expected a folder to write to, found a file at {str(path)!r}; choose another --output"
        )
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
        raise OutputError(
            f"expected a folder to write to, found a file at {str(parent)!r}; choose another --output"
        )
    if not os.access(parent, os.W_OK | os.X_OK):
        raise OutputError(
            f"expected a folder that can be written to, found {str(parent)!r} without write permission"
        )


def write(path: Path, files: Mapping[str, bytes], *, overwrite: bool, outdated: Collection[str] = ()) -> Path:
    """Writes files into a folder, all or nothing; other processes that write there wait meanwhile.

    The files are written and synchronised in a folder of their own first. A target that is missing comes to be in one
    step. In a target that is there, be it a link or a mount point, other files stay; the new ones are put beside them in one
    step, and take their places one by one: should the process be killed then, the next writer does the rest.

    Args:
        path: The folder.
        files: Name to content; names are among :data:`SET_FILES`.
        overwrite: Whether files that stand there may be replaced.
        outdated: Names of files that are removed if they are not among `files`: they tell of what stood there before.

    Returns:
        The folder.

    Raises:
        OutputError: As :func:`check`, or if the disk is full.
        ValueError: If a name is not among :data:`SET_FILES`.
    """
    if foreign := sorted({*files, *outdated} - SET_FILES):
        raise ValueError(f"expected names among {sorted(SET_FILES)}, found {foreign[0]!r}")
    check(path, overwrite=overwrite)
    target = path.resolve()
    staged: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with folder_lock(target.parent) as locked:
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
                sums = {name: _digest(content) for name, content in files.items()}
                write_new(staged / JOURNAL, _Journal(sums, tuple(set(outdated) - set(files))).encode())
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
        reason = (
            "the disk is full"
            if error.errno in (errno.ENOSPC, errno.EDQUOT)
            else error.strerror or str(error)
        )
        raise OutputError(
            f"expected to write {len(files)} files to {str(path)!r}, could not: {reason}; nothing was written; "
            "make room or choose another folder"
        ) from error
    finally:
        if staged is not None:
            shutil.rmtree(staged, ignore_errors=True)
    return path


def is_distilled(path: Path) -> bool:
    """Whether a folder holds a distilled set, written whole or staged."""
    places = (path, path / COMMITTED)
    return all(
        any((place / name).is_file() for place in places) for name in ("manifest.json", "train.parquet")
    )


def read_files(path: Path, names: Iterable[str]) -> dict[str, bytes]:
    """Reads files of a folder as one consistent state; nothing in the folder is changed.

    If a writer was killed between staging its files and moving them, its files are read where they lie.

    Args:
        path: The folder.
        names: Names of files; those that do not exist are left out.

    Returns:
        Name to content.

    Raises:
        InputError: If a staged write in the folder is damaged, or files keep changing.
        OSError: If a file cannot be read.
    """
    names, problem = tuple(names), ""
    for _ in range(_READS):
        try:
            before = _read_journal(path)
            contents = {
                name: content for name in names if (content := _content(path, name, before)) is not None
            }
            if _read_journal(path) == before:
                return contents
            problem = "its files keep changing"
        except (_JournalError, FileNotFoundError) as error:  # also when another process moves files meanwhile
            problem = str(error)
        time.sleep(_PAUSE)
    raise InputError(
        f"expected a whole distilled set in {str(path)!r}, found an unfinished write in {COMMITTED}: {problem}; "
        "nothing was changed; write the set again, or remove that folder if you do not need it"
    )


def finish(path: Path) -> None:
    """Moves the files that a killed writer had staged in a folder; called only by writers to that folder.

    Raises:
        OutputError: If they cannot be moved or the journal is damaged.
    """
    if not os.path.lexists(path / COMMITTED):
        return
    target = path.resolve()
    try:
        with folder_lock(target.parent):
            _finish(target)
    except OSError as error:
        raise OutputError(
            f"expected a whole folder, found {str(path)!r}, which was being overwritten when the process was killed; "
            f"could not do the rest: {error.strerror or error}; make it writable"
        ) from error


def _finish(target: Path) -> None:
    """Moves staged files into their places, under the lock; it may be done again from any point."""
    committed = target / COMMITTED
    try:
        journal = _read_journal(target)
        if journal is not None:
            staged = [name for name in sorted(journal.files) if _is_regular(committed / name)]
            for name in staged:  # all are checked before the first is moved
                if _digest(_read_regular(committed / name)) != journal.files[name]:
                    raise _JournalError(f"{name!r} in it is damaged (checksum)")
            for name in journal.outdated:
                (target / name).unlink(missing_ok=True)
            for name in staged:
                os.replace(committed / name, target / name)
            sync_folder(target)
            (committed / JOURNAL).unlink()
        if os.path.lexists(committed):
            committed.rmdir()
    except _JournalError as error:
        raise OutputError(
            f"expected to finish the write in {str(committed)!r}, could not: {error}; nothing was changed; "
            "remove that folder if you do not need it"
        ) from None


def _read_journal(target: Path) -> _Journal | None:
    """The journal of a staged write; None if there is none.

    Raises:
        _JournalError: If there is something else in its place.
    """
    committed = target / COMMITTED
    if not os.path.lexists(committed):
        return None
    if not stat.S_ISDIR(committed.lstat().st_mode):
        raise _JournalError("it is a link or a file, not a folder")
    if not os.path.lexists(committed / JOURNAL):
        if any(committed.iterdir()):
            raise _JournalError("it has no journal")
        return None  # a writer was killed after the last move
    journal = _Journal.decode(_read_regular(committed / JOURNAL, _MAX_JOURNAL))
    for entry in committed.iterdir():
        if entry.name not in (JOURNAL, *journal.files) or entry.is_symlink() or entry.is_dir():
            raise _JournalError(f"it holds {entry.name!r}, which is a link or not in its journal")
    return journal


def _content(path: Path, name: str, journal: _Journal | None) -> bytes | None:
    """The content of a file as a finished write would leave it; None if there is none."""
    if journal is None or name not in {*journal.files, *journal.outdated}:
        return (path / name).read_bytes() if (path / name).is_file() else None
    if name in journal.outdated:
        return None
    staged = path / COMMITTED / name
    content = _read_regular(staged if _is_regular(staged) else path / name)
    if _digest(content) != journal.files[name]:
        raise _JournalError(f"{name!r} is damaged (checksum)")
    return content


def _is_regular(path: Path) -> bool:
    """Whether a path is a regular file and no link to one."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except FileNotFoundError:
        return False


def _read_regular(path: Path, limit: int | None = None) -> bytes:
    """Reads a regular file without following a link.

    Raises:
        _JournalError: If it is anything else, or larger than `limit` bytes.
    """
    if not _is_regular(path):
        raise _JournalError(f"{path.name!r} is missing or no regular file")
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    except OSError as error:
        raise _JournalError(f"{path.name!r} cannot be read: {error.strerror or error}") from None
    with open(descriptor, "rb") as file:
        content = file.read(-1 if limit is None else limit + 1)
    if limit is not None and len(content) > limit:
        raise _JournalError(f"{path.name!r} has more than {limit:,} bytes")
    return content


def _digest(content: bytes) -> str:
    return sha256_of([content])


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
