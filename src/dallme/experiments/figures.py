"""Figures of an experiment, drawn from its rows."""

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
from dallme.experiments import AXES, Experiment, Profile
from dallme.experiments.result_table import (
    Measured,
    Number,
    group_series,
    make_result_table,
    mean_of,
    measure_runs,
)
from dallme.experiments.runs import name_value
from dallme.experiments.tables import FORMATS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from dallme.experiments.rows import Row

#: Positions of a point's name: horizontal and vertical shift in points, and the alignment of the name.
POSITIONS = (
    (6, 4, "left"),
    (6, -9, "left"),
    (-6, 4, "right"),
    (-6, -9, "right"),
    (6, 15, "left"),
    (6, -20, "left"),
)

#: Mean width of a letter of a point's name, in points.
LETTER = 4.2

#: Patterns of bars; the next one is used when the colours are used up.
HATCHES = ("", "///", "...", "xxx")


def draw_figure(experiment: Experiment, profile: Profile, rows: Sequence[Row], path: Path) -> None:
    """Writes the figure of a profile; equal rows give equal bytes.

    Args:
        experiment: The experiment, which says the kind of its figure.
        profile: One of its profiles.
        rows: Results; those of other profiles are ignored.
        path: Output file; ``.png``, ``.svg`` or ``.pdf``.

    Raises:
        InputError: If the experiment has no figure, there are no results, or the suffix is another.
        OutputError: If the file cannot be written.
        MissingDependencyError: If matplotlib is not installed.
    """
    if not has_figure(experiment, profile, rows):
        raise InputError(
            f"experiment {experiment.name!r}: expected a figure and results to draw, found none; run it first"
        )
    if experiment.figure == "lines" and experiment.x not in AXES:
        raise UnknownNameError(f"axis x of the lines of {experiment.name!r}", experiment.x, AXES)
    draw = {"lines": draw_lines, "bars": draw_bars, "scatter": draw_scatter}[experiment.figure]
    write_picture(path, lambda: draw(experiment, profile, rows))


def has_figure(experiment: Experiment, profile: Profile, rows: Sequence[Row]) -> bool:
    """Returns whether the experiment has a figure and results to show in it."""
    return bool(experiment.figure) and any(
        each.result is not None for each in measure_runs(experiment, profile, rows)
    )


def draw_lines(experiment: Experiment, profile: Profile, rows: Sequence[Row]) -> Figure:
    """Draws the first measure along an axis: one panel per data set, one line per row.

    A point is the mean over the other axes, such as the classifiers. It is left out until all its runs are
    computed. The full data is a dashed line.
    """
    panels = group_series(experiment, profile, rows)
    runs = [each.run for series in panels.values() for measured in series.values() for each in measured]
    ticks = sorted({run[experiment.x] for run in runs} - {None})
    figure, axes, columns = make_panels(
        len(panels), sharey=True, width=4.8 if len(panels) == 1 else 3.4, height=3.0
    )
    for panel, (title, series) in zip(axes, panels.items(), strict=True):
        for index, (name, measured) in enumerate(series.items()):
            _draw_series(panel, index, name, measured, experiment)
        panel.set_title(title)
        if ticks:
            _set_ticks(panel, experiment.x, ticks)
        draw_grid(panel)
    classifiers = len({run["classifier"] for run in runs})
    suffix = f", mean over {classifiers} classifiers" if classifiers > 1 else ""
    axes[0].set_ylabel(experiment.measures[0] + suffix)
    title = {"ratio": "distillation ratio"}.get(experiment.x, experiment.x.replace("_", " "))
    figure.supxlabel(title, fontsize=9)
    draw_legend(figure, axes, max(4, 2 * columns))
    return figure


def _draw_series(
    panel: Axes, index: int, name: str, measured: Sequence[Measured], experiment: Experiment
) -> None:
    """Draws a line, or a level if the series is of the full data or has no value on the axis."""
    x, measure = experiment.x, experiment.measures[0]
    if all(each.run["method"] == "full" or each.run[x] is None for each in measured):
        if number := mean_of(measured, measure):
            draw_level(panel, number.mean, name)
        return
    points = {}
    for value in sorted({each.run[x] for each in measured}):
        if number := mean_of([each for each in measured if each.run[x] == value], measure):
            points[value] = number
    means = np.array([number.mean for number in points.values()])
    deviations = np.array([number.deviation or 0 for number in points.values()])
    draw_line(panel, index, np.array([*points]), means, deviations, name)


def _set_ticks(panel: Axes, x: str, ticks: Sequence[float]) -> None:
    logarithmic = x == "ratio" or is_wide(ticks)
    if logarithmic:
        panel.set_xscale("log")
    names = [name_value(x, tick) or "0" for tick in ticks]
    panel.set_xticks(ticks, thin_labels(names, np.log(ticks) if logarithmic else np.array(ticks)))
    panel.set_xticks([], minor=True)


