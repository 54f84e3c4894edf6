"""Progress on standard error: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from dallme.progress import Progress, Task

#: Seconds between two plain lines of one task.
LINE_INTERVAL = 10.0


class _Bar:
    def __init__(self, bars: object, task_id: object) -> None:
        self._bars, self._task_id = bars, task_id

    def advance(self, steps: int = 1) -> None:
        self._bars.advance(self._task_id, steps)  # type: ignore[attr-defined]


class BarProgress:
    """Draws one bar a task, with the time that is left."""

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[Task]:
        """Opens a bar of `total` steps."""
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        columns = (
            TextColumn("{task.description:>9}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Bars(*columns, console=Console(stderr=True)) as bars:
            yield _Bar(bars, bars.add_task(description, total=total))

    def note(self, message: str) -> None:
        """Prints one line."""
        print(f"note: {message}", file=sys.stderr)


class _Lines:
    def __init__(self, description: str, total: int) -> None:
        self.description, self.total, self.done = description, total, 0
        self.started = self.last = time.monotonic()

    def advance(self, steps: int = 1) -> None:
        self.done += steps
        now = time.monotonic()
        if now - self.last >= LINE_INTERVAL and self.done < self.total:
            self.last = now
            left = (now - self.started) / self.done * (self.total - self.done)
            print(f"{self.description}: {self.done:,} of {self.total:,}, about {left:.0f} s left", file=sys.stderr, flush=True)


class LineProgress:
    """Prints a line when a task ends, and one every ten seconds until then."""

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[Task]:
        """Opens a task of `total` steps."""
        lines = _Lines(description, total)
        yield lines
        print(f"{description}: done, {time.monotonic() - lines.started:.1f} s", file=sys.stderr, flush=True)

    def note(self, message: str) -> None:
        """Prints one line."""
        print(f"note: {message}", file=sys.stderr)


def make_progress() -> Progress:
    """The reporter that fits where standard error goes."""
    return BarProgress() if sys.stderr.isatty() else LineProgress()
