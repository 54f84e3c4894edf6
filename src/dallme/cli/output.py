"""Printing: the one place through which the verbs write on standard output and standard error."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from typing import TYPE_CHECKING, Any, TextIO

from dallme.console import CONTROLS, printable
from dallme.console import BarProgress as BarProgress
from dallme.console import LineProgress as LineProgress
from dallme.console import make_progress as make_progress
from dallme.console import show as show
from dallme.console import show_note as show_note
from dallme.errors import redact

if TYPE_CHECKING:
    from dallme.scale import Engine


def print_notes(notes: Sequence[str]) -> None:
    """Prints notes on standard error, one line each; a repeated note is printed once."""
    for note in dict.fromkeys(notes):
        show_note(note)


def duration(seconds: float | None) -> str:
    """Words an estimated duration."""
    if seconds is None:
        return "not known"
    if seconds < 120:
        return f"about {seconds:.0f} s"
    return f"about {seconds / 60:.0f} min" if seconds < 7200 else f"about {seconds / 3600:.1f} h"


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
    text = CONTROLS.sub(lambda match: f"\\u{ord(match.group()):04x}", text)
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
