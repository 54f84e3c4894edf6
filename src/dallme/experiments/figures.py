"""The figure of an experiment, from its rows alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dallme.errors import InputError, UnknownNameError
from dallme.evaluation.plots import (
    COLOURS,
    MARKERS,
    draw_grid,
    draw_legend,
    draw_level,
    draw_line,
    is_wide,
    make_panels,
    thin_labels,
    write_picture,
)
from dallme.experiments.result_table import (
    Measured,
    Number,
    group_series,
    make_result_table,
    mean_of,
    measure_cells,
)
from dallme.experiments.runs import name_value
from dallme.experiments.spec import AXES, Edition, Experiment
from dallme.experiments.tables import FORMATS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from dallme.experiments.rows import Row

#: Where the name of a point may stand: horizontal and vertical shift in points, and which side of it is at the point.
SPOTS = (
    (6, 4, "left"),
    (6, -9, "left"),
    (-6, 4, "right"),
    (-6, -9, "right"),
    (6, 15, "left"),
    (6, -20, "left"),
)

#: Width of a letter of a name, in points.
LETTER = 4.2


def draw_scatter(experiment: Experiment, edition: Edition, rows: Sequence[Row]) -> Figure:
    """One panel a data set, one named point a row of the table: a measure along the figure, the first other one as height.

    A point is the mean over the cells of a row, and left out until all have been run.

    Raises:
        InputError: If the experiment has no other measure.
    """
    others = [measure for measure in experiment.measures if measure != experiment.x]
    if not others:
        raise InputError(
            f"experiment {experiment.name!r}: expected another measure than {experiment.x!r} to draw, found none"
        )
    panels = group_series(experiment, edition, rows)
    figure, axes, _ = make_panels(
        len(panels), sharey=True, width=5.4 if len(panels) == 1 else 3.8, height=3.4
    )
    points: list[dict[str, tuple[float, float]]] = []
    for panel, (title, series) in zip(axes, panels.items(), strict=True):
        points.append({})
        for place, (name, measured) in enumerate(series.items()):
            x, y = mean_of(measured, experiment.x), mean_of(measured, others[0])
            if x and y:
                look: Any = {"color": COLOURS[place % len(COLOURS)], "marker": MARKERS[place % len(MARKERS)]}
                panel.errorbar(x.mean, y.mean, y.deviation, x.deviation, markersize=5, elinewidth=1, **look)
                points[-1][name] = (x.mean, y.mean)
        if is_wide([x for x, _ in points[-1].values()]):
            panel.set_xscale("log")
        panel.margins(x=0.3, y=0.16)
        panel.set_title(title)
        draw_grid(panel)
    axes[0].set_ylabel(others[0].replace("_", " "))
    figure.supxlabel(experiment.x.replace("_", " "), fontsize=9)
    figure.draw_without_rendering()  # only now it is known where the points are
    for panel, named in zip(axes, points, strict=True):
        _name_points(panel, named)
    return figure


def _name_points(panel: Axes, points: Mapping[str, tuple[float, float]]) -> None:
    """Writes the name of each point beside it, where no other name or point stands if there is such a spot."""
    scale = panel.transData.transform
    pixels = {name: scale(point) * 72 / panel.figure.dpi for name, point in points.items()}
    taken = [(x - 3, y - 3, x + 3, y + 3) for x, y in pixels.values()]
    for name, (x, y) in pixels.items():
        boxes = []
        for right, up, side in SPOTS:
            left = x + right - (0 if side == "left" else LETTER * len(name))
            boxes.append((left, y + up - 1, left + LETTER * len(name), y + up + 8))
        clashes = [sum(_overlap(box, other) for other in taken) for box in boxes]
        best = clashes.index(min(clashes))
        taken.append(boxes[best])
        right, up, side = SPOTS[best]
        panel.annotate(name, points[name], (right, up), textcoords="offset points", ha=side, fontsize=8)


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


#: Patterns of bars, for the second round of colours and those after it.
HATCHES = ("", "///", "...", "xxx")


def draw_figure(experiment: Experiment, edition: Edition, rows: Sequence[Row], path: Path) -> None:
    """Writes the figure of an edition; the same rows give the same bytes.

    Args:
        experiment: The experiment, which says the kind of its figure.
        edition: One of its editions.
        rows: Results; those of other editions are passed over.
        path: Where to; ``.png``, ``.svg`` or ``.pdf``.

    Raises:
        InputError: If the experiment has no figure, there is nothing to draw, or the ending is another.
        OutputError: If the file cannot be written.
        MissingDependencyError: If matplotlib is not installed.
    """
    if not has_figure(experiment, edition, rows):
        raise InputError(
            f"experiment {experiment.name!r}: expected a figure and results to draw, found none; run it first"
        )
    if experiment.figure == "lines" and experiment.x not in AXES:
        raise UnknownNameError(f"axis x of the lines of {experiment.name!r}", experiment.x, AXES)
    draw = {"lines": draw_lines, "bars": draw_bars, "scatter": draw_scatter}[experiment.figure]
    write_picture(path, lambda: draw(experiment, edition, rows))


def has_figure(experiment: Experiment, edition: Edition, rows: Sequence[Row]) -> bool:
    """Whether an edition has a figure, and rows that it can show."""
    return bool(experiment.figure) and any(
        found.result is not None for found in measure_cells(experiment, edition, rows)
    )


def draw_lines(experiment: Experiment, edition: Edition, rows: Sequence[Row]) -> Figure:
    """One panel a data set, one line a row of the table: the first measure along an axis, the full data as a dashed line.

    A point is the mean over the other axes, such as the classifiers; it is left out until all its cells have been run.
    """
    panels = group_series(experiment, edition, rows)
    cells = [found.cell for series in panels.values() for measured in series.values() for found in measured]
    places = sorted({cell[experiment.x] for cell in cells} - {None})
    figure, axes, columns = make_panels(
        len(panels), sharey=True, width=4.8 if len(panels) == 1 else 3.4, height=3.0
    )
    for panel, (title, series) in zip(axes, panels.items(), strict=True):
        for place, (name, measured) in enumerate(series.items()):
            _draw_series(panel, place, name, measured, experiment)
        panel.set_title(title)
        if places:
            _mark_places(panel, experiment.x, places)
        draw_grid(panel)
    classifiers = len({cell["classifier"] for cell in cells})
    axes[0].set_ylabel(
        experiment.measures[0] + (f", mean over {classifiers} classifiers" if classifiers > 1 else "")
    )
    figure.supxlabel(
        {"ratio": "distillation ratio"}.get(experiment.x, experiment.x.replace("_", " ")), fontsize=9
    )
    draw_legend(figure, axes, max(4, 2 * columns))
    return figure


def draw_bars(experiment: Experiment, edition: Edition, rows: Sequence[Row]) -> Figure:
    """One panel a measure, one group of bars a column of the table, one bar a row; a black tick is the paper's number."""
    sheet = make_result_table(experiment, edition, rows)
    groups = list(dict.fromkeys(column.values for column in sheet.columns))
    inches = max(4.0, 0.6 + 0.13 * len(groups) * (len(sheet.rows) + 2))
    figure, axes, _ = make_panels(len(experiment.measures), columns=1, width=inches, height=2.8)
    width = 0.84 / len(sheet.rows)
    for panel, measure in zip(axes, experiment.measures, strict=True):
        columns = [column for column in sheet.columns if column.measure == measure]
        heights: list[float] = []
        for place, row in enumerate(sheet.rows):
            middle = (place + 0.5) * width - 0.42
            found = [
                (at + middle, number) for at, each in enumerate(columns) if (number := sheet.ours(row, each))
            ]
            papers = [(at + middle, number.mean) for at, each in enumerate(columns)
                      if (number := sheet.paper(sheet.rows[row], each))]  # fmt: skip
            _draw_bars(panel, place, row, found, papers, width)
            heights += [number.mean for _, number in found] + [mean for _, mean in papers]
        if measure in FORMATS and is_wide(heights):
            panel.set_yscale("log")
            panel.set_ylim(bottom=min(heights) / 3)
        panel.set_xticks(range(len(groups)), [group.replace(" (", "\n(") for group in groups])
        panel.set_ylabel(measure.replace("_", " "))
        draw_grid(panel)
        panel.grid(visible=False, axis="x")
    draw_legend(figure, axes, max(2, round(inches / 1.8)))
    return figure


