"""Numbers of an experiment's table: the results of each place of the table, and the paper's number for it."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dallme.errors import UnknownNameError
from dallme.experiments import TOKENS, Experiment, Profile
from dallme.experiments.runs import Run, make_runs, name_value

if TYPE_CHECKING:
    from dallme.experiments.rows import Row

#: Separator of the values in a name, as in :meth:`~dallme.experiments.runs.Run.label`.
DOT = " · "

#: Name of the column with the means over the columns, in our tables and in the paper's numbers.
AVERAGE = "average"


def row_names(experiment: Experiment, runs: Sequence[Run], without: Sequence[str] = ()) -> list[str]:
    """Returns the name of each run's row: the label of its grid, or its values along the axes that vary.

    Args:
        experiment: The experiment.
        runs: All runs of the profile.
        without: Axes that the names leave out.
    """
    axes = [axis for axis in experiment.rows if axis not in without]
    names = zip(runs, _short_names(runs, _varying(runs, axes)), _short_names(runs, axes), strict=True)
    return [_label(run, axes, experiment.x) or name or full or experiment.name for run, name, full in names]


def _label(run: Run, axes: Sequence[str], x: str) -> str:
    """Returns the label of the run's grid, with the run's value along `x` if each value has a row."""
    if run.grid.label and x in axes and x in run.values:
        return f"{run.grid.label}{DOT}{name_value(x, run[x])}"
    return run.grid.label


def _varying(runs: Sequence[Run], axes: Sequence[str]) -> list[str]:
    """Returns the axes along which the runs have several values."""
    return [axis for axis in axes if len({run[axis] for run in runs if axis in run.values}) > 1]


def _short_names(runs: Sequence[Run], axes: Sequence[str]) -> list[str]:
    """Returns a name per run from its values, short unless two names have the same short form."""
    names = [run.label(axes) for run in runs]
    short = {name: shorten(name) for name in names}
    uses = Counter(short.values())
    return [short[name] if uses[short[name]] == 1 else name for name in names]


def shorten(name: str) -> str:
    """Shortens each value of a name.

    ``transformer:sentence-transformers/all-MiniLM-L6-v2`` becomes ``transformer (all-MiniLM-L6-v2)``.
    """
    return DOT.join(map(_shorten_value, name.split(DOT)))


def _shorten_value(value: str) -> str:
    value, sign, measure = value.partition(": ")
    part, _, argument = value.partition(":")
    last = argument.rstrip("/").replace("!", "/").rpartition("/")[2]
    return (f"{part} ({last})" if last else value) + sign + measure


@dataclass(frozen=True)
class Number:
    """A mean, with its standard deviation if there is one."""

    mean: float
    deviation: float | None = None


@dataclass(frozen=True)
class Measured:
    """A run with its result; None if it has not been computed."""

    run: Run
    result: Mapping[str, Any] | None

    def number(self, measure: str) -> Number | None:
        """Returns a measure, or None if it is missing; the deviation needs several repetitions."""
        mean = None if self.result is None else self.result.get(measure)
        if self.result is None or mean is None:
            return None
        return Number(mean, self.result.get(f"{measure}_std") if self.result.get("runs", 1) > 1 else None)


@dataclass(frozen=True)
class Column:
    """One column of numbers.

    Attributes:
        name: Heading.
        values: Values that the runs of the column share, as text.
        measure: Measure that the column shows.
        paper: Name of the paper's column that it is compared with, or None.
    """

    name: str
    values: str
    measure: str
    paper: str | None


@dataclass(frozen=True)
class ResultTable:
    """The numbers of an experiment's table, ours and the paper's.

    Attributes:
        head: Heading of the row names.
        rows: Names of our rows, each with the paper's row that it is compared with, or None.
        columns: The columns, without averages.
        places: Row and values of a column to the runs there; several if they differ along other axes.
        reported: Numbers of the paper, by its row and column.
    """

    head: str
    rows: Mapping[str, str | None]
    columns: tuple[Column, ...]
    places: Mapping[tuple[str, str], Sequence[Measured]]
    reported: Mapping[str, Mapping[str, Sequence[float]]]

    def methods(self, row: str) -> set[str]:
        """Returns the methods of a row's runs, without their arguments."""
        return {each.run.part for (name, _), place in self.places.items() if name == row for each in place}

    def ours(self, row: str, column: Column) -> Number | None:
        """Returns the mean over the runs of a place; None unless all of them have the measure."""
        return mean_of(self.places.get((row, column.values), ()), column.measure)

    def paper(self, row: str | None, column: Column | str) -> Number | None:
        """Returns the number in a row and a column of the paper, or None."""
        name = column.paper if isinstance(column, Column) else column
        values = self.reported.get(row or "", {}).get(name or "")
        return Number(*values[:2]) if values else None

    def average_name(self, measure: str) -> str:
        """Returns the heading of the column with the means of a measure."""
        return AVERAGE if len({column.measure for column in self.columns}) == 1 else f"{AVERAGE}: {measure}"

    def averaged(self, measure: str) -> list[Column]:
        """Returns the columns in the average: those that at least half of the rows have, computed or not."""
        return [
            column
            for column in self.columns
            if column.measure == measure
            and 2 * sum((row, column.values) in self.places for row in self.rows) >= len(self.rows)
        ]

    def average(self, row: str, measure: str) -> Number | None:
        """Returns our mean over the averaged columns; None unless the row has all of them."""
        return pool([self.ours(row, column) for column in self.averaged(measure)])

    def paper_average(self, row: str | None, measure: str) -> Number | None:
        """Returns the paper's mean over the averaged columns; if it lacks one, the mean that it reports."""
        columns, name = self.averaged(measure), self.average_name(measure)
        reported = self.paper(row, name)
        same = pool([self.paper(row, column) for column in columns])
        covers_all = {column.paper for column in columns} >= set(self.reported.get(row or "", {})) - {name}
        return reported if same is None or (covers_all and reported) else same

    def tokens(self, row: str) -> Number | None:
        """Returns the mean tokens per text of a row's methods; None unless each of its sets was counted.

        The classifiers of a row share its texts, so one of them suffices.
        """
        counts: dict[str, float | None] = {}
        for (name, _), place in self.places.items():
            for each in place if name == row else ():
                texts = str({axis: value for axis, value in each.run.values.items() if axis != "classifier"})
                number = each.number(TOKENS)
                counts[texts] = number.mean if number else counts.get(texts)
        return pool([None if count is None else Number(count) for count in counts.values()])

    def paper_only(self) -> list[str]:
        """Returns the paper's rows that share a column with ours and that no row of ours is compared with."""
        return [name for name in self.reported if name not in self.rows.values() and self.shares_column(name)]

    def shares_column(self, row: str) -> bool:
        """Returns whether a row of the paper has a number in a column of ours."""
        return any(self.paper(row, column) for column in self.columns)


