"""Rows: the stored results of runs, one line of JSON each."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dallme.errors import InputError, OutputError
from dallme.files.atomic import checksum, remove_stale, sync_folder
from dallme.progress import Progress, SilentProgress

#: Name of the file with the rows of an experiment.
ROWS = "rows.jsonl"

#: Name of the checksum at the end of a line; lines of earlier versions have none.
_CHECKSUM = "crc32"


@dataclass(frozen=True)
class Row:
    """The result of a run, with its configuration.

    Attributes:
        key: Return value of :meth:`~dallme.experiments.runs.Run.key`.
        config: Return value of :meth:`~dallme.experiments.runs.Run.config`.
        result: Measures by name, such as ``accuracy`` to 0.81.
        seconds: Duration of the run.
        seed: Seed of the first set.
        versions: Package to version; None for a package that is not installed.
        when: Time of completion in UTC, as ISO 8601.
    """

    key: str
    config: Mapping[str, Any]
    result: Mapping[str, Any]
    seconds: float
    seed: int
    versions: Mapping[str, str | None]
    when: str

    def line(self) -> bytes:
        """Returns the row as one line of JSON with a checksum and a newline.

        Raises:
            TypeError: If a value has no JSON representation.
            ValueError: If a value is NaN or infinite.
        """
        return _dump(asdict(self) | {_CHECKSUM: checksum(_dump(asdict(self)))}) + b"\n"

    @classmethod
    def parse(cls, line: bytes) -> Row:
        """Parses a line.

        Raises:
            ValueError: If the line is not a row, or its checksum is wrong.
        """
        content = json.loads(line)
        if not isinstance(content, dict):
            raise ValueError(f"expected an object, found {type(content).__name__}")
        if (expected := content.pop(_CHECKSUM, None)) is not None and expected != checksum(_dump(content)):
            raise ValueError("wrong checksum")
        try:
            row = cls(**content)
        except TypeError as error:  # a key is missing, or one too many
            raise ValueError(str(error)) from None
        if not (isinstance(row.key, str) and isinstance(row.config, dict) and isinstance(row.result, dict)):
            raise ValueError("expected a key, a config and a result")
        return row


def _dump(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, ensure_ascii=False, allow_nan=False).encode()


@dataclass(frozen=True)
class RowFile:
    """A file of rows that only grows; a process that is killed loses no complete row.

    Attributes:
        path: Path of the file; the first write creates its folder.
        progress: Receiver of notes on damaged lines.
    """

    path: Path
    progress: Progress = field(default_factory=SilentProgress)

    def load(self) -> list[Row]:
        """Reads the rows; of rows with equal keys the last one counts.

        A damaged line, such as the half line of a killed process, is noted and skipped.

        Returns:
            The rows in the order of their last lines; an empty list if there is no file.

        Raises:
            InputError: If the file cannot be read.
        """
        try:
            lines = self.path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return []
        except OSError as error:
            raise InputError(
                f"expected rows of results in {self.path}, could not read it: {error.strerror or error}"
            ) from None
        rows: dict[str, Row] = {}
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = Row.parse(line)
            except ValueError:
                self.progress.note(
                    f"{self.path}: line {number} is damaged and left out; its run is computed again"
                )
            else:
                rows.pop(row.key, None)
                rows[row.key] = row
        return list(rows.values())

    def append(self, row: Row) -> None:
        """Appends one row and syncs it to the disk; an unfinished last line is closed first.

        Raises:
            OutputError: If the row cannot be written; the file is left as it was.
        """
        try:
            self._make_folder()
            with self.path.open("ab+", buffering=0) as file:
                end = file.seek(0, os.SEEK_END)
                file.seek(max(end - 1, 0))
                unfinished = file.read() not in (b"", b"\n")
                content = b"\n" + row.line() if unfinished else row.line()
                try:
                    if file.write(content) < len(content):  # the disk is full
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                    os.fsync(file.fileno())
                except OSError:
                    file.truncate(end)
                    raise
            if not end:
                sync_folder(self.path.parent)
        except OSError as error:
            raise self._unwritable(error) from None

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Locks the file against other processes.

        The system releases the lock when the process ends, even if it is killed. Windows locks nothing.

        Raises:
            OutputError: If another process holds the lock, or the file cannot be opened for writing.
        """
        if sys.platform == "win32":
            yield
            return
        import fcntl

        try:
            self._make_folder()
            file = self.path.open("ab")
        except OSError as error:
            raise self._unwritable(error) from None
        remove_stale(self.path.parent)
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise OutputError(
                    f"expected {self.path.parent} for this run alone, found another that writes there; "
                    "wait for it to end or choose another folder"
                ) from None
            except OSError as error:
                raise self._unwritable(error) from None
            yield

    def _make_folder(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)

    def _unwritable(self, error: OSError) -> OutputError:
        return OutputError(
            f"cannot write results to {self.path}: {error.strerror or error}; "
            "make room or choose another folder"
        )
