"""Significance of differences between two scores, and Holm's correction."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dallme.evaluation.evaluate import Score

#: Differences below this are rounding errors.
_ROUNDING = 1e-12


def better(a: Score, b: Score) -> float | None:
    """Tests whether the accuracy of `a` is higher than that of `b`.

    The test is a paired t-test over runs if both scores have the same number of runs under the same seeds,
    and Welch's t-test otherwise. Models trained on one set are not independent: each set counts once, with
    the mean of its models.

    The test assumes that sets are independent of each other and accuracies (or differences) roughly normal.
    For a method that makes a single set, models take the place of sets. All runs share one test set: p says
    nothing about other test sets.

    Returns:
        The one-sided p; None if either score has a single run. Without any variance, 0 if `a` is higher and 1
        if not.
    """
    from scipy.stats import ttest_ind, ttest_rel

    first, second = _accuracy_by_set(a), _accuracy_by_set(b)
    if min(len(first), len(second)) < 2:
        return None
    paired = bool(a.seeds) and a.seeds == b.seeds and len(first) == len(second)
    spread = np.ptp(first - second) if paired else max(np.ptp(first), np.ptp(second))
    if spread < _ROUNDING:
        return 0.0 if first.mean() - second.mean() > _ROUNDING else 1.0
    if paired:
        return float(ttest_rel(first, second, alternative="greater").pvalue)
    return float(ttest_ind(first, second, equal_var=False, alternative="greater").pvalue)


def _accuracy_by_set(score: Score) -> np.ndarray:
    """Returns the mean accuracy of each set, of shape (sets,); for a single set the accuracy of each run."""
    accuracies = np.array(score.accuracies)
    if score.sets == 1:
        return accuracies
    return np.array(
        [accuracies[index :: score.sets].mean() for index in range(min(score.sets, len(accuracies)))]
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Corrects p values for multiple comparisons (Holm, 1979).

    The i-th smallest of m values, counted from 1, is multiplied by m - i + 1. The corrected values are
    non-decreasing in that order and at most 1.

    Returns:
        The corrected values, in the order of `p_values`.

    Example:
        >>> holm([0.25, 0.125])
        [0.25, 0.25]
    """
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, p_values[index] * (len(p_values) - rank)))
        corrected[index] = largest
    return corrected
