"""How long work reports how far it is. The library is silent; the command line passes a reporter that shows bars."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Task(Protocol):
    """One piece of work that is under way."""

    def advance(self, steps: int = 1) -> None:
        """Says that `steps` more are done."""


class Progress(Protocol):
    """Shows tasks to a person."""

    def task(self, description: str, total: int) -> AbstractContextManager[Task]:
        """Opens a task of `total` steps; leaving the block ends it."""

    def note(self, message: str) -> None:
        """Shows one line."""


class _SilentTask:
    def advance(self, steps: int = 1) -> None:
        pass


class SilentProgress:
    """Shows nothing."""

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[Task]:
        """Opens a task that nobody sees."""
        yield _SilentTask()

    def note(self, message: str) -> None:
        """Drops the line."""
