"""How many texts are enough: where a curve bends, and where it reaches a share of the full data's accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dallme.errors import InputError
from dallme.evaluation.curve import Curve
from dallme.evaluation.steps import Step

#: Fewest budgets that a knee can be told from.
FEWEST = 3

#: Distances that are rounding errors.
_TINY = 1e-9


def find_knee(sizes: Sequence[float], accuracies: Sequence[float] | np.ndarray) -> int | None:
    """Finds the size after which more is hardly worth it.

    The accuracies are made monotone by their running maximum; both axes, the sizes as logarithms, are scaled to [0, 1]. The
    knee is the point that lies highest above the chord from the first to the last (Satopää et al., 2011, "Finding a
    'Kneedle' in a Haystack").

    Args:
        sizes: At least 1 each, increasing.
        accuracies: One a size.

    Returns:
        Its position: the first if nothing is gained by any other; None with fewer than three sizes, and if no point lies
        above the chord.

    Example:
        >>> find_knee([1, 10, 100, 1000], [0.5, 0.8, 0.81, 0.82])
        1
    """
    if len(sizes) < FEWEST:
        return None
    x, y = np.log(np.asarray(sizes, dtype=float)), np.maximum.accumulate(np.asarray(accuracies, dtype=float))
    if y[-1] == y[0]:
        return 0
    above = (y - y[0]) / (y[-1] - y[0]) - (x - x[0]) / (x[-1] - x[0])
    return int(np.flatnonzero(above >= above.max() - _TINY)[0]) if above.max() > _TINY else None


def find_level(sizes: Sequence[float], accuracies: Sequence[float] | np.ndarray, level: float) -> tuple[int | None, float | None]:
    """Finds the smallest size that reaches a level.

    Args:
        sizes: Increasing.
        accuracies: One a size.
        level: What to reach.

    Returns:
        The position of the first that reaches it, None if there is none; and the size between it and the one before at
        which a straight line reaches it, None if there is none before.
    """
    reached = np.flatnonzero(np.asarray(accuracies) >= level - _TINY)
    if not len(reached):
        return None, None
    first = int(reached[0])
    if not first:
        return 0, None
    low, high = accuracies[first - 1], accuracies[first]
    share = min(1.0, float((level - low) / (high - low)))
    return first, float(sizes[first - 1] + share * (sizes[first] - sizes[first - 1]))


@dataclass(frozen=True)
class Finding:
    """A budget that was found on a curve.

    Attributes:
        method: The method whose curve it is, averaged over the classifiers.
        words: What was found, as a sentence.
        step: The measured budget, or None if there is none.
        accuracy: Accuracy at that budget.
        recovered: The same as a share of the full data's.
        interpolated_texts: Texts in all at which a straight line between measured budgets reaches what was asked for.
    """

    method: str
    words: str
    step: Step | None = None
    accuracy: float | None = None
    recovered: float | None = None
    interpolated_texts: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """The fields of the command line's JSON."""
        step = self.step
        return {
            "method": self.method,
            "per_class": step.budget.per_class if step else None,
            "texts": step.texts if step else None,
            "ratio": step.ratio if step else None,
            "accuracy": self.accuracy,
            "recovered": self.recovered,
            "interpolated_texts": self.interpolated_texts,
            "words": self.words,
        }


def knee(curve: Curve, method: str) -> Finding:
    """The budget after which more texts are hardly worth it; see :func:`find_knee`."""
    place = find_knee([step.texts for step in curve.steps], curve.average(method))
    if place is not None:
        return _at(curve, method, place, f"{method}: knee at")
    if len(curve.steps) < FEWEST:
        return Finding(method, f"{method}: no knee, which takes at least {FEWEST} budgets, found {len(curve.steps)}")
    return Finding(method, f"{method}: no knee: up to {curve.steps[-1].words} the gain does not slow down")


def smallest_recovering(curve: Curve, method: str, share: float) -> Finding:
    """The smallest measured budget that recovers a share of the full data's accuracy; see :func:`find_level`.

    Raises:
        InputError: If the share is not in (0, 1].
    """
    check_share(share)
    goal = f"{method}: {100 * share:.3g}% of the full data's accuracy"
    accuracies, sizes = curve.average(method), [step.texts for step in curve.steps]
    place, between = find_level(sizes, accuracies, share * curve.full_accuracy)
    if place is None:
        most = _at(curve, method, int(np.argmax(accuracies)), "the most is at")
        return Finding(method, f"{goal} is not reached; {most.words}")
    end = "" if between is None else f"; on a line between the measured, at {between:,.0f} texts in all"
    return _at(curve, method, place, f"{goal} at", end, between)


def check_share(share: float) -> None:
    """Checks a share that is to be recovered.

    Raises:
        InputError: If it is not in (0, 1].
    """
    if not 0 < share <= 1:
        raise InputError(f"expected the share to recover in (0, 1], found {share!r}")


def _at(curve: Curve, method: str, place: int, start: str, end: str = "", between: float | None = None) -> Finding:
    """What stands at a step of a method's average curve."""
    step, accuracy, full = curve.steps[place], float(curve.average(method)[place]), curve.full_accuracy
    share = accuracy / full if full else None
    of_full = "" if share is None else f" ({share:.1%} of full data)"
    return Finding(method, f"{start} {step.words}: {accuracy:.3f}{of_full}{end}", step, accuracy, share, between)