def pool(numbers: Sequence[Number | None]) -> Number | None:
    """Returns the mean of means; its deviation is the root mean square of theirs, as in the paper's averages.

    The result is None if there are no numbers, or if one of them is None.
    """
    known = [number for number in numbers if number is not None]
    if not known or len(known) < len(numbers):
        return None
    if len(known) == 1:
        return known[0]
    deviations = [number.deviation for number in known if number.deviation is not None]
    deviation = math.sqrt(sum(each**2 for each in deviations) / len(known)) if deviations else None
    return Number(sum(number.mean for number in known) / len(known), deviation)


def mean_of(measured: Sequence[Measured], measure: str) -> Number | None:
    """Returns the mean of a measure over runs; None unless all of them have it."""
    return pool([each.number(measure) for each in measured])


def measure_runs(experiment: Experiment, profile: Profile, rows: Sequence[Row]) -> list[Measured]:
    """Returns the runs of a profile in order, each with the result of the last row of its configuration.

    Results also get the measure ``recovered``, the accuracy as a share of the full data's (section 5.2).
    """
    results = {json.dumps(row.config, sort_keys=True): row.result for row in rows}
    runs = make_runs(experiment, profile)
    measured = [Measured(run, results.get(json.dumps(run.config(), sort_keys=True))) for run in runs]
    full = {
        (each.run["data"], each.run["classifier"]): each.result["accuracy"]
        for each in measured
        if each.run["method"] == "full" and each.result and each.result.get("accuracy")
    }
    return [_add_recovered(each, full.get((each.run["data"], each.run["classifier"]))) for each in measured]


