"""The honest table, from the rows of a comparison alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def comparison_cells(comparison: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """The head and the body of the table as text.

    Args:
        comparison: What ``dallme compare --json`` prints.

    Returns:
        The names of the columns, and for each method its cells: accuracy ± deviation where there are several runs, and in
        brackets the share of the full data's accuracy that is recovered.
    """
    classifiers = [result["classifier"] for result in comparison["methods"][0]["results"]]
    body = []
    for method in comparison["methods"]:
        cells = [method["method"], f"{method['texts']:,}"]
        cells += [_cell(result, method["method"]) for result in method["results"]]
        body.append(cells)
    return ["method", "texts", *classifiers], body


def comparison_table(comparison: Mapping[str, Any]) -> str:
    """The table as Markdown."""
    head, body = comparison_cells(comparison)
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *body)]
    return "\n".join(lines) + "\n"


def _cell(result: Mapping[str, Any], method: str) -> str:
    text = f"{result['accuracy_mean']:.3f}"
    if result["runs"] > 1:
        text += f" ± {result['accuracy_std']:.3f}"
    if result["recovered"] is not None and method != "full":
        text += f" ({result['recovered']:.0%})"
    return text
