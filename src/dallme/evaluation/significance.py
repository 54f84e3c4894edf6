"""Whether one row of the table is better than another, or only luckier."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import ttest_ind, ttest_rel

from dallme.evaluation.evaluate import Score

#: Below this, a spread is taken for rounding.
_NOTHING = 1e-12


def better(a: Score, b: Score) -> float | None:
    """Tests whether the accuracy of `a` is higher than that of `b`.

    Where both have the same number of runs, made under the same seeds, the differences run by run are tested (paired
    t-test); else the two means (Welch's t-test).

    Where several models were trained on each of several sets, each set counts once, with the mean of its models: models that
    share a set are not independent of each other.

    What is assumed: sets (or, for a method that makes one, models) are independent of each other, and accuracies or
    differences about normal. All runs share one test set: p says nothing about other test sets.

    Returns:
        The one-sided p; None if either has a single run. Where nothing varies, 0 if `a` is higher, else 1.
    """
    first, second = _by_set(a), _by_set(b)
    if min(len(first), len(second)) < 2:
        return None
    paired = bool(a.seeds) and a.seeds == b.seeds and len(first) == len(second)
    spread = np.ptp(first - second) if paired else max(np.ptp(first), np.ptp(second))
    if spread < _NOTHING:
        return 0.0 if first.mean() - second.mean() > _NOTHING else 1.0
    if paired:
        return float(ttest_rel(first, second, alternative="greater").pvalue)
    return float(ttest_ind(first, second, equal_var=False, alternative="greater").pvalue)


def _by_set(score: Score) -> np.ndarray:
    """The mean accuracy of each set, of shape (sets,); for a single set the accuracy of each run."""
    accuracies = np.array(score.accuracies)
    if score.sets == 1:
        return accuracies
    return np.array(
        [accuracies[place :: score.sets].mean() for place in range(min(score.sets, len(accuracies)))]
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Corrects p values for there being several of them (Holm, 1979).

    The i-th smallest of m, from i = 1, is multiplied by m - i + 1; none becomes smaller than one before it or larger than 1.

    Returns:
        The corrected values, in the order of the given ones.

    Example:
        >>> holm([0.25, 0.125])
        [0.25, 0.25]
    """
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda place: p_values[place])):
        largest = max(largest, min(1.0, p_values[place] * (len(p_values) - rank)))
        corrected[place] = largest
    return corrected
