"""Tables of an experiment, rendered from its rows: our numbers, each with the paper's number in brackets."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dallme.experiments import AXES, TOKENS, Experiment, Profile
from dallme.experiments.result_table import Column, Number, ResultTable, make_result_table, pool, shorten
from dallme.registry import names

if TYPE_CHECKING:
    from dallme.experiments.rows import Row

#: Text of a place whose runs have not been computed.
NOT_RUN = "not run"

#: Difference from which a number below the paper's is reported.
MARGIN = 0.01

#: Formats of measures that are not scores from 0 to 1.
FORMATS = {
    "seconds": "{:,.1f}",
    "price_usd": "${:,.2f}",
    "trained_share": "{:.2%}",
    "bleu": "{:.1f}",
    "learning_rate": "{:g}",
} | dict.fromkeys(("tokens", TOKENS, "texts", "steps", "runs", "dimension"), "{:,.0f}")


@dataclass(frozen=True)
class Table:
    """A table of texts.

    Attributes:
        head: Headings; the first is that of the row names.
        body: Rows, each as long as the head.
        notes: Sentences that explain the table.
    """

    head: tuple[str, ...]
    body: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()

    def markdown(self) -> str:
        """Returns the table in Markdown, with its notes below."""
        rows = [list(map(escape_markdown, row)) for row in (self.head, *self.body)]
        lines = ["| " + " | ".join(row) + " |" for row in (rows[0], ["---"] * len(self.head), *rows[1:])]
        return "\n".join([*lines, *(f"\n{escape_markdown(note)}" for note in self.notes)]) + "\n"

    def html(self) -> str:
        """Returns the table as an HTML fragment."""
        head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in self.head)
        lines = ["<table>", f"<thead><tr>{head}</tr></thead>", "<tbody>"]
        for name, *numbers in self.body:
            row = "".join(f"<td>{html.escape(number)}</td>" for number in numbers)
            lines.append(f'<tr><th scope="row">{html.escape(name)}</th>{row}</tr>')
        lines += ["</tbody>", "</table>", *(f"<p>{html.escape(note)}</p>" for note in self.notes)]
        return "\n".join(lines) + "\n"


def make_table(experiment: Experiment, profile: Profile, rows: Sequence[Row]) -> Table:
    """Makes the table of a profile: our rows in the order of the runs, then rows that only the paper has.

    Args:
        experiment: The experiment.
        profile: One of its profiles.
        rows: Results; those of other profiles are ignored.

    Raises:
        UnknownNameError: If the profile compares a row or a column with one that the paper does not have.
    """
    return render_table(make_result_table(experiment, profile, rows), experiment)


def render_table(table: ResultTable, experiment: Experiment) -> Table:
    """Formats the numbers of a table."""
    averages = experiment.measures if experiment.average else ()
    head = [table.head, *(column.name for column in table.columns), *map(table.average_name, averages)]
    counted = any(table.tokens(row) for row in table.rows)
    if counted:
        head.append("tokens a text")
    body = []
    for row, paper in table.rows.items():
        cells = [
            _with_paper(_ours(table, row, column), table.paper(paper, column), column.measure)
            for column in table.columns
        ]
        cells += [
            _with_paper(
                _format(table.average(row, measure), measure), table.paper_average(paper, measure), measure
            )
            for measure in averages
        ]
        body.append((row, *cells, *([_format(table.tokens(row), TOKENS)] if counted else [])))
    for paper in table.paper_only():
        cells = [_format(table.paper(paper, column), column.measure) for column in table.columns]
        cells += [_format(table.paper_average(paper, measure), measure) for measure in averages]
        body.append((f"paper: {paper}", *cells, *([""] if counted else [])))
    notes = _notes(table, body, averages)
    if counted:
        notes.append("Tokens are words and punctuation marks, on average over the texts of the first set.")
    return Table(tuple(head), tuple(body), tuple(notes))


def format_number(number: Number, measure: str) -> str:
    """Formats a number: scores with three decimals, other measures as in :data:`FORMATS`."""
    form = FORMATS.get(measure, "{:.3f}")
    if measure == "seconds" and number.mean >= 10:
        form = "{:,.0f}"
    deviation = "" if number.deviation is None else f" ± {form.format(number.deviation)}"
    return form.format(number.mean) + deviation


def escape_markdown(text: str) -> str:
    """Escapes characters that Markdown or HTML would interpret."""
    for sign in "\\`*_[]<>|#&~$":
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split())


def _ours(table: ResultTable, row: str, column: Column) -> str:
    place = table.places.get((row, column.values), ())
    computed = sum(each.result is not None for each in place)
    if computed < len(place):
        return f"{computed} of {len(place)} run" if computed else NOT_RUN
    return _format(table.ours(row, column), column.measure) or ("–" if place else "")


def _format(number: Number | None, measure: str) -> str:
    return "" if number is None else format_number(number, measure)


def _with_paper(ours: str, paper: Number | None, measure: str) -> str:
    return f"{ours} (paper {format_number(paper, measure)})".lstrip() if paper else ours


def _notes(table: ResultTable, body: Sequence[Sequence[str]], averages: Sequence[str]) -> list[str]:
    notes = []
    if inner := _inner_axes(table):
        notes.append(f"Each number is the mean over: {'; '.join(inner)}.")
    if any("±" in cell for row in body for cell in row):
        pooled = "; for a mean, the root mean square of the deviations" if inner or averages else ""
        notes.append(f"± is the standard deviation over repetitions{pooled}.")
    for measure in averages:
        columns = ", ".join(column.name for column in table.averaged(measure))
        name = table.average_name(measure)
        notes.append(f"The {name} covers {columns}, for rows that have all of them.")
        if table.reported:
            notes.append(f"The paper's {name} covers the same columns, or is its own if it lacks one.")
    renamed = {row: paper for row, paper in table.rows.items() if paper not in (None, row)}
    renamed |= {
        column.name: column.paper for column in table.columns if column.paper not in (None, column.name)
    }
    if renamed:
        pairs = "; ".join(f"{ours} with {paper}" for ours, paper in renamed.items())
        notes.append(f"Compared with the paper: {pairs}.")
    apart = [
        f"{name}: {', '.join(f'{column} {values[0]:g}' for column, values in numbers.items())}"
        for name, numbers in table.reported.items()
        if not table.shares_column(name)
    ]
    if apart:
        notes.append(f"The paper also reports, without a column here: {'; '.join(apart)}.")
    return notes


def _inner_axes(table: ResultTable) -> list[str]:
    """Returns the axes that have several values in one place, each with its values."""
    axes: dict[str, dict[str, None]] = {}
    for place in table.places.values():
        for axis in AXES:
            values = dict.fromkeys(shorten(each.run.label([axis])) or "none" for each in place)
            if len(values) > 1:
                axes.setdefault(axis, {}).update(values)
    return [f"{axis} ({', '.join(values)})" for axis, values in axes.items()]


@dataclass(frozen=True)
class Shortfall:
    """A number of ours that is below the paper's.

    Attributes:
        row: Our row.
        column: Our column.
        ours: Our number.
        paper: The paper's number.
        reason: A sentence that explains the difference, or empty.
    """

    row: str
    column: Column
    ours: Number
    paper: Number
    reason: str

    def markdown(self) -> str:
        """Returns the shortfall as a sentence."""
        ours, paper = (format_number(number, self.column.measure) for number in (self.ours, self.paper))
        less = format_number(Number(self.paper.mean - self.ours.mean), self.column.measure)
        name, column = escape_markdown(self.row), escape_markdown(self.column.name)
        return f"**{name}**, {column}: {ours}, the paper {paper}: {less} less. {self.reason}".rstrip()


def shortfalls(table: ResultTable, reasons: Mapping[str, str]) -> list[Shortfall]:
    """Returns our scores that are below the paper's by more than :data:`MARGIN`, in the order of the table.

    Args:
        table: The table.
        reasons: Explanations, as in :class:`~dallme.experiments.Profile`.
    """
    short = {" | ".join(map(shorten, name.split(" | "))): reason for name, reason in reasons.items()}
    known = short | dict(reasons)
    lower = []
    for row, paper_row in table.rows.items():
        for column in table.columns:
            ours, paper = table.ours(row, column), table.paper(paper_row, column)
            if column.measure not in FORMATS and ours and paper and paper.mean - ours.mean > MARGIN + 1e-9:
                reason = known.get(f"{row} | {column.name}", known.get(row, ""))
                lower.append(Shortfall(row, column, ours, paper, reason))
    return lower


def best_rows(table: ResultTable, measure: str) -> str:
    """Compares our best row with the paper's by their means over the averaged columns that both have.

    Our best row is that of a decoder if there is one; a better row of another method is mentioned as well.
    Rows of the full data are left out.

    Returns:
        One or two sentences in Markdown; empty if no row of ours, or of the paper's, has all these columns.
    """
    reported = {column for numbers in table.reported.values() for column in numbers}
    columns = [column for column in table.averaged(measure) if column.paper in reported]
    methods = {row: table.methods(row) for row in table.rows}
    full = {table.rows[row] for row in table.rows if methods[row] == {"full"}}
    full |= {name for name in table.reported if name.lower().startswith("full")}
    ours = {
        row: pool([table.ours(row, column) for column in columns])
        for row in table.rows
        if methods[row] != {"full"}
    }
    decoders = {row: number for row, number in ours.items() if methods[row] <= set(names("decoders"))}
    papers = {
        name: pool([table.paper(name, column) for column in columns])
        for name in table.reported
        if name not in full
    }
    best, paper, decoder = _best(ours), _best(papers), _best(decoders)
    if best is None or paper is None:
        return ""
    shown, what = (decoder, "decoder") if decoder else (best, "row")
    verdict = "above" if shown[1] > paper[1] else "not above"
    covered = ", ".join(each.name for each in columns)
    text = (
        f"Mean over the columns that both have ({escape_markdown(covered)}): "
        f"our best {what}, {_named(shown)}; the paper's best row, {_named(paper)}: ours is **{verdict}** it."
    )
    return f"{text} The best row of all is {_named(best)}." if best[1] > shown[1] else text


def _named(row: tuple[str, float]) -> str:
    return f"{escape_markdown(row[0])}, {row[1]:.3f}"


def _best(numbers: Mapping[str, Number | None]) -> tuple[str, float] | None:
    means = {name: number.mean for name, number in numbers.items() if number}
    return max(means.items(), key=lambda item: item[1]) if means else None
