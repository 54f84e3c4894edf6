"""What the verbs print on standard output."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Any

from dallme.progress import Progress, Task

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from dallme.scale.base import Engine


def print_json(document: Mapping[str, Any]) -> None:
    """Prints one JSON document."""
    json.dump(document, sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")


def print_table(head: Sequence[str], body: Sequence[Sequence[str]]) -> None:
    """Prints a table: drawn on a terminal, plain columns elsewhere. Cells are shown as they are, never read as markup."""
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table()
        for cell in head:
            table.add_column(Text(cell))
        for row in body:
            table.add_row(*(Text(cell) for cell in row))
        Console().print(table)
        return
    widths = [max(len(row[column]) for row in (head, *body)) for column in range(len(head))]
    for row in (head, *body):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def print_notes(notes: Sequence[str]) -> None:
    """Prints notes on standard error, one line each, what is said several times once."""
    for note in dict.fromkeys(notes):
        print(f"note: {note}", file=sys.stderr)


@contextmanager
def clean_output(engine: Engine) -> Iterator[None]:
    """Keeps what a remote engine has to say, such as that a worker died, off standard output; leaves it at the end."""
    if not engine.remote:
        yield
        return
    with redirect_stdout(sys.stderr):
        try:
            yield
        finally:
            engine.close()


#: Seconds between two plain lines of one task.
LINE_INTERVAL = 10.0

#: Seconds that a task must take for its end to be worth a line.
SHORTEST_SHOWN = 1.0


class _Bar:
    def __init__(self, bars: Bars, task_id: TaskID) -> None:
        self._bars, self._task_id = bars, task_id

    def advance(self, steps: int = 1) -> None:
        self._bars.advance(self._task_id, steps)


class BarProgress:
    """Draws one bar a task, with the time that is left; the bar of a task within a task goes when it is done."""

    def __init__(self) -> None:
        self._bars: Bars | None = None

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[Task]:
        """Opens a bar of `total` steps."""
        if self._bars is not None:
            task_id = self._bars.add_task(description, total=total)
            yield _Bar(self._bars, task_id)
            self._bars.remove_task(task_id)
            return
        with _make_bars() as bars:
            self._bars = bars
            try:
                yield _Bar(bars, bars.add_task(description, total=total))
            finally:
                self._bars = None

    def note(self, message: str) -> None:
        """Prints one line."""
        print(f"note: {message}", file=sys.stderr)


def _make_bars() -> Bars:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    label = TextColumn("{task.description:>9}")
    columns = (label, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True))


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
            print(
                f"{self.description}: {self.done:,} of {self.total:,}, about {left:.0f} s left",
                file=sys.stderr,
                flush=True,
            )


class LineProgress:
    """Prints a line every ten seconds, and one when a task of some length ends."""

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[Task]:
        """Opens a task of `total` steps."""
        lines = _Lines(description, total)
        yield lines
        if time.monotonic() - lines.started >= SHORTEST_SHOWN:
            print(
                f"{description}: done, {time.monotonic() - lines.started:.1f} s", file=sys.stderr, flush=True
            )

    def note(self, message: str) -> None:
        """Prints one line."""
        print(f"note: {message}", file=sys.stderr)


def make_progress() -> Progress:
    """The reporter that fits where standard error goes."""
    return BarProgress() if sys.stderr.isatty() else LineProgress()
