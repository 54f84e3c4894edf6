"""What the verbs print on standard output."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
