"""Rows: what is kept of a cell that was computed, one line of JSON each."""

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

from dallme.atomic import checksum, remove_stale, sync_folder
from dallme.errors import InputError, OutputError
from dallme.progress import Progress, SilentProgress

#: Name of the file with the rows of an experiment.
ROWS = "rows.jsonl"

#: Name of the checksum at the end of a line; lines of earlier versions have none.
_CHECKSUM = "crc32"


@dataclass(frozen=True)
class Row:
    """The result of a cell, and all that it came from.

    Attributes:
        key: What :meth:`~dallme.experiments.runs.Run.key` gives for the cell.
        config: What :meth:`~dallme.experiments.runs.Run.config` gives for it.
        result: Measure to value, such as ``accuracy`` to 0.81.
        seconds: How long it took.
        seed: Seed of its first run.
        versions: Package to version; None for one that is not installed.
        when: When it was done, in UTC, as ISO 8601.
    """

    key: str
    config: Mapping[str, Any]
    result: Mapping[str, Any]
    seconds: float
    seed: int
    versions: Mapping[str, str | None]
    when: str

    def line(self) -> bytes:
        """The row as one line of JSON, with a checksum and its end.

        Raises:
            TypeError: If it holds something that JSON has no word for.
            ValueError: If it holds NaN or infinity.
        """
        return _dump(asdict(self) | {_CHECKSUM: checksum(_dump(asdict(self)))}) + b"\n"

    @classmethod
    def parse(cls, line: bytes) -> Row:
        """The row that a line holds.

        Raises:
            ValueError: If it is no row.
        """
        content = json.loads(line)
        if not isinstance(content, dict):
            raise ValueError(f"expected an object, found {type(content).__name__}")
        if (known := content.pop(_CHECKSUM, None)) is not None and known != checksum(_dump(content)):
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
    """A file of rows that grows by one row at a time and outlives a kill at any moment.

    Attributes:
        path: Where it is; its folder is made when it is first written to.
        progress: Where to tell of damaged lines.
    """

    path: Path
    progress: Progress = field(default_factory=SilentProgress)

    def load(self) -> list[Row]:
        """Reads the rows, of several with one key the last; none where there is no file.

        A line that holds no row, as a kill leaves one behind, is told of and left out.

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
                    f"{self.path}: line {number} is damaged and left out; its cell is computed again"
                )
            else:
                rows.pop(row.key, None)  # so that rows stand in the order of their last lines
                rows[row.key] = row
        return list(rows.values())

    def append(self, row: Row) -> None:
        """Writes one row and waits until it is on the disk; a half line that a kill left is closed first.

        Raises:
            OutputError: If it cannot be written; nothing of it is left.
        """
        try:
            self._make_folder()
            with self.path.open("ab+", buffering=0) as file:
                end = file.seek(0, os.SEEK_END)
                file.seek(max(end - 1, 0))
                unfinished = file.read() not in (b"", b"\n")
                content = b"\n" + row.line() if unfinished else row.line()
                try:
                    if file.write(content) < len(content):  # as much as there was room for
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
        """Keeps other processes from computing the same rows while the block runs.

        The system holds the lock and drops it when the process ends, however it ends. Windows has no such locks, and
        nothing is locked there.

        Raises:
            OutputError: If another process holds it, or the file cannot be opened for writing.
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
            f"cannot write results to {self.path}: {error.strerror or error}; make room or choose another folder"
        )
