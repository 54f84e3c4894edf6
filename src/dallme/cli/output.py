"""What the verbs print on standard output."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any


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
