"""Pages about results, from the rows alone: what ours is, and beside it what the paper's is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from dallme.atomic import atomic_write
from dallme.errors import OutputError
from dallme.experiments.figures import draw_figure, has_figure
from dallme.experiments.result_table import ResultTable, make_result_table
from dallme.experiments.rows import ROWS, Row, RowFile
from dallme.experiments.spec import Experiment, experiment_names, load_experiment
from dallme.experiments.tables import MARGIN, best_rows, escape_markdown, render_table, shortfalls

#: The pictures of a figure; pages show the first.
FIGURES = ("figure.svg", "figure.png")

#: Parts of the paper in the order of the page.
PARTS = ("table", "section", "figure")


def write_results(experiment: Experiment, edition_name: str, rows: Sequence[Row], folder: Path) -> None:
    """Writes ``table.md``, ``table.html``, ``page.md`` and the figure; the same rows give the same bytes.

    The figure is the last, so that the others are there if it cannot be drawn.

    Args:
        experiment: The experiment.
        edition_name: Name of one of its editions.
        rows: Results; those of other editions are passed over.
        folder: Where to; it is made if it is not there.

    Raises:
        UnknownNameError: If there is no such edition, or it names a row or a column that the paper does not have.
        OutputError: If a file cannot be written.
        MissingDependencyError: If there is a figure to draw and matplotlib is not installed.
    """
    edition = experiment.edition(edition_name)
    sheet = make_result_table(experiment, edition, rows)
    table, drawn = render_table(sheet, experiment), has_figure(experiment, edition, rows)
    lines = [
        f"# {experiment.title}",
        "",
        *_part(experiment, edition_name, sheet, FIGURES[0] if drawn else ""),
    ]
    if short := _shortcomings(experiment, edition_name, sheet):
        lines += ["", "## Where ours falls short", "", *short]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        atomic_write(folder / "table.md", table.markdown().encode())
        atomic_write(folder / "table.html", table.html().encode())
        atomic_write(folder / "page.md", ("\n".join(lines) + "\n").encode())
    except OSError as error:
        raise OutputError(
            f"cannot write results to {folder}: {error.strerror or error}; make room or choose another folder"
        ) from None
    for name in FIGURES if drawn else ():
        draw_figure(experiment, edition, rows, folder / name)


def results_page(root: Path, edition_name: str = "offline", prefix: str = "") -> str:
    """One page of Markdown about all experiments that come with dallme and have rows.

    Args:
        root: Folder with a folder for each experiment, as :func:`write_results` is given them.
        edition_name: The edition that the rows are of; experiments without it are left out.
        prefix: What stands before ``NAME/figure.svg`` in links to figures: the way from the page to `root`, with its last slash.

    Raises:
        InputError: If rows cannot be read.
    """
    shown = []
    for experiment in sorted(map(load_experiment, experiment_names()), key=_order):
        rows = RowFile(root / experiment.name / ROWS).load()
        if rows and edition_name in experiment.editions:
            edition = experiment.edition(edition_name)
            figure = (
                f"{prefix}{experiment.name}/{FIGURES[0]}" if has_figure(experiment, edition, rows) else ""
            )
            shown.append((experiment, make_result_table(experiment, edition, rows), figure))
    lines = [
        "# Results",
        "",
        f"What `dallme reproduce` found with the edition `{edition_name}`, and beside it, in brackets, what the paper reports. "
        "The page is made from the rows of results alone.",
        "",
        *(f"- [{experiment.title}](#{experiment.name}): {experiment.place}" for experiment, _, _ in shown),
        "- [Where ours falls short](#where-ours-falls-short)",
    ]
    for experiment, sheet, figure in shown:
        lines += ["", f'<a id="{experiment.name}"></a>', "", f"## {experiment.title}", ""]
        lines += _part(experiment, edition_name, sheet, figure)
    lines += [
        "",
        "## Where ours falls short",
        "",
        f"Every score that is below the paper's beside it by more than {MARGIN:g}.",
    ]
    for experiment, sheet, _ in shown:
        if short := _shortcomings(experiment, edition_name, sheet):
            lines += ["", f"### {experiment.title}", "", *short]
    return "\n".join(lines) + "\n"


def _order(experiment: Experiment) -> tuple[int, list[int], str]:
    """Tables, sections and figures by their numbers in the paper, then what is not in it."""
    found = re.search(r"(table|section|figure)\s*([\d.]*\d)", experiment.place.lower())
    if found is None or experiment.name.startswith("dpc-"):
        return len(PARTS), [], experiment.name
    return PARTS.index(found[1]), [int(number) for number in found[2].split(".") if number], experiment.name


def _part(experiment: Experiment, edition_name: str, sheet: ResultTable, figure: str) -> list[str]:
    """The lines about an experiment below its title."""
    differs = experiment.edition(edition_name).differs
    lines = [
        f"{experiment.place}. Edition `{edition_name}`, which {'differs from' if differs else 'is as in'} the paper"
    ]
    lines[0] += ":" if differs else "."
    if differs:
        lines += ["", *(f"- {sentence}" for sentence in differs)]
    lines += ["", render_table(sheet, experiment).markdown().rstrip()]
    if figure:
        lines += ["", f"![{escape_markdown(experiment.title)}]({figure})"]
    if experiment.says:
        lines += ["", f"**The paper:** {experiment.says}"]
    if missing := _missing(sheet):
        lines += ["", f"**Not run:** {missing}"]
    return [
        *lines,
        "",
        "To run it:",
        "",
        "```console",
        f"$ dallme reproduce {experiment.name} --edition {edition_name}",
        "```",
    ]


def _missing(sheet: ResultTable) -> str:
    """How many cells have not been run, and where in the table they are; empty if all have."""
    cells = [found for place in sheet.places.values() for found in place]
    rows: dict[str, list[str]] = {}
    for (row, values), place in sheet.places.items():
        if any(found.result is None for found in place):
            rows.setdefault(row, []).append(values)
    named = [row + (f" ({', '.join(columns)})" if any(columns) else "") for row, columns in rows.items()]
    count = sum(found.result is None for found in cells)
    return f"{count:,} of {len(cells):,} cells: {escape_markdown('; '.join(named))}." if count else ""


def _shortcomings(experiment: Experiment, edition_name: str, sheet: ResultTable) -> list[str]:
    """Where ours is below the paper's, as lines of a list, and below it what the best rows are."""
    lines = [f"- {found.markdown()}" for found in shortfalls(sheet, experiment.edition(edition_name).reasons)]
    best = best_rows(sheet, experiment.measures[0]) if experiment.average else ""
    return [*lines, *([""] if lines and best else []), *([best] if best else [])]
