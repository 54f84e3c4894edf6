"""The figure of one measure against another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dallme.errors import InputError
from dallme.evaluation.plots import COLOURS, MARKERS, draw_grid, is_wide, make_panels
from dallme.experiments.sheet import group_series, mean_of
from dallme.experiments.spec import Edition, Experiment

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from dallme.experiments.rows import Row

#: Where the name of a point may stand: horizontal and vertical shift in points, and which side of it is at the point.
SPOTS = ((6, 4, "left"), (6, -9, "left"), (-6, 4, "right"), (-6, -9, "right"), (6, 15, "left"), (6, -20, "left"))

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
        raise InputError(f"experiment {experiment.name!r}: expected another measure than {experiment.x!r} to draw, found none")
    panels = group_series(experiment, edition, rows)
    figure, axes, _ = make_panels(len(panels), sharey=True, width=5.4 if len(panels) == 1 else 3.8, height=3.4)
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
