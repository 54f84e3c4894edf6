"""Printing: the one place through which the verbs write on standard output and standard error."""

from __future__ import annotations

import io
import json
import os
import re
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout, suppress
from typing import TYPE_CHECKING, Any, TextIO

from dallme.errors import redact
from dallme.progress import Progress, Task

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from dallme.scale import Engine

#: Control characters of a terminal, without tab and line feed, and characters that reverse text.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """Escapes characters that a terminal would interpret: controls, and those that reverse text."""
    return _CONTROLS.sub(lambda match: match.group().encode("unicode_escape").decode(), text)


def show(text: str = "", *, error: bool = False, secret: bool = False) -> None:
    """Prints lines.

    Args:
        text: The lines. Control characters are escaped.
        error: Whether they go to standard error.
        secret: Whether they may hold a secret, as an address for the user to open does.
    """
    stream = sys.stderr if error else sys.stdout
    stream.write(printable(text if secret else redact(text)) + "\n")
    if error:
        stream.flush()


def show_note(note: str) -> None:
    """Prints one note on standard error."""
    show(f"note: {note}", error=True)


def print_notes(notes: Sequence[str]) -> None:
    """Prints notes on standard error, one line each; a repeated note is printed once."""
    for note in dict.fromkeys(notes):
        show_note(note)


def print_json(document: Mapping[str, Any], *, secret: bool = False) -> None:
    """Prints one JSON document; characters that the output cannot show are written as JSON escapes.

    Args:
        document: The document.
        secret: Whether it may hold a secret.
    """
    text = json.dumps(document, indent=2, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(document, indent=2)
    # A JSON document has control characters below 0x20 only as escapes.
    text = _CONTROLS.sub(lambda match: f"\\u{ord(match.group()):04x}", text)
    sys.stdout.write((text if secret else redact(text)) + "\n")


def print_table(head: Sequence[str], body: Sequence[Sequence[str]]) -> None:
    """Prints a table: drawn on a terminal, plain columns elsewhere. Cells are never read as markup."""
    head, *body = [[printable(redact(cell)) for cell in row] for row in (head, *body)]
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
        show("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


class _Descriptor(io.FileIO):
    """A file descriptor that drops its output once the reader is gone, so that the work continues."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data) or 0
        except BrokenPipeError:
            return len(data)


def make_streams_safe() -> None:
    """Makes every later print succeed: on a closed descriptor or pipe, and in any encoding."""
    descriptor = os.open(os.devnull, os.O_RDWR)
    while descriptor <= 2:  # closed descriptors would be reused by the next files that are opened
        descriptor = os.dup(descriptor)
    os.close(descriptor)
    for number, name in ((1, "stdout"), (2, "stderr")):
        stream: TextIO | None = getattr(sys, name)
        if stream is not None and stream.isatty():
            with suppress(AttributeError):
                stream.reconfigure(errors="backslashreplace")  # type: ignore[attr-defined]
            continue
        if stream is not None:
            stream.flush()
        safe = io.TextIOWrapper(
            io.BufferedWriter(_Descriptor(number, "w", closefd=False)),
            encoding=stream.encoding if stream is not None else "utf-8",
            errors="backslashreplace",
            line_buffering=number == 2,
        )
        setattr(sys, name, safe)


@contextmanager
def clean_output(engine: Engine) -> Iterator[None]:
    """Sends the messages of a remote engine to standard error, and closes the engine at the end."""
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
    """Draws one bar per task with the time left; the bar of an inner task disappears when it is done."""

    def __init__(self) -> None:
        self._bars: Bars | None = None

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[Task]:
        """Opens a bar of `total` steps."""
        from rich.markup import escape

        description = escape(printable(description))
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
        show_note(message)


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
        self.started = time.monotonic()

    def advance(self, steps: int = 1) -> None:
        self.done += steps

    def line(self) -> str:
        """Steps done, and an estimate of the time that is left once there is one."""
        elapsed = time.monotonic() - self.started
        counts = f"{self.description}: {self.done:,} of {self.total:,}"
        if not self.done:
            return f"{counts}, {elapsed:.0f} s so far"
        return f"{counts}, about {elapsed / self.done * (self.total - self.done):.0f} s left"


class LineProgress:
    """Prints a line every few seconds, and one when a task of some length ends.

    A thread prints, so that a long step does not leave the user without a line. Of nested tasks the
    innermost one is shown.

    Args:
        interval: Seconds between two lines.
    """

    def __init__(self, interval: float = LINE_INTERVAL) -> None:
        self._interval, self._running = interval, list[_Lines]()

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[Task]:
        """Opens a task of `total` steps."""
        lines = _Lines(description, total)
        self._running.append(lines)
        with self._reporting() if len(self._running) == 1 else nullcontext():
            try:
                yield lines
            finally:
                self._running.remove(lines)
        if (seconds := time.monotonic() - lines.started) >= SHORTEST_SHOWN:
            show(f"{description}: done, {seconds:.1f} s", error=True)

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        """Prints lines from a thread until the block ends."""
        ended = threading.Event()

        def report() -> None:
            while not ended.wait(self._interval):
                for lines in self._running[-1:]:
                    if lines.done < lines.total:
                        show(lines.line(), error=True)

        thread = threading.Thread(target=report, name="progress", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def note(self, message: str) -> None:
        """Prints one line."""
        show_note(message)


def make_progress() -> Progress:
    """Returns the progress reporter for standard error: bars on a terminal, lines elsewhere."""
    return BarProgress() if sys.stderr.isatty() else LineProgress()
