"""Submodular functions: what one more row adds shrinks with those that are there already."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dallme.baselines.coreset import CoreSet
from dallme.errors import InputError
from dallme.validation import check_positive

#: Candidates whose similarities are computed at once when all are looked at.
_BLOCK = 1024

#: Candidates that are looked at again at once when the best is no longer known to be the best.
_AGAIN = 64


@dataclass(frozen=True)
class FacilityLocationBaseline(CoreSet):
    """Takes the rows that cover the class: every row should be similar to one of them.

    It maximises, greedily, with the cosine as similarity, ::

        f(S) = sum_i max(0, max_{j in S} cos(x_i, x_j))

    f is submodular and grows, so that the greedy choice is worth at least 1 - 1/e of the best (Nemhauser,
    Wolsey & Fisher, 1978). It is the lazy one of Minoux (1978): a gain can only shrink, so a candidate is
    looked at again only when its last gain is the highest; the choice is that of the plain greedy algorithm.
    Two rows that cover nobody but each other gain the same: gains are compared to four decimals, and the
    earlier of equal ones is taken.

    There is no n x n matrix: similarities are computed for 1,024 candidates by at most `sample` rows at a
    time, 16 MiB with the default, beside two copies of the vectors of the class. In a class of more rows the
    sum goes over `sample` of them, drawn with the seed; all remain candidates. Two draws cover nearly alike,
    so that one (`varies` is False) is enough.

    Strong over a wide range of budgets, as it looks at both the crowd and the spread. Weak where the classes
    overlap: it sees one at a time, and says nothing of where they part.

    Attributes:
        sample: Most rows of a class that the sum goes over, at least 1.
    """

    sample: int = 4096

    def __post_init__(self) -> None:
        """Checks the option."""
        check_positive(self.sample, "sample")

    def _choose(self, seen: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
        rows = _unit(seen)
        covered = (
            rows
            if len(rows) <= self.sample
            else rows[np.sort(rng.choice(len(rows), self.sample, replace=False))]
        )
        best = np.zeros(len(covered), dtype=rows.dtype)  # how well each row is covered so far

        def gains(candidates: np.ndarray) -> np.ndarray:
            similar = rows[candidates] @ covered.T
            similar -= best
            return np.asarray(np.maximum(similar, 0, out=similar).sum(axis=1, dtype=np.float64).round(4))

        def add(row: int) -> None:
            np.maximum(best, covered @ rows[row], out=best)

        return _lazy_greedy(len(rows), count, gains, add)


@dataclass(frozen=True)
class GraphCutBaseline(CoreSet):
    """Takes rows that are similar to the whole class and not to each other.

    It maximises, greedily, with the cosine as similarity and V all rows of the class, ::

        f(S) = sum_{i in V, j in S} cos(x_i, x_j) - redundancy * sum_{j, k in S} cos(x_j, x_k)

    (Iyer et al., Submodular Combinatorial Information Measures with Applications in Machine Learning, 2021).
    Both sums come from the sum of the vectors of the class and that of the chosen ones: O(n d) a row chosen,
    no similarities are kept.

    Strong where a class is one crowd with noise around it, which it avoids. Weak where few are chosen of
    many: the first sum has n terms a row and the second as many as are chosen, so that the rows crowd around
    the mean of the class; a `redundancy` of about rows / texts makes up for it.

    Attributes:
        redundancy: Weight of the second sum, at least 0; up to 1/2 f grows with every row if no cosine is
            negative.
    """

    redundancy: float = 1.0

    def __post_init__(self) -> None:
        """Checks the option."""
        if not (math.isfinite(self.redundancy) and self.redundancy >= 0):
            raise InputError(f"expected redundancy to be a number of at least 0, found {self.redundancy!r}")

    def _choose(self, seen: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
        rows = _unit(seen)
        total = rows.sum(axis=0, dtype=np.float64).astype(rows.dtype)
        file_lock = rows @ total - self.redundancy * np.einsum("ij,ij->i", rows, rows)
        similar = np.zeros_like(file_lock)  # sum of the similarities to the chosen rows
        chosen: list[int] = []
        for _ in range(count):
            gains = file_lock - 2 * self.redundancy * similar
            gains[chosen] = -np.inf
            chosen.append(int(gains.argmax()))
            similar += rows @ rows[chosen[-1]]
        return np.array(chosen)


def _unit(vectors: np.ndarray) -> np.ndarray:
    """The vectors with length 1; those of zeros stay as they are."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths == 0, 1, lengths))


def _lazy_greedy(
    rows: int, count: int, gains: Callable[[np.ndarray], np.ndarray], add: Callable[[int], None]
) -> np.ndarray:
    """Chooses `count` of `rows` rows, each time the one with the highest gain, the first of equal ones.

    Args:
        rows: How many there are.
        count: How many are chosen.
        gains: Positions to what each would add now; never more than it would have added before.
        add: Takes a row among the chosen ones.
    """
    starts = range(0, rows, _BLOCK)
    bounds = np.concatenate([gains(np.arange(start, min(start + _BLOCK, rows))) for start in starts])
    known = np.ones(rows, dtype=bool)  # whether the bound is what the row would add now
    chosen: list[int] = []
    while True:
        best = int(bounds.argmax())
        if known[best]:
            chosen.append(best)
            if len(chosen) == count:
                return np.array(chosen)
            add(best)
            bounds[best] = -np.inf
            known[:] = False
            continue
        highest = np.argpartition(-bounds, min(_AGAIN, rows) - 1)[:_AGAIN]
        again = np.union1d(highest[~known[highest] & np.isfinite(bounds[highest])], [best])
        bounds[again] = gains(again)
        known[again] = True
