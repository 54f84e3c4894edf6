"""Pages about results, built from rows alone: table, figure, and comparison with the paper."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dallme.errors import OutputError
from dallme.experiments import LABEL, Claim, Experiment, experiment_names, load_experiment
from dallme.experiments.figures import draw_figure, has_figure
from dallme.experiments.result_table import Measured, Number, ResultTable, make_result_table, mean_of, shorten
from dallme.experiments.rows import ROWS, Row, RowFile
from dallme.experiments.tables import (
    MARGIN,
    best_rows,
    escape_markdown,
    format_number,
    render_table,
    shortfalls,
)
from dallme.files.atomic import atomic_write

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


#: Axes on which both sides of a comparison have equal values, unless the claim is about them.
SHARED = ("data", "per_class", "ratio", "classifier")

#: Upper bound on the failures that a sentence shows.
SHOWN = 4


@dataclass(frozen=True)
class Comparison:
    """One comparison of a claim.

    Attributes:
        where: Values that both sides share, as text; empty if there is one comparison.
        ours: Our number, with the name of its run.
        other: The number that it is compared with, with its name.
        holds: Whether the claim holds here.
    """

    where: str
    ours: tuple[str, Number]
    other: tuple[str, Number]
    holds: bool


@dataclass(frozen=True)
class Finding:
    """A claim with its comparisons.

    Attributes:
        claim: The claim.
        comparisons: One per group of runs that has both sides.
    """

    claim: Claim
    comparisons: tuple[Comparison, ...]

    @property
    def failures(self) -> list[Comparison]:
        """Comparisons in which the claim does not hold."""
        return [each for each in self.comparisons if not each.holds]

    def markdown(self) -> str:
        """Returns the finding as a sentence, with the numbers of each failure."""
        count, failures = len(self.comparisons), self.failures
        if not failures:
            scope = {1: "", 2: " in both comparisons"}.get(count, f" in all {count} comparisons")
            return f"“{self.claim.text}” holds{scope}."
        shown = "; ".join(map(self._describe, failures[:SHOWN]))
        if len(failures) > SHOWN:
            shown += f"; and {len(failures) - SHOWN} more"
        if count == 1:
            return f"“{self.claim.text}” **does not hold**: {shown}."
        return f"“{self.claim.text}” **fails in {len(failures)} of {count} comparisons**: {shown}."

    def _describe(self, comparison: Comparison) -> str:
        (ours, number), (other, limit) = comparison.ours, comparison.other
        where = f"{comparison.where}: " if comparison.where else ""
        numbers = [format_number(Number(each.mean), self.claim.measure) for each in (number, limit)]
        return escape_markdown(f"{where}{ours} {numbers[0]}, {other} {numbers[1]}")


def check_claims(experiment: Experiment, table: ResultTable) -> list[Finding]:
    """Checks the claims of an experiment on its results; claims without results are left out."""
    measured = [each for place in table.places.values() for each in place if each.result is not None]
    findings = [Finding(claim, tuple(_compare(claim, measured))) for claim in experiment.claims]
    return [finding for finding in findings if finding.comparisons]


def summarize(findings: Sequence[Finding]) -> str:
    """Returns the sentences that say which claims hold; empty without findings."""
    if not findings:
        return ""
    holding = sum(not finding.failures for finding in findings)
    verdict = "the claim holds here" if holding else "the claim does not hold here"
    if len(findings) > 1:
        verdict = f"{holding} of {len(findings)} claims {'holds' if holding == 1 else 'hold'} here"
    return " ".join([f"{verdict}.", *(finding.markdown() for finding in findings)])


def _compare(claim: Claim, measured: Sequence[Measured]) -> list[Comparison]:
    """Compares our first preference with the best other run, in each group of runs."""
    common = {_axis(condition) for condition in set(claim.ours) & set(claim.other)}
    differing = {_axis(condition) for condition in (*claim.ours, *claim.other)} - common
    shared = dict.fromkeys((*SHARED, *claim.per, *sorted(common)))
    axes = [axis for axis in shared if axis not in differing]
    groups: dict[tuple[str, ...], list[Measured]] = {}
    for each in measured:
        groups.setdefault(tuple(str(each.run[axis]) for axis in axes), []).append(each)
    varying = [index for index in range(len(axes)) if len({key[index] for key in groups}) > 1]
    sides = []
    for key, group in groups.items():
        ours = _select(claim, claim.ours, group)
        other = _select(claim, claim.other, group) if claim.other else ("the paper", Number(claim.limit))
        if ours and other:
            where = ", ".join(
                shorten(group[0].run.label([axes[index]])) for index in varying if key[index] != "None"
            )
            sides.append((where, ours, other))
    return [Comparison(*side, _holds(claim, side[1][1].mean, side[2][1].mean)) for side in sides]


def _axis(condition: str) -> str:
    return condition.partition("=")[0]


def _select(claim: Claim, conditions: Sequence[str], group: Sequence[Measured]) -> tuple[str, Number] | None:
    """Returns the run that meets the conditions: the first of the values in order, then the best number."""
    ranked = []
    for each in group:
        ranks = [_rank(each, condition) for condition in conditions]
        number = mean_of([each], claim.measure)
        if number is not None and None not in ranks:
            # Our side prefers the first value, such as the default decoder; the other side is its best run.
            rank = [rank for rank in ranks if rank is not None] if conditions is claim.ours else []
            ranked.append((rank, -number.mean if claim.relation != "<" else number.mean, each, number))
    if not ranked:
        return None
    _, _, each, number = min(ranked, key=lambda item: item[:2])
    common = set(claim.ours) & set(claim.other)
    axes = {_axis(condition) for condition in conditions if condition not in common}
    named = [axis for axis in each.run.values if axis in axes]
    return shorten(each.run.label(named)), number


def _rank(measured: Measured, condition: str) -> int | None:
    """Returns the position of the run's value among the condition's values, or None."""
    axis, _, values = condition.partition("=")
    value = measured.run.grid.label if axis == LABEL else str(measured.run[axis])
    choices = values.split(",")
    for index, choice in enumerate(choices):
        if value == choice or (choice.endswith("*") and value.startswith(choice[:-1])):
            return index
    return None


def _holds(claim: Claim, ours: float, other: float) -> bool:
    bound = claim.factor * other + claim.margin
    if claim.relation == "=":
        return abs(ours - other) <= claim.margin + 1e-9
    return ours > bound - 1e-9 if claim.relation == ">" else ours < bound + 1e-9
