"""The terminal and the notebook: printing of lines, and progress as bars or as lines."""

from __future__ import annotations

import re
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from dallme.errors import redact
from dallme.progress import Progress, SilentProgress, Task

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

#: Control characters of a terminal, without tab and line feed, and characters that reverse text.
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """Escapes characters that a terminal would interpret: controls, and those that reverse text."""
    return CONTROLS.sub(lambda match: match.group().encode("unicode_escape").decode(), text)


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
    return Progress(*columns, console=Console(stderr=not _is_notebook()))


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


def make_progress(shown: bool | None = None) -> Progress:
    """Returns a progress reporter for standard error: bars on a terminal and in a notebook, lines elsewhere.

    Args:
        shown: False returns one that shows nothing.
    """
    if shown is False:
        return SilentProgress()
    return BarProgress() if sys.stderr.isatty() or _is_notebook() else LineProgress()


#: Libraries whose warnings are about dallme's use of them, not about the user's.
_LIBRARIES = (
    "faiss",
    "huggingface_hub",
    "joblib",
    "numpy",
    "scipy",
    "sentence_transformers",
    "sklearn",
    "torch",
)


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Silences the warnings of libraries within the block, unless Python was started with ``-W``."""
    with warnings.catch_warnings():
        for library in _LIBRARIES if not sys.warnoptions else ():
            warnings.filterwarnings("ignore", module=rf"{library}(\.|$)")
        yield


def _is_notebook() -> bool:
    """Returns whether the code runs in a Jupyter kernel."""
    if "ipykernel" not in sys.modules:
        return False
    from IPython import get_ipython

    return type(get_ipython()).__name__ == "ZMQInteractiveShell"
