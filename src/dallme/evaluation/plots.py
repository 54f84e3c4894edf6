"""Pictures for the screen and for print: what all have in common, and the picture of a curve."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dallme.atomic import write_output
from dallme.errors import InputError, MissingDependencyError, OutputError
from dallme.evaluation.curve import Curve, knee

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Endings that :func:`plot_curve` knows, with what must be left out of each so that the same curve gives the same bytes.
FORMATS: dict[str, dict[str, Any]] = {".png": {}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}

#: Colours that people with any colour vision tell apart (Okabe and Ito, 2008); markers and dashes tell them apart in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vPX"
DASHES = ("-", "--", "-.", ":")

#: Share of the width of a panel that a label of its horizontal axis needs.
ROOM = 0.1

#: Values whose largest is more than so many times the smallest are drawn on a logarithmic scale.
WIDE = 20

STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#555555",
    "axes.titlesize": 10,
    "legend.frameon": False,
    "pdf.fonttype": 42,  # text stays text
    "svg.fonttype": "none",
    "svg.hashsalt": "dallme",
}


def check_plot(path: Path) -> None:
    """Checks, before any work, that a picture can be written.

    Raises:
        InputError: If the ending is none of :data:`FORMATS`.
        OutputError: If the folder is not there.
        MissingDependencyError: If matplotlib is not installed.
    """
    if path.suffix.lower() not in FORMATS:
        raise InputError(f"expected a picture that ends in {', '.join(FORMATS)}, found {path.name!r}")
    if not path.parent.is_dir():
        raise OutputError(
            f"expected a folder for the picture, found none at {str(path.parent)!r}; create it first"
        )
    find_matplotlib()


def find_matplotlib() -> None:
    """Checks, before any work, that pictures can be drawn.

    Raises:
        MissingDependencyError: If matplotlib is not installed.
    """
    if find_spec("matplotlib") is None:
        raise MissingDependencyError("drawing a curve", "matplotlib", "plot")


def plot_curve(curve: Curve, path: Path) -> None:
    """Draws accuracy against distillation ratio: one panel a classifier, one line a method, the full data as a dashed line.

    Bands are one standard deviation over sets and runs. A ring marks the knee of each method, which is one for all panels.

    Args:
        curve: What to draw.
        path: Where to; its ending says the format. The file is there whole or not at all.

    Raises:
        InputError, OutputError, MissingDependencyError: As :func:`check_plot`, and if the file cannot be written.
    """
    write_picture(path, lambda: draw(curve))


def write_picture(path: Path, make: Callable[[], Figure]) -> None:
    """Writes the picture that `make` draws, in the style of all pictures; the same picture gives the same bytes.

    Raises:
        InputError, OutputError, MissingDependencyError: As :func:`check_plot`, and if the file cannot be written.
    """
    check_plot(path)
    import matplotlib

    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        kind = path.suffix.lower()
        make().savefig(buffer, format=kind[1:], dpi=200, metadata=FORMATS[kind])
    try:
        write_output(path, buffer.getvalue())
    except OSError as error:
        raise OutputError(
            f"expected to write the picture to {str(path)!r}, could not: {error.strerror or error}"
        ) from error


def draw(curve: Curve) -> Figure:
    """The picture itself, a matplotlib figure that belongs to no window."""
    figure, panels, columns = make_panels(len(curve.full), sharex=True, sharey=True)
    for place, (panel, classifier) in enumerate(zip(panels, curve.full, strict=True)):
        _draw_panel(panel, curve, classifier)
        panel.tick_params(labelbottom=place + columns >= len(curve.full))
        if place % columns == 0:
            panel.set_ylabel("accuracy")
    figure.supxlabel("distillation ratio, and below it the texts in all", fontsize=9)
    draw_legend(figure, panels, 2 * columns)
    return figure


def make_panels(
    count: int, *, columns: int = 3, width: float = 2.9, height: float = 2.6, **options: Any
) -> tuple[Figure, list[Axes], int]:
    """A figure with so many panels of a width and height in inches.

    Args:
        count: Panels.
        columns: Most panels side by side.
        width: Of a panel.
        height: Of a panel.
        options: Of matplotlib's ``Figure.subplots``.

    Returns:
        The figure, which belongs to no window, its panels row by row, and how many are side by side.
    """
    from matplotlib.figure import Figure

    columns = min(columns, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(0.9 + width * columns, 0.9 + height * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, **options).flatten().tolist()
    for panel in panels[count:]:
        panel.remove()
    return figure, panels[:count], columns


def draw_legend(figure: Figure, panels: Sequence[Axes], columns: int) -> None:
    """Puts above the figure what the panels show, each name once, in so many columns at most."""
    found: dict[str, Any] = {}
    for panel in panels:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    if found:
        columns = max(
            1, min(columns, int(figure.get_figwidth() / (0.6 + 0.07 * max(map(len, found)))))
        )  # inches a letter
        figure.legend([*found.values()], [*found], loc="outside upper center", ncols=min(len(found), columns))


def draw_line(
    panel: Axes, place: int, x: np.ndarray, y: np.ndarray, deviation: np.ndarray, label: str
) -> None:
    """Draws the line that has a place among the lines, with a band of one standard deviation."""
    colour = COLOURS[place % len(COLOURS)]
    look: Any = {"marker": MARKERS[place % len(MARKERS)], "linestyle": DASHES[place % len(DASHES)]}
    panel.fill_between(x, y - deviation, y + deviation, color=colour, alpha=0.18, linewidth=0)
    panel.plot(x, y, color=colour, label=label, markersize=4, linewidth=1.5, **look)


def draw_level(panel: Axes, level: float, label: str) -> None:
    """Draws a dashed line across the panel, with its number at the right."""
    panel.axhline(level, color="#444444", linestyle=(0, (5, 3)), linewidth=1, label=label)
    panel.annotate(f"{level:.3f}", (1, level), (-2, 2), xycoords=("axes fraction", "data"), textcoords="offset points",
                   ha="right", va="bottom", fontsize=8, color="#444444")  # fmt: skip


def draw_grid(panel: Axes) -> None:
    """Draws faint lines behind everything else."""
    panel.grid(color="#dddddd", linewidth=0.6)
    panel.set_axisbelow(True)


def thin_labels(labels: Sequence[str], places: np.ndarray) -> list[str]:
    """Labels of an axis at places in rising order; blank where one would run into the one before."""
    width, last, kept = ROOM * (places[-1] - places[0]), -np.inf, []
    for label, place in zip(labels, places, strict=True):
        fits = place - last >= width
        last = place if fits else last
        kept.append(label if fits else "")
    return kept


def is_wide(values: Sequence[float]) -> bool:
    """Whether values call for a logarithmic scale, and can have one."""
    return len(values) > 0 and min(values) > 0 and max(values) > WIDE * min(values)


def _draw_panel(panel: Axes, curve: Curve, classifier: str) -> None:
    ratios = np.array([step.ratio for step in curve.steps])
    rings: list[tuple[float, float]] = []
    for place, method in enumerate(curve.methods):
        scores = curve.scores[method, classifier]
        accuracy = np.array([score.accuracy for score in scores])
        deviation = np.array([score.as_dict()["accuracy_std"] for score in scores])
        draw_line(panel, place, ratios, accuracy, deviation, method)
        if (step := knee(curve, method).step) is not None:
            rings.append((step.ratio, accuracy[curve.steps.index(step)]))
    draw_level(panel, curve.full[classifier].accuracy, "full data")
    if rings:
        x, y = zip(*rings, strict=True)
        panel.scatter(
            x, y, s=90, facecolors="none", edgecolors="#222222", linewidths=1.2, zorder=5, label="knee"
        )
    panel.set_title(classifier)
    panel.set_xscale("log")
    panel.set_xticks(ratios, _tick_labels(curve), fontsize=7)
    panel.set_xticks([], minor=True)
    draw_grid(panel)


def _tick_labels(curve: Curve) -> list[str]:
    """Ratio and texts of each budget; blank where the label would run into the one before."""
    labels = [f"{float(f'{100 * step.ratio:.2g}'):g}%\n{step.texts:,}" for step in curve.steps]
    return thin_labels(labels, np.log([step.ratio for step in curve.steps]))
