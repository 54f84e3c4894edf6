"""The numbers of a table: the results behind each place of it, and what the paper has there."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dallme.errors import UnknownNameError
from dallme.experiments.runs import Run, make_cells, name_value
from dallme.experiments.spec import Edition, Experiment

if TYPE_CHECKING:
    from dallme.experiments.rows import Row

#: What stands between the values of a name; as :meth:`~dallme.experiments.runs.Run.label` puts it.
DOT = " · "


def row_names(experiment: Experiment, cells: Sequence[Run], without: Sequence[str] = ()) -> list[str]:
    """What the rows of some cells are called: the label of the grid, or the values of the axes that have several in the edition.

    Args:
        experiment: The experiment.
        cells: All cells of the edition.
        without: Axes that the names leave out.
    """
    axes = [axis for axis in experiment.rows if axis not in without]
    named = zip(cells, _names(cells, axes), _names(cells, axes, constant=True), strict=True)
    return [
        _labelled(cell, axes, experiment.x) or name or full or experiment.name for cell, name, full in named
    ]


def column_names(experiment: Experiment, cells: Sequence[Run]) -> list[str]:
    """What the columns of some cells are called, from the axes that have several values; empty if none has."""
    return _names(cells, experiment.columns)


def row_head(experiment: Experiment, cells: Sequence[Run]) -> str:
    """What the column of the rows' names is called: the axes in them."""
    return DOT.join(_varying(cells, experiment.rows) or experiment.rows)


def shorten(name: str) -> str:
    """``transformer:sentence-transformers/all-MiniLM-L6-v2`` as ``transformer (all-MiniLM-L6-v2)``, in any of a name's values."""
    return DOT.join(map(_shorten_value, name.split(DOT)))


def _shorten_value(value: str) -> str:
    value, sign, measure = value.partition(": ")
    part, _, argument = value.partition(":")
    last = argument.rstrip("/").replace("!", "/").rpartition("/")[2]
    return (f"{part} ({last})" if last else value) + sign + measure


def _labelled(cell: Run, axes: Sequence[str], x: str) -> str:
    """The label of the cell's grid, with its place in the figure where that is a row of its own; empty if it has none."""
    if cell.grid.label and x in axes and x in cell.values:
        return f"{cell.grid.label}{DOT}{name_value(x, cell[x])}"
    return cell.grid.label


def _varying(cells: Sequence[Run], axes: Sequence[str]) -> list[str]:
    return [axis for axis in axes if len({cell[axis] for cell in cells if axis in cell.values}) > 1]


def _names(cells: Sequence[Run], axes: Sequence[str], *, constant: bool = False) -> list[str]:
    """A name for each cell from its values, as short as it can be while different values have different names."""
    long = [cell.label(axes if constant else _varying(cells, axes)) for cell in cells]
    short = {name: shorten(name) for name in long}
    taken = Counter(short.values())
    return [short[name] if taken[short[name]] == 1 else name for name in long]


#: What the mean over the columns is called, in our tables and among what the paper reports.
AVERAGE = "average"


@dataclass(frozen=True)
class Number:
    """A mean, and its standard deviation where there is one."""

    mean: float
    deviation: float | None = None


@dataclass(frozen=True)
class Measured:
    """A cell and its result, or None where it has not been run."""

    cell: Run
    result: Mapping[str, Any] | None

    def number(self, measure: str) -> Number | None:
        """A measure of the result, or None where there is none; a deviation needs several runs."""
        mean = None if self.result is None else self.result.get(measure)
        if self.result is None or mean is None:
            return None
        return Number(mean, self.result.get(f"{measure}_std") if self.result.get("runs", 1) > 1 else None)


@dataclass(frozen=True)
class Column:
    """One column of numbers.

    Attributes:
        name: What its head says.
        values: What the cells in it have in common.
        measure: The measure that it shows.
        paper: The paper's column of the same, or None.
    """

    name: str
    values: str
    measure: str
    paper: str | None


