"""The charts of the report as Vega-Lite specifications with named data, and the library that draws them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dallme.report.map import SIDE
from dallme.text import to_script

if TYPE_CHECKING:
    import altair as alt

#: Licences of the code in :func:`library`, which the bundler drops.
LICENCES = Path(__file__).parent / "templates" / "licences.txt"

#: Colours of classes that are distinct for any colour vision, on white and on black (Paul Tol's "bright").
PALETTE = ("#4477AA", "#EE6677", "#228833", "#CCBB44", "#66CCEE", "#AA3377", "#999999")


@cache
def library() -> str:
    """Bundles Vega, Vega-Lite and Vega-Embed with their licences into one script that needs no network."""
    import altair
    import vl_convert

    version = ".".join(altair.SCHEMA_VERSION.split(".")[:2])
    bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=version)
    return to_script(f"/*!\n{LICENCES.read_text(encoding='utf-8')}*/\n{bundle}")


def bars(methods: int) -> dict[str, Any]:
    """Draws one panel of the comparison table: a bar with its deviation for each method in ``bars``."""
    import altair as alt

    colours = [alt.param(name=name, value="gray") for name in ("ink", "strong", "weak")]
    axis = alt.Axis(
        domain=False,
        ticks=False,
        labelPadding=8,
        labelLimit=120,
        labelFontSize=13,
        labelColor=_expression("ink"),
    )
    base = alt.Chart(alt.NamedData("bars")).encode(y=alt.Y("method:N", sort=None, title=None, axis=axis))
    scale = alt.Scale(domain=[0, 1.14])  # leaves room for the numbers
    bar = base.mark_bar(height=16, cornerRadiusEnd=3, fill=_expression("datum.ours ? strong : weak")).encode(
        x=alt.X("mean:Q", scale=scale, axis=None)
    )
    spread = base.mark_rule(color=_expression("ink")).encode(
        x=alt.X("low:Q", scale=scale, axis=None), x2="high:Q"
    )
    number = base.mark_text(align="left", dx=6, fontSize=13, fill=_expression("ink")).encode(
        x=alt.X("high:Q", scale=scale, axis=None), text="shown:N"
    )
    return _finished((bar + spread + number).add_params(*colours), height=28 * methods, fit="fit-x")


def landscape(classes: int) -> dict[str, Any]:
    """Draws the map: ``rows`` as dots, ``own`` as diamonds; ``chosen`` is a class, ``picked`` a text."""
    import altair as alt

    numbers = {name: alt.param(name=name, value=-1) for name in ("chosen", "picked")}
    looks = [alt.param(name="ink", value="gray"), alt.param(name="dot", value=12)]
    zoom = alt.selection_interval(
        name="zoom", bind="scales", clear="dblclick",
        zoom="wheel![event.shiftKey]",
        translate="[pointerdown[event.shiftKey], window:pointerup] > window:pointermove!",
    )  # fmt: skip
    plane = {
        axis: kind(
            f"{axis}:Q",
            axis=None,
            scale=alt.Scale(domain=[-0.02 * SIDE, 1.02 * SIDE], nice=False, zero=False),
        )
        for axis, kind in (("x", alt.X), ("y", alt.Y))
    }
    colours = alt.Scale(
        domain=list(range(classes)), range=[PALETTE[number % len(PALETTE)] for number in range(classes)]
    )
    colour = alt.Color("class:N", scale=colours, legend=None)
    shown = "(chosen < 0 || datum.class == chosen) && (picked < 0 || datum.cluster == picked)"
    rows = (
        alt.Chart(alt.NamedData("rows"), name="dots")
        .mark_point(
            shape="circle",
            filled=True,
            size=_expression("dot"),
            opacity=_expression(f"{shown} ? 0.55 : 0.06"),
        )
        .encode(**plane, color=colour, tooltip="text:N")
        .add_params(zoom)
    )
    size, opacity = "datum.index == picked ? 420 : 150", "chosen < 0 || datum.class == chosen ? 1 : 0.25"
    look: Any = {
        "size": _expression(size),
        "opacity": _expression(opacity),
        "stroke": _expression("ink"),
        "strokeWidth": 1.6,
    }
    own = (
        alt.Chart(alt.NamedData("own"), name="diamonds")
        .mark_point(shape="diamond", filled=True, cursor="pointer", **look)
        .encode(**plane, color=colour, tooltip="text:N")
    )
    return _finished((rows + own).add_params(*numbers.values(), *looks), height="container", fit="fit")


def comparison_panels(comparison: Mapping[str, Any], ours: str | None) -> list[dict[str, Any]]:
    """Computes the bars of the comparison table, one panel for each classifier.

    Args:
        comparison: The document that ``dallme compare --json`` prints.
        ours: The method that made the set, drawn in another colour.

    Returns:
        The name of each classifier and its ``bars``: method, mean, ends of the deviation, the number as text,
        and whether it is ours. A method that does not apply to the classifier has no bar.
    """
    panels: dict[str, list[dict[str, Any]]] = {}
    for method in comparison["methods"]:
        for result in method["results"]:
            mean, deviation = result["accuracy_mean"], result["accuracy_std"] or 0.0
            panel = panels.setdefault(result["classifier"], [])
            if mean is None:
                continue
            row = {
                "method": method["method"],
                "mean": round(mean, 4),
                "shown": f"{mean:.3f}",
                "ours": method["method"] == ours,
            }
            row |= {"low": round(max(0.0, mean - deviation), 4), "high": round(mean + deviation, 4)}
            panel.append(row)
    return [{"classifier": name, "bars": rows} for name, rows in panels.items()]


def _expression(code: str) -> alt.ExprRef:
    import altair as alt

    return alt.ExprRef(code)


def _finished(chart: alt.LayerChart, *, height: Any, fit: str) -> dict[str, Any]:
    """Makes a chart as wide as its container, with a transparent background."""
    size = {"type": fit, "contains": "padding"}
    chart = chart.properties(width="container", height=height, background="transparent", autosize=size)
    spec: dict[str, Any] = chart.configure(font="system-ui, sans-serif").configure_view(stroke=None).to_dict()
    return spec
