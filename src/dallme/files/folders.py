"""Output folders that are whole or absent.

An existing folder is overwritten in two steps. The new files are staged in :data:`COMMITTED` with a journal
that names them; then each is moved to its final path. A process killed between the two leaves the staged
folder behind. Readers see the new files through it and change nothing (:func:`read_files`); the next writer
completes the move (:func:`finish`).

The folder may be untrusted, and so is its journal: names must be among :data:`SET_FILES`, checksums must
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
from pathlib import Path
from typing import Any

from dallme.errors import InputError, OutputError
from dallme.files.atomic import atomic_write, folder_lock, sha256_of, sync_folder, write_new
from dallme.files.journal import INVERTER_FILES as INVERTER_FILES
from dallme.files.journal import KNOWN_FILES, RECORD, Journal, JournalError
from dallme.files.journal import SET_FILES as SET_FILES

#: Ending of a folder whose files are still being written.
PARTIAL = ".partial"

#: Folder in a target with staged files that replace others, and the journal in it that lists them.
COMMITTED, JOURNAL = ".dallme-commit", "journal.json"

#: Reads of a folder before its writer counts as dead, seconds between two reads, and maximum bytes of a
#: journal.
_READS, _PAUSE, _MAX_JOURNAL = 20, 0.05, 65_536


def check(path: Path, *, overwrite: bool, source: Any = None) -> None:
    """Checks, before any work is done, that a folder can be written to; nothing is changed.

    Unfinished folders that a killed process left behind do not count as content.

    Args:
        path: The folder.
        overwrite: Whether files of a distilled set in it may be replaced.
        source: Path of the data that is read, if any; the output must not touch it.

    Raises:
        OutputError: If it holds something and `overwrite` is not given, if a file would be replaced that
            dallme did not write, or if it cannot be written to.
    """
    if path.exists() and not path.is_dir():
        raise OutputError(
            f"expected a folder to write to, found a file at {str(path)!r}; choose another --output"
        )
    if source is not None:
        _check_apart(path, Path(source))
    entries = sorted(entry.name for entry in path.iterdir()) if path.is_dir() else []
    entries = [name for name in entries if name != RECORD and not _is_left_over(name, path.resolve().name)]
    if entries and not overwrite:
        shown = ", ".join(entries[:3]) + (" …" if len(entries) > 3 else "")
        raise OutputError(
            f"expected an empty or missing folder, found {str(path)!r} with {shown}; choose another, or "
            "--overwrite"
        )
    check_own(path, sorted(SET_FILES.intersection(entries) - _staged_names(path)))
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


def _staged_names(path: Path) -> set[str]:
    """Returns the names that a killed writer had staged and :func:`_finish` will replace."""
    try:
        journal = _read_journal(path)
    except (JournalError, OSError):
        return set()  # _finish reports it
    return set() if journal is None else {*journal.files, *journal.outdated}


def check_own(path: Path, names: Iterable[str]) -> None:
    """Checks that dallme wrote the files of these names in a folder and nobody changed them since.

    Raises:
        OutputError: If dallme did not write a file or it was changed; the message names the file.
    """
    record = _read_record(path)
    try:
        journal = _read_journal(path)
    except JournalError:
        journal = None  # the write itself reports it
    committed = journal.files if journal else {}  # checked by the writer that was killed
    for name in names:
        exists = name not in committed and os.path.lexists(path / name)
        if exists and not _is_own(path / name, record):
            raise OutputError(
                f"expected to replace only files that dallme wrote, found {str(path / name)!r}, which is "
                "another or was changed since; nothing was written; move it away, or choose another --output"
            )


def add(path: Path, name: str, content: bytes) -> None:
    """Writes or replaces one more file in the folder of a set, such as its audit or its page.

    Raises:
        OutputError: If a file of that name exists that dallme did not write.
        OSError: If it cannot be written; the earlier file stays.
    """
    finish(path)
    check_own(path, [name])
    record, digest = _read_record(path) or {}, _digest(content)
    if not record:  # a folder of version 0.1
        record = {
            other: _digest(_read_regular(path / other))
            for other in sorted(SET_FILES)
            if _is_regular(path / other)
        }
    # Both sums are on record while the file is replaced, so that a kill between the writes does no harm.
    atomic_write(path / RECORD, _encode_record(record | {name: f"{record.get(name, '')} {digest}".strip()}))
    atomic_write(path / name, content)
    atomic_write(path / RECORD, _encode_record(record | {name: digest}))


def write(path: Path, files: Mapping[str, bytes], *, overwrite: bool, outdated: Collection[str] = ()) -> Path:
    """Writes files into a folder, all or none of them; other writers wait.

    The files are first written and synchronised in a temporary folder. A missing target is created in one
    step, by a rename. In an existing target, which may be a link or a mount point, other files stay. The new
    files are staged there in one step and then moved one by one. If the process is killed in between, the
    next writer completes the move.

    Args:
        path: The folder.
        files: Name to content; names are among :data:`SET_FILES` or :data:`INVERTER_FILES`.
        overwrite: Whether existing files may be replaced.
        outdated: Names of files to remove unless they are among `files`, since they describe the earlier
            content.

    Returns:
        The folder.

    Raises:
        OutputError: As :func:`check`, or if the disk is full.
        ValueError: If a name is not among :data:`SET_FILES` or :data:`INVERTER_FILES`.
    """
    if foreign := sorted({*files, *outdated} - KNOWN_FILES):
        raise ValueError(f"expected names among {sorted(KNOWN_FILES)}, found {foreign[0]!r}")
    check(path, overwrite=overwrite)
    target = path.resolve()
    staged: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with folder_lock(target) as locked:
            _finish(target)
            check(path, overwrite=overwrite)  # another process may have written it since
            check_own(path, files)
            exists = target.is_dir()
            place = target if exists else target.parent
            if locked:
                _sweep(target)
            staged = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=PARTIAL, dir=place))
            recorded = dict(files) | {RECORD: _new_record(target, files, outdated)}
            for name, content in recorded.items():
                write_new(staged / name, content)
            if exists:
                sums = {name: _digest(content) for name, content in recorded.items()}
                write_new(staged / JOURNAL, Journal(sums, tuple(set(outdated) - set(files))).encode())
                sync_folder(staged)
                try:
                    os.rename(staged, target / COMMITTED)
                    sync_folder(target)
                    _finish(target)
                except BaseException:
                    _finish(target)  # interrupted: the commit is completed all the same
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
            f"expected to write {len(files)} files to {str(path)!r}, could not: {reason}; nothing was "
            "written; make room or choose another folder"
        ) from error
    finally:
        if staged is not None:
            shutil.rmtree(staged, ignore_errors=True)
    return path


def _check_apart(path: Path, source: Path) -> None:
    """Checks that a write cannot touch the source of the run."""
    if not source.exists():
        return  # a Hub id
    output, origin = path.resolve(), source.resolve()
    inside = origin.is_dir() and (output == origin or origin in output.parents)
    over = origin.is_file() and origin.parent == output and origin.name in SET_FILES
    if inside or over:
        raise OutputError(
            f"expected an output apart from the source {str(source)!r}, found {str(path)!r}; nothing was "
            "written; choose another --output"
        )


def _read_record(path: Path) -> dict[str, str] | None:
    """Reads the record of a folder; None for a folder of version 0.1, which has none."""
    try:
        document = json.loads(_read_regular(path / RECORD, _MAX_JOURNAL))
        return {str(name): str(digest) for name, digest in document["files"].items() if name in KNOWN_FILES}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None  # missing, or not ours


def _encode_record(record: Mapping[str, str]) -> bytes:
    return (json.dumps({"files": dict(sorted(record.items()))}, indent=2) + "\n").encode()


def _new_record(target: Path, files: Mapping[str, bytes], outdated: Collection[str]) -> bytes:
    """Makes the record of a folder after a write: the new files, and earlier ones that stay."""
    earlier = {name: digest for name, digest in (_read_record(target) or {}).items() if name not in outdated}
    return _encode_record(earlier | {name: _digest(content) for name, content in files.items()})


def _is_own(path: Path, record: Mapping[str, str] | None) -> bool:
    """Returns whether dallme wrote a file, by the record or, without one, by its content."""
    if not _is_regular(path):
        return False
    content = path.read_bytes()
    if record is not None:
        return _digest(content) in record.get(path.name, "").split()
    if path.name in INVERTER_FILES and (path.parent / "inverter.json").is_file():
        return path.name != "README.md" or content.startswith(b"# Inverter for ")
    marks = {
        "README.md": (b"dallme",),
        "audit.json": (b'"thresholds"', b'"failures"'),
        "changes.json": (b'"parent_sha256"',),
        "manifest.json": (b'"configuration"', b'"dallme"'),
        "report.html": (b"<html", b"dallme"),
        "train.parquet": (b"PAR1", b"label_text", b"member_rows"),
    }
    return path.name in marks and all(mark in content for mark in marks[path.name])


def is_distilled(path: Path) -> bool:
    """Returns whether a folder holds a distilled set, written whole or staged."""
    places = (path, path / COMMITTED)
    return all(
        any((place / name).is_file() for place in places) for name in ("manifest.json", "train.parquet")
    )


def read_files(path: Path, names: Iterable[str]) -> dict[str, bytes]:
    """Reads files of a folder as one consistent state; nothing in the folder is changed.

    If a writer was killed between staging its files and moving them, the staged files are read.

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
        except (JournalError, FileNotFoundError) as error:  # also when another process moves files meanwhile
            problem = str(error)
        time.sleep(_PAUSE)
    raise InputError(
        f"expected a whole distilled set in {str(path)!r}, found an unfinished write in {COMMITTED}: "
        f"{problem}; nothing was changed; write the set again, or remove that folder if you do not need it"
    )


