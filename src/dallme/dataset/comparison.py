"""The comparison table of a set in cells and in Markdown."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


def comparison_cells(comparison: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Formats the head and the body of the table.

    Args:
        comparison: The document that ``dallme compare --json`` prints.

    Returns:
        The names of the columns, and the cells of each method. ``tokens`` holds the tokens of the set, and in
        brackets of a text. A cell of a classifier holds the accuracy, ± its deviation
        over several runs, and in brackets the share of the full data's accuracy. A star marks a method that
        is significantly better than ``random``. A cell is empty if the method does not apply to the
        classifier.
    """
    classifiers = [result["classifier"] for result in comparison["methods"][0]["results"]]
    sizes = ["texts"]
    if any(method.get("tokens") for method in comparison["methods"]):  # older tables lack them
        sizes.append("tokens")
    body = []
    for method in comparison["methods"]:
        cells = [method["method"], f"{method['texts']:,}"]
        if len(sizes) > 1:
            tokens = method.get("tokens")
            cells.append("" if tokens is None else f"{tokens:,} ({tokens / method['texts']:.0f})")
        cells += [_cell(result, method["method"]) for result in method["results"]]
        body.append(cells)
    return ["method", *sizes, *classifiers], body


def star_note(comparison: Mapping[str, Any]) -> str | None:
    """Explains the star in the table; None if there is no star."""
    results = [result for method in comparison["methods"] for result in method["results"]]
    if not any(result.get("better_than_random") for result in results):
        return None
    return "* better than random at p < 0.05 (one-sided t-test, Holm's correction over the table)"


def comparison_table(comparison: Mapping[str, Any], *, escape: Callable[[str], str] = str) -> str:
    """Formats the table as Markdown with a note on its stars; `escape` is applied to names."""
    head, body = comparison_cells(comparison)
    head, body = [escape(name) for name in head], [[escape(name), *cells] for name, *cells in body]
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
