"""The honest table, from the rows of a comparison alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def comparison_cells(comparison: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """The head and the body of the table as text.

    Args:
        comparison: What ``dallme compare --json`` prints.

    Returns:
        The names of the columns, and for each method its cells: accuracy ± deviation where there are several runs, a star
        if it is better than ``random`` by more than luck, and in brackets the share of the full data's accuracy that is
        recovered; nothing where the method is not for the classifier.
    """
    classifiers = [result["classifier"] for result in comparison["methods"][0]["results"]]
    body = []
    for method in comparison["methods"]:
        cells = [method["method"], f"{method['texts']:,}"]
        cells += [_cell(result, method["method"]) for result in method["results"]]
        body.append(cells)
    return ["method", "texts", *classifiers], body


def star_note(comparison: Mapping[str, Any]) -> str | None:
    """What a star in the table means; None if there is none."""
    starred = any(
        result.get("better_than_random") for method in comparison["methods"] for result in method["results"]
    )
    return (
        "* better than random at p < .05 (one-sided t-test, Holm's correction over the table)"
        if starred
        else None
    )


def comparison_table(comparison: Mapping[str, Any]) -> str:
    """The table as Markdown, with what a star in it means."""
    head, body = comparison_cells(comparison)
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *body)]
    if note := star_note(comparison):
        lines += ["", f"\\{note}"]  # the bare star would start a list
    return "\n".join(lines) + "\n"


def _cell(result: Mapping[str, Any], method: str) -> str:
    if result["accuracy_mean"] is None:  # the method is not for this classifier
        return ""
    text = f"{result['accuracy_mean']:.3f}"
    if result["runs"] > 1:
        text += f" ± {result['accuracy_std']:.3f}"
    if result.get("better_than_random"):
        text += "*"
    if result["recovered"] is not None and method != "full":
        text += f" ({result['recovered']:.0%})"
    return text