@dataclass(frozen=True)
class ResultTable:
    """A table in numbers.

    Attributes:
        head: What the rows are.
        rows: Name of each row to the paper's row that stands beside it, or None.
        columns: The columns, without averages.
        places: Row and values of a column to the cells that are there; several where other axes have several values.
        reported: What the paper reports, by its row and column.
    """

    head: str
    rows: Mapping[str, str | None]
    columns: tuple[Column, ...]
    places: Mapping[tuple[str, str], Sequence[Measured]]
    reported: Mapping[str, Mapping[str, Sequence[float]]]

    def methods(self, row: str) -> set[str]:
        """The methods of the cells of a row, without their arguments."""
        cells = [found.cell for (name, _), place in self.places.items() if name == row for found in place]
        return {str(cell["method"]).partition(":")[0] for cell in cells}

    def ours(self, row: str, column: Column) -> Number | None:
        """Our number: the mean over the cells of a place; None unless all of them have it."""
        return mean_of(self.places.get((row, column.values), ()), column.measure)

    def paper(self, name: str | None, column: Column | str) -> Number | None:
        """The number in a row and a column of the paper's, or None."""
        place = column.paper if isinstance(column, Column) else column
        values = self.reported.get(name or "", {}).get(place or "")
        return Number(*values[:2]) if values else None

    def average_name(self, measure: str) -> str:
        """What the column of the means over the columns of a measure is called."""
        return AVERAGE if len({column.measure for column in self.columns}) == 1 else f"{AVERAGE}: {measure}"

    def averaged(self, measure: str) -> list[Column]:
        """The columns of a measure that averages are over: those that at least half of the rows have, run or not."""
        columns = [column for column in self.columns if column.measure == measure]
        return [
            each
            for each in columns
            if 2 * sum((row, each.values) in self.places for row in self.rows) >= len(self.rows)
        ]

    def average(self, row: str, measure: str) -> Number | None:
        """Our mean over the averaged columns, or None unless the row has them all."""
        return pool([self.ours(row, column) for column in self.averaged(measure)])

    def paper_average(self, name: str | None, measure: str) -> Number | None:
        """The paper's mean over the averaged columns, if it has them all; else the one that it reports, or None."""
        columns = self.averaged(measure)
        own = self.paper(name, self.average_name(measure))
        same = pool([self.paper(name, column) for column in columns])
        covered = {column.paper for column in columns} >= set(self.reported.get(name or "", {})) - {
            self.average_name(measure)
        }
        return own if same is None or (covered and own) else same

    def alone(self) -> list[str]:
        """Rows of the paper's that have a number in a column of ours and no row of ours beside them."""
        return [name for name in self.reported if name not in self.rows.values() and self.has_place(name)]

    def has_place(self, name: str) -> bool:
        """Whether a row of the paper's has a number in a column of ours."""
        return any(self.paper(name, column) for column in self.columns)


def pool(numbers: Sequence[Number | None]) -> Number | None:
    """The mean of several means; its deviation is the root mean square of theirs, which is how the paper's averages have it.

    Returns:
        None if there are no numbers, or one of them is None.
    """
    known = [number for number in numbers if number is not None]
    if not known or len(known) < len(numbers):
        return None
    if len(known) == 1:
        return known[0]
    deviations = [number.deviation for number in known if number.deviation is not None]
    spread = math.sqrt(sum(each**2 for each in deviations) / len(known)) if deviations else None
    return Number(sum(number.mean for number in known) / len(known), spread)


