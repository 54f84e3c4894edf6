"""Submodular core-sets: the gain of a row falls as more rows are chosen."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dallme.baselines.coreset import CoreSet
from dallme.errors import InputError
from dallme.validation import check_positive

#: Candidates whose gains are computed at once in the first pass.
_BLOCK = 1024

#: Candidates whose gains are updated at once in later passes.
_AGAIN = 64


@dataclass(frozen=True)
class FacilityLocationBaseline(CoreSet):
    """Core-set that maximises facility-location coverage: every row is similar to a chosen one.

    With the cosine as similarity, it greedily maximises ::

        f(S) = sum_i max(0, max_{j in S} cos(x_i, x_j))

    f is monotone submodular, so the greedy choice reaches at least 1 - 1/e of the optimum. The implementation
    is the lazy greedy algorithm: a gain can only shrink, so a candidate is updated only if its last gain is
    the highest. The choice is that of the plain greedy algorithm. Gains are compared to four decimals, as two
    rows that cover only each other have equal gains; the earlier of equals is chosen.

    Similarities are computed in blocks of 1,024 candidates by at most `sample` rows, 16 MiB by default.
    Memory is that and two copies of the vectors of the class. In a larger class the sum is over `sample`
    random rows, and all rows remain candidates; then different seeds choose different rows.

    Strong over a wide range of budgets, as it weighs density and spread. Weak if classes overlap, as it sees
    one class at a time.

    References: Nemhauser, Wolsey and Fisher, "An analysis of approximations for maximizing submodular set
    functions", 1978; Minoux, "Accelerated greedy algorithms for maximizing submodular set functions", 1978.

    Attributes:
        sample: Maximum number of rows per class in the sum, at least 1.
    """

    varies = True

    sample: int = 4096

    def __post_init__(self) -> None:
        """Checks the option."""
        check_positive(self.sample, "sample")

    def _choose(self, features: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
        rows = _normalize(features)
        covered = rows
        if len(rows) > self.sample:
            covered = rows[np.sort(rng.choice(len(rows), self.sample, replace=False))]
        best = np.zeros(len(covered), dtype=rows.dtype)  # coverage of each row so far

        def gains(candidates: np.ndarray) -> np.ndarray:
            similar = rows[candidates] @ covered.T
            similar -= best
            return np.asarray(np.maximum(similar, 0, out=similar).sum(axis=1, dtype=np.float64).round(4))

        def add(row: int) -> None:
            np.maximum(best, covered @ rows[row], out=best)

        return _lazy_greedy(len(rows), count, gains, add)


@dataclass(frozen=True)
class GraphCutBaseline(CoreSet):
    """Core-set that maximises a graph cut: rows similar to the whole class and not to each other.

    With the cosine as similarity and V all rows of the class, it greedily maximises ::

        f(S) = sum_{i in V, j in S} cos(x_i, x_j) - redundancy * sum_{j, k in S} cos(x_j, x_k)

    Both sums follow from the sum of the vectors of the class and of the chosen rows. Cost: O(n d) per chosen
    row, without a similarity matrix.

    Strong if a class is one dense region with noise around it, which it avoids. Weak if few rows are chosen
    of many: the first sum dominates, and the rows crowd around the class mean. A `redundancy` of about
    rows / texts balances the sums.

    Reference: Iyer et al., "Submodular Combinatorial Information Measures with Applications in Machine
    Learning", ALT 2021.

    Attributes:
        redundancy: Weight of the second sum, at least 0. Up to 0.5, f is monotone if no cosine is negative.
    """

    redundancy: float = 1.0

    def __post_init__(self) -> None:
        """Checks the option."""
        if not (math.isfinite(self.redundancy) and self.redundancy >= 0):
            raise InputError(f"expected redundancy to be a number of at least 0, found {self.redundancy!r}")

    def _choose(self, features: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
        rows = _normalize(features)
        total = rows.sum(axis=0, dtype=np.float64).astype(rows.dtype)
        relevance = rows @ total - self.redundancy * np.einsum("ij,ij->i", rows, rows)
        similar = np.zeros_like(relevance)  # sum of the similarities to the chosen rows
        chosen: list[int] = []
        for _ in range(count):
            gains = relevance - 2 * self.redundancy * similar
            gains[chosen] = -np.inf
            chosen.append(int(gains.argmax()))
            similar += rows @ rows[chosen[-1]]
        return np.array(chosen)


@dataclass(frozen=True)
class LogDeterminantBaseline(CoreSet):
    """Core-set that maximises a log-determinant: rows that differ from each other.

    With K_S the cosines of the chosen rows, it greedily maximises ::

        f(S) = log det(I + K_S / ridge)

    f is monotone submodular. The gain of a row is the logarithm of its residual variance given the chosen
    rows, which one step of an incomplete Cholesky factorisation updates. Cost: O(n d + n t) for the t-th row.

    Strong if the rows must be diverse, and as the mode of a determinantal point process. Weak with few texts
    or noise, since outliers differ most; `facility-location` weighs density as well.

    Reference: Chen, Zhang and Zhou, "Fast Greedy MAP Inference for Determinantal Point Process to Improve
    Recommendation Diversity", NeurIPS 2018.

    Attributes:
        ridge: Noise variance of a row, greater than 0. The larger it is, the more similar rows may be.
    """

    ridge: float = 1.0

    def __post_init__(self) -> None:
        """Checks the option."""
        if not (math.isfinite(self.ridge) and self.ridge > 0):
            raise InputError(f"expected ridge to be a number greater than 0, found {self.ridge!r}")

    def _choose(self, features: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
        rows = _normalize(features.astype(np.float64))  # lengths of 1 to more than nine decimals
        variance = 1 + np.einsum("ij,ij->i", rows, rows) / self.ridge
        factors = np.zeros((count, len(rows)))
        chosen: list[int] = []
        for size in range(count):
            gains = variance.round(9)  # the earlier of equals, whatever the rounding errors
            gains[chosen] = -np.inf
            best = int(gains.argmax())
            chosen.append(best)
            covariance = rows @ rows[best] / self.ridge - factors[:size].T @ factors[:size, best]
            factors[size] = covariance / math.sqrt(variance[best])
            variance = variance - factors[size] ** 2
        return np.array(chosen)


def _normalize(vectors: np.ndarray) -> np.ndarray:
    """Scales vectors to length 1; zeros stay."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths == 0, 1, lengths))


def _lazy_greedy(
    rows: int, count: int, gains: Callable[[np.ndarray], np.ndarray], add: Callable[[int], None]
) -> np.ndarray:
    """Chooses `count` of `rows` rows, each time the one with the highest gain; the first of equals.

    Args:
        rows: Number of rows.
        count: Number of rows to choose.
        gains: Computes the current gain of each position; a gain never grows.
        add: Adds a row to the chosen ones.
    """
    starts = range(0, rows, _BLOCK)
    bounds = np.concatenate([gains(np.arange(start, min(start + _BLOCK, rows))) for start in starts])
    known = np.ones(rows, dtype=bool)  # whether the bound is the current gain
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
