"""The paper's claims, checked on our results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dallme.experiments.result_table import Measured, Number, ResultTable, mean_of, shorten
from dallme.experiments.spec import Claim, Experiment
from dallme.experiments.tables import escape_markdown, format_number

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
    value = str(measured.run[axis])
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
