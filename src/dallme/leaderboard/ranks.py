"""Average ranks of methods over data sets, with the critical difference of Nemenyi's test."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

#: Level of significance.
ALPHA = 0.05

#: A data set, a budget and a classifier.
Place = tuple[str, int, str]


@dataclass(frozen=True)
class Ranking:
    """Methods by their average rank over data sets; rank 1 is best.

    Attributes:
        ranks: Method to average rank, best first.
        datasets: The data sets; on each, the mean accuracy over the places that all methods have counts.
        p_value: p of Friedman's test that all methods are alike; None with fewer than three methods, with
            one data set, or if all are equal.
        difference: Critical difference: average ranks that differ by less are not told apart at
            :data:`ALPHA`. None with one data set.
        left_out: Methods without a result on each data set.
    """

    ranks: Mapping[str, float]
    datasets: tuple[str, ...]
    p_value: float | None
    difference: float | None
    left_out: tuple[str, ...]

    def sentence(self) -> str:
        """Returns the result of the tests as text."""
        count = len(self.datasets)
        text = f"Average ranks over {count} data sets ({', '.join(self.datasets)})."
        if self.difference is None:
            text = f"Ranks on {self.datasets[0]}; with one data set there is no test."
        else:
            text += f" Ranks that differ by less than {self.difference:.2f} are not told apart (Nemenyi, 5%)."
        if self.p_value is not None:
            text += f" Friedman's test of all methods: p = {self.p_value:.3f}."
        if self.left_out:
            text += f" Without a rank, as results are missing: {', '.join(self.left_out)}."
        return text


def rank_methods(accuracies: Mapping[str, Mapping[Place, float]]) -> Ranking | None:
    """Ranks the methods that have results on all data sets, with common budgets and classifiers.

    Args:
        accuracies: Method to place to accuracy.

    Returns:
        The ranking; None if fewer than two methods can be compared.
    """
    from scipy.stats import friedmanchisquare, rankdata

    datasets = tuple(sorted({place[0] for own in accuracies.values() for place in own}))
    names = [name for name, own in accuracies.items() if {place[0] for place in own} == set(datasets)]
    shared: set[Place] = set.intersection(*(set(accuracies[name]) for name in names)) if names else set()
    if len(names) < 2 or {place[0] for place in shared} != set(datasets):
        return None
    scores = np.array(
        [
            [np.mean([accuracies[name][place] for place in shared if place[0] == data]) for name in names]
            for data in datasets
        ]
    )
    means = rankdata(-scores.round(9), axis=1).mean(axis=0)
    ranks = {names[index]: float(means[index]) for index in np.argsort(means, kind="stable")}
    tested = len(datasets) > 1
    p_value = float(friedmanchisquare(*scores.T).pvalue) if tested and len(names) > 2 else np.nan
    difference = critical_difference(len(names), len(datasets)) if tested else None
    left_out = tuple(name for name in accuracies if name not in names)
    return Ranking(ranks, datasets, None if np.isnan(p_value) else p_value, difference, left_out)


def critical_difference(methods: int, datasets: int) -> float:
    """Computes the critical difference of Nemenyi's test: q sqrt(k (k + 1) / (6 N)).

    q is the quantile of the studentized range divided by the square root of 2 (Demšar, "Statistical
    Comparisons of Classifiers over Multiple Data Sets", JMLR 2006).

    Example:
        >>> round(critical_difference(4, 14), 2)
        1.25
    """
    from scipy.stats import studentized_range

    quantile = studentized_range.ppf(1 - ALPHA, methods, np.inf) / np.sqrt(2)
    return float(quantile * np.sqrt(methods * (methods + 1) / (6 * datasets)))


def draw(ranking: Ranking) -> str:
    """Draws the critical-difference plot as SVG: a bar joins methods that are not told apart.

    Returns:
        The SVG; blank without a critical difference.
    """
    if ranking.difference is None:
        return ""
    names, ranks = list(ranking.ranks), list(ranking.ranks.values())
    width, left, top, step = 640, 40, 64, 22

    def x(rank: float) -> float:
        return round(left + (rank - 1) / max(len(names) - 1, 1) * (width - 2 * left), 1)

    groups = _groups(ranks, ranking.difference)
    bottom = top + 12 + 8 * len(groups)
    parts = [_line(x(1), 14, min(x(1 + ranking.difference), width), 14, 3)]
    parts.append(f'<text x="{x(1)}" y="34">critical difference {ranking.difference:.2f}</text>')
    parts.append(_line(x(1), top, x(len(names)), top, 1))
    for tick in range(1, len(names) + 1):
        parts += [
            _line(x(tick), top - 5, x(tick), top, 1),
            f'<text x="{x(tick)}" y="{top - 8}">{tick}</text>',
        ]
    for number, (first, last) in enumerate(groups):
        parts.append(
            _line(x(ranks[first]) - 3, top + 10 + 8 * number, x(ranks[last]) + 3, top + 10 + 8 * number, 4)
        )
    for number, (name, mean) in enumerate(ranking.ranks.items()):
        y, anchor = bottom + step * (number + 1), "start" if x(mean) < width / 2 else "end"
        parts.append(_line(x(mean), top, x(mean), y, 1))
        label = html.escape(f" {name[:60]} ({mean:.2f}) ")
        shift = 5 if anchor == "start" else -5
        parts.append(f'<text x="{x(mean) + shift}" y="{y}" text-anchor="{anchor}">{label}</text>')
    height = bottom + step * len(names) + 10
    head = f'<svg viewBox="0 0 {width} {height}" width="{width}" role="img" aria-label="Average ranks">'
    return head + "".join(parts) + "</svg>"


def _groups(ranks: list[float], difference: float) -> list[tuple[int, int]]:
    """Returns the first and last position of each largest group within the critical difference."""
    groups: list[tuple[int, int]] = []
    for first, rank in enumerate(ranks):
        last = max(index for index, other in enumerate(ranks) if other - rank < difference)
        if last > first and (not groups or last > groups[-1][1]):
            groups.append((first, last))
    return groups


def _line(x1: float, y1: float, x2: float, y2: float, width: int) -> str:
    return f'<path d="M{x1} {y1}L{x2} {y2}" stroke="currentColor" stroke-width="{width}"/>'