def draw_bars(experiment: Experiment, profile: Profile, rows: Sequence[Row]) -> Figure:
    """Draws one panel per measure, a group of bars per column, and a black tick for the paper's number."""
    table = make_result_table(experiment, profile, rows)
    groups = list(dict.fromkeys(column.values for column in table.columns))
    inches = max(4.0, 0.6 + 0.13 * len(groups) * (len(table.rows) + 2))
    figure, axes, _ = make_panels(len(experiment.measures), columns=1, width=inches, height=2.8)
    width = 0.84 / len(table.rows)
    for panel, measure in zip(axes, experiment.measures, strict=True):
        columns = [column for column in table.columns if column.measure == measure]
        heights: list[float] = []
        for index, (row, paper_row) in enumerate(table.rows.items()):
            middle = (index + 0.5) * width - 0.42
            numbers = [(at + middle, table.ours(row, column)) for at, column in enumerate(columns)]
            papers = [(at + middle, table.paper(paper_row, column)) for at, column in enumerate(columns)]
            bars = [(at, number) for at, number in numbers if number]
            levels = [(at, number.mean) for at, number in papers if number]
            _draw_bars(panel, index, row, bars, levels, width)
            heights += [number.mean for _, number in bars] + [mean for _, mean in levels]
        if measure in FORMATS and is_wide(heights):
            panel.set_yscale("log")
            panel.set_ylim(bottom=min(heights) / 3)
        panel.set_xticks(range(len(groups)), [group.replace(" (", "\n(") for group in groups])
        panel.set_ylabel(measure.replace("_", " "))
        draw_grid(panel)
        panel.grid(visible=False, axis="x")
    draw_legend(figure, axes, max(2, round(inches / 1.8)))
    return figure


def _draw_bars(
    panel: Axes,
    index: int,
    row: str,
    bars: Sequence[tuple[float, Number]],
    papers: Sequence[tuple[float, float]],
    width: float,
) -> None:
    """Draws the bars of a row, and the paper's numbers as ticks."""
    colours = COLOURS[:-1]  # black is the paper's
    pattern = HATCHES[index // len(colours) % len(HATCHES)]
    look: Any = {"color": colours[index % len(colours)], "hatch": pattern, "label": row}
    heights = [number.mean for _, number in bars]
    panel.bar([at for at, _ in bars], heights, width, edgecolor="white", linewidth=0.3, **look)
    errors = [(at, number.mean, number.deviation) for at, number in bars if number.deviation is not None]
    if errors:
        at, means, deviations = zip(*errors, strict=True)
        panel.errorbar(at, means, deviations, fmt="none", ecolor="#444444", elinewidth=0.8, capsize=1.5)
    if papers:
        middles = np.array([at for at, _ in papers])
        levels = [mean for _, mean in papers]
        ends = (middles - width / 2, middles + width / 2)
        panel.hlines(levels, *ends, color="#000000", linewidth=1.6, label="the paper")


def draw_scatter(experiment: Experiment, profile: Profile, rows: Sequence[Row]) -> Figure:
    """Draws one panel per data set and one named point per row: the measure `x`, and the first other measure.

    A point is the mean over the runs of a row. It is left out until all of them are computed.

    Raises:
        InputError: If the experiment has no other measure.
    """
    others = [measure for measure in experiment.measures if measure != experiment.x]
    if not others:
        raise InputError(
            f"experiment {experiment.name!r}: "
            f"expected another measure than {experiment.x!r} to draw, found none"
        )
    panels = group_series(experiment, profile, rows)
    figure, axes, _ = make_panels(
        len(panels), sharey=True, width=5.4 if len(panels) == 1 else 3.8, height=3.4
    )
    points: list[dict[str, tuple[float, float]]] = []
    for panel, (title, series) in zip(axes, panels.items(), strict=True):
        points.append({})
        for index, (name, measured) in enumerate(series.items()):
            x, y = mean_of(measured, experiment.x), mean_of(measured, others[0])
            if x and y:
                look: Any = {"color": COLOURS[index % len(COLOURS)], "marker": MARKERS[index % len(MARKERS)]}
                panel.errorbar(x.mean, y.mean, y.deviation, x.deviation, markersize=5, elinewidth=1, **look)
                points[-1][name] = (x.mean, y.mean)
        if is_wide([x for x, _ in points[-1].values()]):
            panel.set_xscale("log")
        panel.margins(x=0.3, y=0.16)
        panel.set_title(title)
        draw_grid(panel)
    axes[0].set_ylabel(others[0].replace("_", " "))
    figure.supxlabel(experiment.x.replace("_", " "), fontsize=9)
    figure.draw_without_rendering()  # sets the final positions of the points
    for panel, named in zip(axes, points, strict=True):
        _name_points(panel, named)
    return figure


def _name_points(panel: Axes, points: Mapping[str, tuple[float, float]]) -> None:
    """Writes each point's name at the position that overlaps least with other names and points."""
    scale = panel.transData.transform
    pixels = {name: scale(point) * 72 / panel.figure.dpi for name, point in points.items()}
    taken = [(x - 3, y - 3, x + 3, y + 3) for x, y in pixels.values()]
    for name, (x, y) in pixels.items():
        boxes = []
        for right, up, side in POSITIONS:
            left = x + right - (0 if side == "left" else LETTER * len(name))
            boxes.append((left, y + up - 1, left + LETTER * len(name), y + up + 8))
        overlaps = [sum(_overlap(box, other) for other in taken) for box in boxes]
        best = overlaps.index(min(overlaps))
        taken.append(boxes[best])
        right, up, side = POSITIONS[best]
        panel.annotate(name, points[name], (right, up), textcoords="offset points", ha=side, fontsize=8)


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