def _add_recovered(measured: Measured, full: float | None) -> Measured:
    result = measured.result
    if result is None or full is None or result.get("accuracy") is None:
        return measured
    deviation = result.get("accuracy_std")
    recovered = {
        "recovered": result["accuracy"] / full,
        "recovered_std": None if deviation is None else deviation / full,
    }
    return Measured(measured.run, {**result, **recovered})


def group_series(
    experiment: Experiment, profile: Profile, rows: Sequence[Row]
) -> dict[str, dict[str, list[Measured]]]:
    """Returns the lines or points of a figure: data set to name to runs.

    The name of the data set is empty if there is only one. The names leave out what the figure's axes show.
    """
    measured = measure_runs(experiment, profile, rows)
    several = len({each.run["data"] for each in measured}) > 1
    without = (experiment.x, *(["data"] if several else []))
    panels: dict[str, dict[str, list[Measured]]] = {}
    names = row_names(experiment, [each.run for each in measured], without)
    for name, each in zip(names, measured, strict=True):
        title = str(each.run["data"]) if several else ""
        panels.setdefault(title, {}).setdefault(name, []).append(each)
    return panels


def make_result_table(experiment: Experiment, profile: Profile, rows: Sequence[Row]) -> ResultTable:
    """Arranges the results of a profile in a table.

    Raises:
        UnknownNameError: If the profile compares a row or a column with one that the paper does not have.
    """
    measured = measure_runs(experiment, profile, rows)
    runs = [each.run for each in measured]
    names, values = row_names(experiment, runs), _short_names(runs, _varying(runs, experiment.columns))
    places: dict[tuple[str, str], list[Measured]] = {}
    for name, value, each in zip(names, values, measured, strict=True):
        places.setdefault((name, value), []).append(each)
    reported = list(experiment.reported)
    return ResultTable(
        head=DOT.join(_varying(runs, experiment.rows) or experiment.rows),
        rows={name: _paper_name(profile.reported_row, name, reported, "row") for name in names},
        columns=_columns(experiment, profile, list(dict.fromkeys(values))),
        places=places,
        reported=experiment.reported,
    )


def _columns(experiment: Experiment, profile: Profile, values: Sequence[str]) -> tuple[Column, ...]:
    reported = list(dict.fromkeys(name for numbers in experiment.reported.values() for name in numbers))
    columns = []
    for value in values:
        for measure in experiment.measures:
            name = value or measure
            if len(experiment.measures) > 1:
                name = f"{value}: {measure}" if len(values) > 1 else measure
            paper = _paper_name(profile.columns, name, reported, "column")
            columns.append(Column(name, value, measure, paper))
    return tuple(columns)


def _paper_name(pairs: Mapping[str, str], name: str, reported: Sequence[str], what: str) -> str | None:
    """Returns the paper's name of a row or column of ours: the profile's, or the same name, or None."""
    names = {shorten(ours): theirs for ours, theirs in pairs.items()} | dict(pairs)
    theirs = names.get(name, name if name in reported else "")
    if theirs and reported and theirs not in reported:
        raise UnknownNameError(f"{what} of the paper for {name!r}", theirs, reported)
    return theirs if theirs in reported else None
