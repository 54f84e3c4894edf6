"""Figures: shared style and helpers, and the figure of a curve."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dallme.errors import InputError, MissingDependencyError, OutputError
from dallme.evaluation.curve import Curve
from dallme.files.atomic import write_output

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: File suffix to the metadata left out of it, so that the same figure gives the same bytes.
FORMATS: dict[str, dict[str, Any]] = {".png": {}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}

#: Colours for any colour vision (Okabe and Ito, 2008); markers and dashes tell lines apart in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vPX"
DASHES = ("-", "--", "-.", ":")

#: Width of a tick label as a share of the axis.
LABEL_WIDTH = 0.1

#: Ratio of the largest to the smallest value above which a scale is logarithmic.
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
    """Checks that a figure can be written.

    Raises:
        InputError: If the suffix is none of :data:`FORMATS`.
        OutputError: If the folder does not exist.
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
    """Checks that matplotlib is there.

    Raises:
        MissingDependencyError: If matplotlib is not installed.
    """
    if find_spec("matplotlib") is None:
        raise MissingDependencyError("drawing a curve", "matplotlib", "plot")


def plot_curve(curve: Curve, path: Path) -> None:
    """Writes a figure of accuracy against distillation ratio: one panel per classifier, one line per method.

    Bands are one standard deviation over sets and runs. A dashed line is the full data; a ring marks the knee
    of a method, which is the same in all panels.

    Args:
        curve: The curve.
        path: File to write atomically; its suffix is the format.

    Raises:
        InputError, OutputError, MissingDependencyError: As :func:`check_plot`, and if the file cannot be
            written.
    """
    write_picture(path, lambda: draw(curve))


def write_picture(path: Path, make: Callable[[], Figure]) -> None:
    """Writes the figure that `make` draws, in the shared style; the same figure gives the same bytes.

    Raises:
        InputError, OutputError, MissingDependencyError: As :func:`check_plot`, and if the file cannot be
            written.
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
    """Draws the figure of a curve, without a window."""
    figure, panels, columns = make_panels(len(curve.full), sharex=True, sharey=True)
    for index, (panel, classifier) in enumerate(zip(panels, curve.full, strict=True)):
        _draw_panel(panel, curve, classifier)
        panel.tick_params(labelbottom=index + columns >= len(curve.full))
        if index % columns == 0:
            panel.set_ylabel("accuracy")
    figure.supxlabel("distillation ratio, and below it the texts in all", fontsize=9)
    draw_legend(figure, panels, 2 * columns)
    return figure


def make_panels(
    count: int, *, columns: int = 3, width: float = 2.9, height: float = 2.6, **options: Any
) -> tuple[Figure, list[Axes], int]:
    """Makes a figure without a window.

    Args:
        count: Number of panels.
        columns: Maximum number of panels side by side.
        width: Width of a panel in inches.
        height: Height of a panel in inches.
        options: Options of matplotlib's ``Figure.subplots``.

    Returns:
        The figure, its panels row by row, and the number of columns.
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
    """Draws one legend of all panels above the figure, in at most that many columns."""
    handles: dict[str, Any] = {}
    for panel in panels:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    if handles:
        inches = 0.6 + 0.07 * max(map(len, handles))  # of the widest entry
        columns = min(len(handles), columns, max(1, int(figure.get_figwidth() / inches)))
        figure.legend([*handles.values()], [*handles], loc="outside upper center", ncols=columns)


def draw_line(
    panel: Axes, index: int, x: np.ndarray, y: np.ndarray, deviation: np.ndarray, label: str
) -> None:
    """Draws line number `index` with a band of one standard deviation."""
    colour = COLOURS[index % len(COLOURS)]
    look: Any = {"marker": MARKERS[index % len(MARKERS)], "linestyle": DASHES[index % len(DASHES)]}
    panel.fill_between(x, y - deviation, y + deviation, color=colour, alpha=0.18, linewidth=0)
    panel.plot(x, y, color=colour, label=label, markersize=4, linewidth=1.5, **look)


def draw_level(panel: Axes, level: float, label: str) -> None:
    """Draws a dashed line across the panel, with its value at the right."""
    panel.axhline(level, color="#444444", linestyle=(0, (5, 3)), linewidth=1, label=label)
    look: Any = {"ha": "right", "va": "bottom", "fontsize": 8, "color": "#444444"}
    coordinates: Any = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
    panel.annotate(f"{level:.3f}", (1, level), (-2, 2), **coordinates, **look)


def draw_grid(panel: Axes) -> None:
    """Draws a faint grid behind everything else."""
    panel.grid(color="#dddddd", linewidth=0.6)
    panel.set_axisbelow(True)


def thin_labels(labels: Sequence[str], positions: np.ndarray) -> list[str]:
    """Blanks the labels that would overlap the one before; positions increase."""
    width, last = LABEL_WIDTH * (positions[-1] - positions[0]), -np.inf
    thinned = []
    for label, position in zip(labels, positions, strict=True):
        fits = position - last >= width
        last = position if fits else last
        thinned.append(label if fits else "")
    return thinned


def is_wide(values: Sequence[float]) -> bool:
    """Returns whether values need a logarithmic scale and are positive."""
    return len(values) > 0 and min(values) > 0 and max(values) > WIDE * min(values)


def _draw_panel(panel: Axes, curve: Curve, classifier: str) -> None:
    ratios = np.array([step.ratio for step in curve.steps])
    rings: list[tuple[float, float]] = []
    for index, method in enumerate(curve.methods):
        scores = curve.scores[method, classifier]
        accuracy = np.array([score.accuracy for score in scores])
        deviation = np.array([score.accuracy_std for score in scores])
        draw_line(panel, index, ratios, accuracy, deviation, method)
        if (step := curve.knee(method).step) is not None:
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
    """Makes the tick labels: ratio and texts of each budget."""
    labels = [f"{float(f'{100 * step.ratio:.2g}'):g}%\n{step.texts:,}" for step in curve.steps]
    return thin_labels(labels, np.log([step.ratio for step in curve.steps]))