def locate_files(path: Path, names: Iterable[str]) -> dict[str, Path]:
    """Finds files of a folder, staged or in place, as a finished write would leave them; nothing is changed.

    For files that are too large to be read as a whole; see :func:`read_files`.

    Args:
        path: The folder.
        names: Names of files, which need not exist.

    Raises:
        InputError: If a staged write in the folder is damaged.
    """
    try:
        journal = _read_journal(path)
        sums = journal.files if journal else {}
        staged = [name for name in sums if _is_regular(path / COMMITTED / name)]
        for name in staged:
            if _digest(_read_regular(path / COMMITTED / name)) != sums[name]:
                raise JournalError(f"{name!r} is damaged (checksum)")
    except (JournalError, OSError) as error:
        raise InputError(
            f"expected a whole folder at {str(path)!r}, found an unfinished write in {COMMITTED}: {error}; "
            "nothing was changed; write it again, or remove that folder if you do not need it"
        ) from None
    return {name: path / COMMITTED / name if name in staged else path / name for name in names}


def finish(path: Path) -> None:
    """Moves the files that a killed writer had staged in a folder; called only by writers to that folder.

    Raises:
        OutputError: If they cannot be moved or the journal is damaged.
    """
    if not os.path.lexists(path / COMMITTED):
        return
    target = path.resolve()
    try:
        with folder_lock(target):
            _finish(target)
    except OSError as error:
        raise OutputError(
            f"expected a whole folder, found {str(path)!r}, which was being overwritten when the process was "
            f"killed; could not do the rest: {error.strerror or error}; make it writable"
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
                    raise JournalError(f"{name!r} in it is damaged (checksum)")
            for name in journal.outdated:
                (target / name).unlink(missing_ok=True)
            for name in staged:
                os.replace(committed / name, target / name)
            sync_folder(target)
            (committed / JOURNAL).unlink()
        if os.path.lexists(committed):
            committed.rmdir()
    except JournalError as error:
        raise OutputError(
            f"expected to finish the write in {str(committed)!r}, could not: {error}; nothing was changed; "
            "remove that folder if you do not need it"
        ) from None


def _read_journal(target: Path) -> Journal | None:
    """The journal of a staged write; None if there is none.

    Raises:
        JournalError: If there is something else in its place.
    """
    committed = target / COMMITTED
    if not os.path.lexists(committed):
        return None
    if not stat.S_ISDIR(committed.lstat().st_mode):
        raise JournalError("it is a link or a file, not a folder")
    if not os.path.lexists(committed / JOURNAL):
        if any(committed.iterdir()):
            raise JournalError("it has no journal")
        return None  # a writer was killed after the last move
    journal = Journal.decode(_read_regular(committed / JOURNAL, _MAX_JOURNAL))
    for entry in committed.iterdir():
        if entry.name not in (JOURNAL, *journal.files) or entry.is_symlink() or entry.is_dir():
            raise JournalError(f"it holds {entry.name!r}, which is a link or not in its journal")
    return journal


def _content(path: Path, name: str, journal: Journal | None) -> bytes | None:
    """Reads a file as a finished write would leave it; None if there is none."""
    if journal is None or name not in {*journal.files, *journal.outdated}:
        return (path / name).read_bytes() if (path / name).is_file() else None
    if name in journal.outdated:
        return None
    staged = path / COMMITTED / name
    content = _read_regular(staged if _is_regular(staged) else path / name)
    if _digest(content) != journal.files[name]:
        raise JournalError(f"{name!r} is damaged (checksum)")
    return content


def _is_regular(path: Path) -> bool:
    """Returns whether a path is a regular file and no link to one."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _read_regular(path: Path, limit: int | None = None) -> bytes:
    """Reads a regular file without following a link.

    Raises:
        JournalError: If it is anything else, or larger than `limit` bytes.
    """
    if not _is_regular(path):
        raise JournalError(f"{path.name!r} is missing or no regular file")
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    except OSError as error:
        raise JournalError(f"{path.name!r} cannot be read: {error.strerror or error}") from None
    with open(descriptor, "rb") as file:
        content = file.read(-1 if limit is None else limit + 1)
    if limit is not None and len(content) > limit:
        raise JournalError(f"{path.name!r} has more than {limit:,} bytes")
    return content


def _digest(content: bytes) -> str:
    return sha256_of([content])


def _sweep(target: Path) -> None:
    """Removes the remains of killed processes in a folder and its parent, under the lock."""
    for folder in (target.parent, target):
        for entry in folder.iterdir() if folder.is_dir() else ():
            if _is_left_over(entry.name, target.name):
                shutil.rmtree(entry, ignore_errors=True)


def _is_left_over(name: str, target: str) -> bool:
    """Returns whether a name is that of an unfinished folder of a killed process."""
    return name.startswith(f".{target}.") and name.endswith(PARTIAL)


def _umask() -> int:
    """Reads the process's file mode mask, which is possible only by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
