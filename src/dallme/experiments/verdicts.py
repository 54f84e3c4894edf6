"""Where ours falls short of the paper's, and whose best row is better."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dallme.experiments.naming import shorten
from dallme.experiments.sheet import Column, Number, Sheet, pool
from dallme.experiments.tables import FORMATS, escape_markdown, format_number
from dallme.registry import names

#: So much less than the paper's number falls short of it.
MARGIN = 0.01


@dataclass(frozen=True)
class Shortfall:
    """A number of ours that is below the paper's.

    Attributes:
        row: Our row.
        column: Our column.
        ours: Our number.
        paper: The paper's.
        reason: A sentence that says why, or empty.
    """

    row: str
    column: Column
    ours: Number
    paper: Number
    reason: str

    def markdown(self) -> str:
        """The shortfall as a sentence."""
        ours, paper = (format_number(number, self.column.measure) for number in (self.ours, self.paper))
        less = format_number(Number(self.paper.mean - self.ours.mean), self.column.measure)
        name, column = escape_markdown(self.row), escape_markdown(self.column.name)
        return f"**{name}**, {column}: {ours}, the paper {paper}: {less} less. {self.reason}".rstrip()


def shortfalls(sheet: Sheet, reasons: Mapping[str, str]) -> list[Shortfall]:
    """The scores of ours that are below the paper's beside them by more than :data:`MARGIN`, in the order of the table.

    Args:
        sheet: The table.
        reasons: As in :class:`~dallme.experiments.spec.Edition`.
    """
    known = {" | ".join(map(shorten, name.split(" | "))): reason for name, reason in reasons.items()} | dict(reasons)
    found = []
    for row, beside in sheet.rows.items():
        for column in sheet.columns:
            ours, paper = sheet.ours(row, column), sheet.paper(beside, column)
            if column.measure not in FORMATS and ours and paper and paper.mean - ours.mean > MARGIN + 1e-9:
                reason = known.get(f"{row} | {column.name}", known.get(row, ""))
                found.append(Shortfall(row, column, ours, paper, reason))
    return found


def best_rows(sheet: Sheet, measure: str) -> str:
    """Sets our best row beside the paper's best, in Markdown: means over the averaged columns that both have.

    Our best is that of a decoder, if there is one; a better row of another method is named after it. Rows of the full data
    do not compete.

    Returns:
        A sentence or two; empty if one of the two has no row with all these columns.
    """
    reported = {column for numbers in sheet.reported.values() for column in numbers}
    columns = [column for column in sheet.averaged(measure) if column.paper in reported]
    methods = {row: sheet.methods(row) for row in sheet.rows}
    full = {sheet.rows[row] for row in sheet.rows if methods[row] == {"full"}}
    full |= {name for name in sheet.reported if name.lower().startswith("full")}
    ours = {row: pool([sheet.ours(row, column) for column in columns]) for row in sheet.rows if methods[row] != {"full"}}
    decoded = {row: number for row, number in ours.items() if methods[row] <= set(names("decoders"))}
    papers = {name: pool([sheet.paper(name, column) for column in columns]) for name in sheet.reported if name not in full}
    first, theirs = _best(ours), _best(papers)
    if first is None or theirs is None:
        return ""
    best = _best(decoded) or first
    what = "decoder" if _best(decoded) else "row"
    verdict = "above" if best[1] > theirs[1] else "not above"
    text = (
        f"Mean over what both have ({escape_markdown(', '.join(column.name for column in columns))}): our best {what}, "
        f"{_write(best)}; the paper's best row, {_write(theirs)}: ours is **{verdict}** it."
    )
    return f"{text} Better still is {_write(first)}." if first[1] > best[1] else text


def _write(row: tuple[str, float]) -> str:
    return f"{escape_markdown(row[0])}, {row[1]:.3f}"


def _best(numbers: Mapping[str, Number | None]) -> tuple[str, float] | None:
    known = {name: number.mean for name, number in numbers.items() if number}
    return max(known.items(), key=lambda item: item[1]) if known else None
