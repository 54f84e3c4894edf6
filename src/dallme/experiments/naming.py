"""What the rows and columns of a table are called: as short as it can be, and different where they differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from dallme.experiments.cells import Cell, name_value
from dallme.experiments.spec import Experiment

#: What stands between the values of a name; as :meth:`~dallme.experiments.cells.Cell.label` puts it.
DOT = " · "


def row_names(experiment: Experiment, cells: Sequence[Cell], without: Sequence[str] = ()) -> list[str]:
    """What the rows of some cells are called: the label of the grid, or the values of the axes that have several in the edition.

    Args:
        experiment: The experiment.
        cells: All cells of the edition.
        without: Axes that the names leave out.
    """
    axes = [axis for axis in experiment.rows if axis not in without]
    named = zip(cells, _names(cells, axes), _names(cells, axes, constant=True), strict=True)
    return [_labelled(cell, axes, experiment.x) or name or full or experiment.name for cell, name, full in named]


def column_names(experiment: Experiment, cells: Sequence[Cell]) -> list[str]:
    """What the columns of some cells are called, from the axes that have several values; empty if none has."""
    return _names(cells, experiment.columns)


def row_head(experiment: Experiment, cells: Sequence[Cell]) -> str:
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


def _labelled(cell: Cell, axes: Sequence[str], x: str) -> str:
    """The label of the cell's grid, with its place in the figure where that is a row of its own; empty if it has none."""
    if cell.grid.label and x in axes and x in cell.values:
        return f"{cell.grid.label}{DOT}{name_value(x, cell[x])}"
    return cell.grid.label


def _varying(cells: Sequence[Cell], axes: Sequence[str]) -> list[str]:
    return [axis for axis in axes if len({cell[axis] for cell in cells if axis in cell.values}) > 1]


def _names(cells: Sequence[Cell], axes: Sequence[str], *, constant: bool = False) -> list[str]:
    """A name for each cell from its values, as short as it can be while different values have different names."""
    long = [cell.label(axes if constant else _varying(cells, axes)) for cell in cells]
    short = {name: shorten(name) for name in long}
    taken = Counter(short.values())
    return [short[name] if taken[short[name]] == 1 else name for name in long]