def measure_cells(experiment: Experiment, edition: Edition, rows: Sequence[Row]) -> list[Measured]:
    """The cells of an edition in their order, each with the result of the last row of its configuration.

    To a result is added, as ``recovered``, its accuracy as a share of the full data's where that has been run: the recovered
    accuracy of section 5.2.
    """
    results = {json.dumps(row.config, sort_keys=True): row.result for row in rows}
    cells = make_cells(experiment, edition)
    measured = [Measured(cell, results.get(json.dumps(cell.config(), sort_keys=True))) for cell in cells]
    full = {
        (found.cell["data"], found.cell["classifier"]): found.result["accuracy"]
        for found in measured
        if found.cell["method"] == "full" and found.result and found.result.get("accuracy")
    }
    return [
        _with_recovered(found, full.get((found.cell["data"], found.cell["classifier"]))) for found in measured
    ]


def _with_recovered(measured: Measured, full: float | None) -> Measured:
    """The same with its accuracy as a share of the full data's; as it is where one of the two is missing."""
    result = measured.result
    if result is None or full is None or result.get("accuracy") is None:
        return measured
    spread = result.get("accuracy_std")
    recovered = {
        "recovered": result["accuracy"] / full,
        "recovered_std": None if spread is None else spread / full,
    }
    return Measured(measured.cell, {**result, **recovered})


def mean_of(measured: Sequence[Measured], measure: str) -> Number | None:
    """The mean of a measure over some cells; None unless all of them have it."""
    return pool([found.number(measure) for found in measured])


def group_series(
    experiment: Experiment, edition: Edition, rows: Sequence[Row]
) -> dict[str, dict[str, list[Measured]]]:
    """What the lines or points of a figure stand for.

    Returns:
        Data set to name to cells; if there is one data set, its name is empty. Names leave out what the figure shows otherwise.
    """
    measured = measure_cells(experiment, edition, rows)
    several = len({found.cell["data"] for found in measured}) > 1
    names = row_names(
        experiment, [found.cell for found in measured], (experiment.x, *(["data"] if several else []))
    )
    panels: dict[str, dict[str, list[Measured]]] = {}
    for name, found in zip(names, measured, strict=True):
        title = str(found.cell["data"]) if several else ""
        panels.setdefault(title, {}).setdefault(name, []).append(found)
    return panels


def make_result_table(experiment: Experiment, edition: Edition, rows: Sequence[Row]) -> ResultTable:
    """Puts the results of an edition where its table has them.

    Raises:
        UnknownNameError: If the edition puts a row or a column beside one that the paper does not have.
    """
    measured = measure_cells(experiment, edition, rows)
    cells = [found.cell for found in measured]
    names, values = row_names(experiment, cells), column_names(experiment, cells)
    places: dict[tuple[str, str], list[Measured]] = {}
    for name, value, found in zip(names, values, measured, strict=True):
        places.setdefault((name, value), []).append(found)
    return ResultTable(
        head=row_head(experiment, cells),
        rows={name: _beside(edition.beside, name, list(experiment.reported), "row") for name in names},
        columns=_columns(experiment, edition, list(dict.fromkeys(values))),
        places=places,
        reported=experiment.reported,
    )


def _columns(experiment: Experiment, edition: Edition, values: Sequence[str]) -> tuple[Column, ...]:
    known = list(dict.fromkeys(column for numbers in experiment.reported.values() for column in numbers))
    columns = []
    for value in values:
        for measure in experiment.measures:
            name = value or measure
            if len(experiment.measures) > 1:
                name = f"{value}: {measure}" if len(values) > 1 else measure
            columns.append(Column(name, value, measure, _beside(edition.columns, name, known, "column")))
    return tuple(columns)


def _beside(pairs: Mapping[str, str], name: str, known: Sequence[str], what: str) -> str | None:
    """The paper's name of what we call `name`, from the pairs of an edition, or the same; None if it has none."""
    named = {shorten(ours): theirs for ours, theirs in pairs.items()} | dict(pairs)
    theirs = named.get(name, name if name in known else "")
    if theirs and known and theirs not in known:
        raise UnknownNameError(f"{what} of the paper beside {name!r}", theirs, known)
    return theirs if theirs in known else None