def _draw_series(
    panel: Axes, place: int, name: str, measured: Sequence[Measured], experiment: Experiment
) -> None:
    """Draws a line, or a level if it is of the full data or nowhere along the axis."""
    x, measure = experiment.x, experiment.measures[0]
    if all(found.cell["method"] == "full" or found.cell[x] is None for found in measured):
        if number := mean_of(measured, measure):
            draw_level(panel, number.mean, name)
        return
    places = sorted({found.cell[x] for found in measured})
    numbers = {at: mean_of([found for found in measured if found.cell[x] == at], measure) for at in places}
    known = {at: number for at, number in numbers.items() if number}
    means = np.array([number.mean for number in known.values()])
    draw_line(
        panel,
        place,
        np.array([*known]),
        means,
        np.array([number.deviation or 0 for number in known.values()]),
        name,
    )


def _mark_places(panel: Axes, x: str, places: Sequence[float]) -> None:
    logarithmic = x == "ratio" or is_wide(places)
    if logarithmic:
        panel.set_xscale("log")
    labels = thin_labels(
        [name_value(x, place) or "0" for place in places], np.log(places) if logarithmic else np.array(places)
    )
    panel.set_xticks(places, labels)
    panel.set_xticks([], minor=True)


def _draw_bars(
    panel: Axes,
    place: int,
    row: str,
    found: Sequence[tuple[float, Number]],
    papers: Sequence[tuple[float, float]],
    width: float,
) -> None:
    """Draws the bars of a row, and the paper's numbers beside them."""
    colours = COLOURS[:-1]  # black is the paper's
    pattern = HATCHES[place // len(colours) % len(HATCHES)]
    look: Any = {"color": colours[place % len(colours)], "hatch": pattern, "label": row}
    heights = [number.mean for _, number in found]
    panel.bar([at for at, _ in found], heights, width, edgecolor="white", linewidth=0.3, **look)
    spread = [(at, number.mean, number.deviation) for at, number in found if number.deviation is not None]
    if spread:
        at, means, deviations = zip(*spread, strict=True)
        panel.errorbar(at, means, deviations, fmt="none", ecolor="#444444", elinewidth=0.8, capsize=1.5)
    if papers:
        middles = np.array([at for at, _ in papers])
        levels = [mean for _, mean in papers]
        panel.hlines(
            levels,
            middles - width / 2,
            middles + width / 2,
            color="#000000",
            linewidth=1.6,
            label="the paper",
        )
