"""The picture of a curve, for the screen and for print."""

from __future__ import annotations

import io
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dallme.durable import replace_file
from dallme.errors import InputError, MissingDependencyError, OutputError
from dallme.evaluation.curve import Curve
from dallme.evaluation.knee import knee

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
        raise OutputError(f"expected a folder for the picture, found none at {str(path.parent)!r}; create it first")
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
    check_plot(path)
    import matplotlib

    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        kind = path.suffix.lower()
        draw(curve).savefig(buffer, format=kind[1:], dpi=200, metadata=FORMATS[kind])
    try:
        replace_file(path, buffer.getvalue())
    except OSError as error:
        raise OutputError(f"expected to write the picture to {str(path)!r}, could not: {error.strerror or error}") from error


def draw(curve: Curve) -> Figure:
    """The picture itself, a matplotlib figure that belongs to no window."""
    from matplotlib.figure import Figure

    columns = min(3, len(curve.full))
    rows = -(-len(curve.full) // columns)
    figure = Figure(figsize=(0.9 + 2.9 * columns, 0.9 + 2.6 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flatten()
    for place, (panel, classifier) in enumerate(zip(panels, curve.full, strict=False)):
        _draw_panel(panel, curve, classifier)
        panel.tick_params(labelbottom=place + columns >= len(curve.full))
        if place % columns == 0:
            panel.set_ylabel("accuracy")
    for panel in panels[len(curve.full) :]:
        panel.remove()
    figure.supxlabel("distillation ratio, and below it the texts in all", fontsize=9)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=min(len(labels), 2 * columns))
    return figure


def _draw_panel(panel: Axes, curve: Curve, classifier: str) -> None:
    ratios = np.array([step.ratio for step in curve.steps])
    rings: list[tuple[float, float]] = []
    for place, method in enumerate(curve.methods):
        colour, scores = COLOURS[place % len(COLOURS)], curve.scores[method, classifier]
        accuracy = np.array([score.accuracy for score in scores])
        deviation = np.array([score.as_dict()["accuracy_std"] for score in scores])
        panel.fill_between(ratios, accuracy - deviation, accuracy + deviation, color=colour, alpha=0.18, linewidth=0)
        look: Any = {"marker": MARKERS[place % len(MARKERS)], "linestyle": DASHES[place % len(DASHES)]}
        panel.plot(ratios, accuracy, color=colour, label=method, markersize=4, linewidth=1.5, **look)
        if (step := knee(curve, method).step) is not None:
            rings.append((step.ratio, accuracy[curve.steps.index(step)]))
    full = curve.full[classifier].accuracy
    panel.axhline(full, color="#444444", linestyle=(0, (5, 3)), linewidth=1, label="full data")
    panel.annotate(f"{full:.3f}", (1, full), (-2, 2), xycoords=("axes fraction", "data"), textcoords="offset points",
                   ha="right", va="bottom", fontsize=8, color="#444444")  # fmt: skip
    if rings:
        x, y = zip(*rings, strict=True)
        panel.scatter(x, y, s=90, facecolors="none", edgecolors="#222222", linewidths=1.2, zorder=5, label="knee")
    panel.set_title(classifier)
    panel.set_xscale("log")
    panel.set_xticks(ratios, _tick_labels(curve), fontsize=7)
    panel.set_xticks([], minor=True)
    panel.grid(color="#dddddd", linewidth=0.6)
    panel.set_axisbelow(True)


def _tick_labels(curve: Curve) -> list[str]:
    """Ratio and texts of each budget; blank where the label would run into the one before."""
    places = np.log([step.ratio for step in curve.steps])
    width, last, labels = ROOM * (places[-1] - places[0]), -np.inf, []
    for place, step in zip(places, curve.steps, strict=True):
        fits = place - last >= width
        last = place if fits else last
        percent = float(f"{100 * step.ratio:.2g}")
        labels.append(f"{percent:g}%\n{step.texts:,}" if fits else "")
    return labels
