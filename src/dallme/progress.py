"""Progress reports of long tasks: their interface, and one that shows nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Task(Protocol):
    """One running task."""

    def advance(self, steps: int = 1) -> None:
        """Records that `steps` more are done."""


class Progress(Protocol):
    """Receiver of progress reports."""

    def task(self, description: str, total: int) -> AbstractContextManager[Task]:
        """Starts a task of `total` steps; leaving the block ends it."""

    def note(self, message: str) -> None:
        """Shows one line."""


class _SilentTask:
    def advance(self, steps: int = 1) -> None:
        pass


class SilentProgress:
    """Progress that shows nothing."""

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[Task]:
        """Starts a task that is not shown."""
        yield _SilentTask()

    def note(self, message: str) -> None:
        """Drops the line."""
