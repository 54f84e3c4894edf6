"""The table of an experiment, from its rows alone: ours, and beside it the paper's."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dallme.experiments.result_table import Column, Number, ResultTable, make_result_table, pool, shorten
from dallme.experiments.runs import Run
from dallme.experiments.spec import AXES, Edition, Experiment
from dallme.registry import names

if TYPE_CHECKING:
    from dallme.experiments.rows import Row

#: What a place says whose cells have not been run.
NOT_RUN = "not run"

#: How numbers are written that are no scores from 0 to 1.
FORMATS = {
    "seconds": "{:,.1f}",
    "price_usd": "${:,.2f}",
    "trained_share": "{:.2%}",
    "bleu": "{:.1f}",
    "learning_rate": "{:g}",
}
FORMATS |= dict.fromkeys(("tokens", "texts", "steps", "runs", "dimension"), "{:,.0f}")


@dataclass(frozen=True)
class Table:
    """A table of texts.

    Attributes:
        head: The names of the columns, the first is that of the rows' names.
        body: The rows, each as long as the head.
        notes: What must be known to read it, a sentence each.
    """

    head: tuple[str, ...]
    body: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()

    def markdown(self) -> str:
        """The table in Markdown, with its notes below it."""
        rows = [list(map(escape_markdown, cells)) for cells in (self.head, *self.body)]
        lines = ["| " + " | ".join(cells) + " |" for cells in (rows[0], ["---"] * len(self.head), *rows[1:])]
        return "\n".join([*lines, *(f"\n{escape_markdown(note)}" for note in self.notes)]) + "\n"

    def html(self) -> str:
        """The table as a piece of HTML that needs nothing else."""
        head = "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in self.head)
        lines = ["<table>", f"<thead><tr>{head}</tr></thead>", "<tbody>"]
        for name, *cells in self.body:
            numbers = "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
            lines.append(f'<tr><th scope="row">{html.escape(name)}</th>{numbers}</tr>')
        lines += ["</tbody>", "</table>", *(f"<p>{html.escape(note)}</p>" for note in self.notes)]
        return "\n".join(lines) + "\n"


def make_table(experiment: Experiment, edition: Edition, rows: Sequence[Row]) -> Table:
    """Makes the table of an edition: our rows in the order of the cells, then what the paper alone has.

    Args:
        experiment: The experiment.
        edition: One of its editions.
        rows: Results; those of other editions are passed over.

    Raises:
        UnknownNameError: If the edition puts a row or a column beside one that the paper does not have.
    """
    return render_table(make_result_table(experiment, edition, rows), experiment)


def render_table(sheet: ResultTable, experiment: Experiment) -> Table:
    """The table of a sheet."""
    averages = experiment.measures if experiment.average else ()
    head = [sheet.head, *(column.name for column in sheet.columns), *map(sheet.average_name, averages)]
    body = []
    for row, paper in sheet.rows.items():
        cells = [
            _beside(_ours(sheet, row, each), sheet.paper(paper, each), each.measure) for each in sheet.columns
        ]
        cells += [
            _beside(_write(sheet.average(row, each), each), sheet.paper_average(paper, each), each)
            for each in averages
        ]
        body.append((row, *cells))
    for paper in sheet.alone():
        cells = [_write(sheet.paper(paper, each), each.measure) for each in sheet.columns]
        cells += [_write(sheet.paper_average(paper, each), each) for each in averages]
        body.append((f"paper: {paper}", *cells))
    return Table(tuple(head), tuple(body), tuple(_notes(sheet, body, averages)))


def format_number(number: Number, measure: str) -> str:
    """A number as the tables write it: scores with three decimals, others as :data:`FORMATS` says."""
    form = FORMATS.get(measure, "{:.3f}")
    if measure == "seconds" and number.mean >= 10:
        form = "{:,.0f}"
    return form.format(number.mean) + (
        f" ± {form.format(number.deviation)}" if number.deviation is not None else ""
    )


def escape_markdown(text: str) -> str:
    """Keeps what a text holds from being read as Markdown or HTML."""
    for sign in "\\`*_[]<>|#&~$":
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split())


def _ours(sheet: ResultTable, row: str, column: Column) -> str:
    found = sheet.places.get((row, column.values), ())
    run = sum(each.result is not None for each in found)
    if run < len(found):
        return f"{run} of {len(found)} run" if run else NOT_RUN
    return _write(sheet.ours(row, column), column.measure) or ("–" if found else "")


def _write(number: Number | None, measure: str) -> str:
    return "" if number is None else format_number(number, measure)


def _beside(ours: str, paper: Number | None, measure: str) -> str:
    return f"{ours} (paper {format_number(paper, measure)})".lstrip() if paper else ours


def _notes(sheet: ResultTable, body: Sequence[Sequence[str]], averages: Sequence[str]) -> list[str]:
    notes = []
    if means := _axes_within(sheet):
        notes.append(f"A number is the mean over: {'; '.join(means)}.")
    if any("±" in cell for cells in body for cell in cells):
        root = "; that of a mean is the root mean square of those behind it" if means or averages else ""
        notes.append(f"Behind ± stands the standard deviation over runs{root}.")
    for measure in averages:
        over = ", ".join(column.name for column in sheet.averaged(measure))
        whose = (
            "; the paper's is over the same columns where it has them all, and else its own"
            if sheet.reported
            else ""
        )
        notes.append(f"The {sheet.average_name(measure)} is over {over}, for rows that have them all{whose}.")
    others = {row: paper for row, paper in sheet.rows.items() if paper not in (None, row)}
    others |= {
        column.name: column.paper for column in sheet.columns if column.paper not in (None, column.name)
    }
    if others:
        notes.append(
            "The paper's beside ours: "
            + "; ".join(f"{paper} beside {ours}" for ours, paper in others.items())
            + "."
        )
    apart = {name: numbers for name, numbers in sheet.reported.items() if not sheet.has_place(name)}
    if apart:
        told = [
            f"{name}: {', '.join(f'{each} {values[0]:g}' for each, values in numbers.items())}"
            for name, numbers in apart.items()
        ]
        notes.append(f"The paper reports what no column here shows: {'; '.join(told)}.")
    return notes


def _axes_within(sheet: ResultTable) -> list[str]:
    """Axes that have several values in one place, each with its values."""
    found: dict[str, dict[str, None]] = {}
    for place in sheet.places.values():
        for axis in AXES:
            values = dict.fromkeys(_value(each.cell, axis) for each in place)
            if len(values) > 1:
                found.setdefault(axis, {}).update(values)
    return [f"{axis} ({', '.join(values)})" for axis, values in found.items()]


def _value(cell: Run, axis: str) -> str:
    return shorten(cell.label([axis])) or "none"


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


def shortfalls(sheet: ResultTable, reasons: Mapping[str, str]) -> list[Shortfall]:
    """The scores of ours that are below the paper's beside them by more than :data:`MARGIN`, in the order of the table.

    Args:
        sheet: The table.
        reasons: As in :class:`~dallme.experiments.spec.Edition`.
    """
    known = {" | ".join(map(shorten, name.split(" | "))): reason for name, reason in reasons.items()} | dict(
        reasons
    )
    found = []
    for row, beside in sheet.rows.items():
        for column in sheet.columns:
            ours, paper = sheet.ours(row, column), sheet.paper(beside, column)
            if column.measure not in FORMATS and ours and paper and paper.mean - ours.mean > MARGIN + 1e-9:
                reason = known.get(f"{row} | {column.name}", known.get(row, ""))
                found.append(Shortfall(row, column, ours, paper, reason))
    return found


def best_rows(sheet: ResultTable, measure: str) -> str:
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
    ours = {
        row: pool([sheet.ours(row, column) for column in columns])
        for row in sheet.rows
        if methods[row] != {"full"}
    }
    decoded = {row: number for row, number in ours.items() if methods[row] <= set(names("decoders"))}
    papers = {
        name: pool([sheet.paper(name, column) for column in columns])
        for name in sheet.reported
        if name not in full
    }
    first, theirs = _best(ours), _best(papers)
    if first is None or theirs is None:
        return ""
    best = _best(decoded) or first
    what = "decoder" if _best(decoded) else "row"
    verdict = "above" if best[1] > theirs[1] else "not above"
    text = (
        f"Mean over what both have ({escape_markdown(', '.join(column.name for column in columns))}): our best {what}, "
        f"{_write_verdicts(best)}; the paper's best row, {_write_verdicts(theirs)}: ours is **{verdict}** it."
    )
    return f"{text} Better still is {_write_verdicts(first)}." if first[1] > best[1] else text


def _write_verdicts(row: tuple[str, float]) -> str:
    return f"{escape_markdown(row[0])}, {row[1]:.3f}"


def _best(numbers: Mapping[str, Number | None]) -> tuple[str, float] | None:
    known = {name: number.mean for name, number in numbers.items() if number}
    return max(known.items(), key=lambda item: item[1]) if known else None
