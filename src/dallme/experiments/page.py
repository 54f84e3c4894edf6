"""Pages about results, built from rows alone: table, figure, and comparison with the paper."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from dallme.atomic import atomic_write
from dallme.errors import OutputError
from dallme.experiments.claims import check_claims, summarize
from dallme.experiments.figures import draw_figure, has_figure
from dallme.experiments.result_table import ResultTable, make_result_table
from dallme.experiments.rows import ROWS, Row, RowFile
from dallme.experiments.spec import Experiment, experiment_names, load_experiment
from dallme.experiments.tables import MARGIN, best_rows, escape_markdown, render_table, shortfalls

#: Files of a figure; pages show the first.
PICTURES = ("figure.svg", "figure.png")

#: Kinds of places in the paper, in the order of the page.
PLACES = ("table", "section", "figure")


def write_results(experiment: Experiment, profile_name: str, rows: Sequence[Row], folder: Path) -> None:
    """Writes ``table.md``, ``table.html``, ``page.md`` and the figure; equal rows give equal bytes.

    The figure is written last, so the other files exist even if it cannot be drawn.

    Args:
        experiment: The experiment.
        profile_name: Name of one of its profiles.
        rows: Results; those of other profiles are ignored.
        folder: Output folder; it is created.

    Raises:
        UnknownNameError: If there is no such profile, or the paper lacks a row or column that it names.
        OutputError: If a file cannot be written.
        MissingDependencyError: If there is a figure and matplotlib is not installed.
    """
    profile = experiment.profile(profile_name)
    numbers = make_result_table(experiment, profile, rows)
    table, drawn = render_table(numbers, experiment), has_figure(experiment, profile, rows)
    lines = [f"# {experiment.title}", ""]
    lines += _section(experiment, profile_name, numbers, PICTURES[0] if drawn else "")
    if shortcomings := _shortcomings(experiment, profile_name, numbers):
        lines += ["", "## Where ours falls short", "", *shortcomings]
    lines += _conclusion(experiment, numbers)
    files = {"table.md": table.markdown(), "table.html": table.html(), "page.md": "\n".join(lines) + "\n"}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            atomic_write(folder / name, content.encode())
    except OSError as error:
        raise OutputError(
            f"cannot write results to {folder}: {error.strerror or error}; make room or choose another folder"
        ) from None
    for name in PICTURES if drawn else ():
        draw_figure(experiment, profile, rows, folder / name)


def results_page(root: Path, profile_name: str = "offline", prefix: str = "") -> str:
    """Returns one page of Markdown about all experiments that come with dallme and have rows.

    Args:
        root: Folder with one folder per experiment, as in :func:`write_results`.
        profile_name: Profile of the rows; experiments without it are left out.
        prefix: Path from the page to `root`, with a final slash, for links to figures.

    Raises:
        InputError: If rows cannot be read.
    """
    shown = []
    for experiment in sorted(map(load_experiment, experiment_names()), key=_order):
        rows = RowFile(root / experiment.name / ROWS).load()
        if rows and profile_name in experiment.profiles:
            profile = experiment.profile(profile_name)
            drawn = has_figure(experiment, profile, rows)
            figure = f"{prefix}{experiment.name}/{PICTURES[0]}" if drawn else ""
            shown.append((experiment, make_result_table(experiment, profile, rows), figure))
    lines = [
        "# Results",
        "",
        f"Results of `dallme reproduce` with the profile `{profile_name}`, each with the paper's number in "
        "brackets. The page is built from the stored rows alone.",
        "",
        *_failures([(experiment, numbers) for experiment, numbers, _ in shown]),
        "## Contents",
        "",
        *(f"- [{experiment.title}](#{experiment.name}): {experiment.place}" for experiment, _, _ in shown),
        "- [Where ours falls short](#where-ours-falls-short)",
    ]
    for experiment, numbers, figure in shown:
        lines += ["", f'<a id="{experiment.name}"></a>', "", f"## {experiment.title}", ""]
        lines += [*_section(experiment, profile_name, numbers, figure), *_conclusion(experiment, numbers)]
    lines += ["", "## Where ours falls short", ""]
    lines += [f"Scores that are below the paper's by more than {MARGIN:g}."]
    for experiment, numbers, _ in shown:
        if shortcomings := _shortcomings(experiment, profile_name, numbers):
            lines += ["", f"### {experiment.title}", "", *shortcomings]
    return "\n".join(lines) + "\n"


def _failures(results: Sequence[tuple[Experiment, ResultTable]]) -> list[str]:
    """Returns the claims that do not hold here, as a section of the page."""
    lines = [
        f"- [{experiment.name}](#{experiment.name}): {finding.markdown()}"
        for experiment, table in results
        for finding in check_claims(experiment, table)
        if finding.failures
    ]
    if not lines:
        return []
    return ["## Claims that do not hold here", "", *lines, ""]


def _order(experiment: Experiment) -> tuple[int, list[int], str]:
    """Sorts tables, sections and figures by their numbers in the paper, then what is not in it."""
    match = re.search(r"(table|section|figure)\s*([\d.]*\d)", experiment.place.lower())
    if match is None or experiment.name.startswith("dpc-"):
        return len(PLACES), [], experiment.name
    return PLACES.index(match[1]), [int(number) for number in match[2].split(".") if number], experiment.name


def _section(experiment: Experiment, profile_name: str, table: ResultTable, figure: str) -> list[str]:
    """Returns the lines about an experiment below its title."""
    differs = experiment.profile(profile_name).differs
    relation = "differs from the paper:" if differs else "is as in the paper."
    lines = [f"{experiment.place}. Profile `{profile_name}`, which {relation}"]
    if differs:
        lines += ["", *(f"- {sentence}" for sentence in differs)]
    lines += ["", render_table(table, experiment).markdown().rstrip()]
    if figure:
        lines += ["", f"![{escape_markdown(experiment.title)}]({figure})"]
    if missing := _missing(table):
        lines += ["", f"**Not run:** {missing}"]
    lines += ["", "To run it:", "", "```console"]
    lines += [f"$ dallme reproduce {experiment.name} --profile {profile_name}", "```"]
    return lines


def _conclusion(experiment: Experiment, table: ResultTable) -> list[str]:
    """Returns the paper's conclusion, and which claims hold here."""
    lines = ["", f"**The paper:** {experiment.says}"] if experiment.says else []
    ours = summarize(check_claims(experiment, table))
    return [*lines, "", f"**Ours:** {ours or 'no claim is checked here.'}"]


def _missing(table: ResultTable) -> str:
    """Returns how many runs have not been computed, and their places; empty if all have."""
    runs = [each for place in table.places.values() for each in place]
    rows: dict[str, list[str]] = {}
    for (row, values), place in table.places.items():
        if any(each.result is None for each in place):
            rows.setdefault(row, []).append(values)
    named = [row + (f" ({', '.join(columns)})" if any(columns) else "") for row, columns in rows.items()]
    count = sum(each.result is None for each in runs)
    return f"{count:,} of {len(runs):,} runs: {escape_markdown('; '.join(named))}." if count else ""


def _shortcomings(experiment: Experiment, profile_name: str, table: ResultTable) -> list[str]:
    """Returns list items with scores below the paper's, and a comparison of the best rows."""
    reasons = experiment.profile(profile_name).reasons
    lines = [f"- {each.markdown()}" for each in shortfalls(table, reasons)]
    best = best_rows(table, experiment.measures[0]) if experiment.average else ""
    return [*lines, *([""] if lines and best else []), *([best] if best else [])]
