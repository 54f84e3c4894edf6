"""A linear map from one embedder's space to another's, so that an inverter trained for one decodes the vectors of both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dallme.errors import InputError
from dallme.validation import check_seed, check_vectors

#: Strengths of the penalty that are tried, for centred vectors of length about 1.
ALPHAS = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0)

#: A fifth of the rows is held out to choose the penalty, this many at most.
MAX_HELD_OUT = 5_000

#: Fewest rows that a map is fitted on.
MIN_ROWS = 10


@dataclass(frozen=True, eq=False)
class Alignment:
    """A ridge map between two spaces, and what it is worth.

    Attributes:
        matrix: float32 of shape (d, e).
        source_mean: Mean of the vectors that are mapped, float32 of shape (d,).
        target_mean: Mean of the vectors that they are mapped to, float32 of shape (e,).
        alpha: The penalty, chosen on held-out rows.
        cosine: Mean cosine of mapped held-out rows to their own vectors in the other space.
        chance: Mean cosine of mapped held-out rows to the vectors of other rows.
    """

    matrix: np.ndarray
    source_mean: np.ndarray
    target_mean: np.ndarray
    alpha: float
    cosine: float
    chance: float

    def map(self, vectors: np.ndarray) -> np.ndarray:
        """Maps vectors of shape (n, d) into the other space: float32 of shape (n, e), of length 1."""
        return _unit((vectors - self.source_mean) @ self.matrix + self.target_mean)


def fit_alignment(vectors: np.ndarray, targets: np.ndarray, seed: int) -> Alignment:
    """Fits a map from the vectors of some texts by one embedder to those of the same texts by another.

    ``minimise ||(X - mean X) W - (Y - mean Y)||^2 + alpha ||W||^2``; alpha is the one whose mapped held-out rows have the
    largest mean cosine to their own vectors. The map itself is fitted on all rows; the cosines are of the map without the
    held-out ones.

    Args:
        vectors: float32 of shape (n, d).
        targets: float32 of shape (n, e), row by row.
        seed: Seed of the choice of held-out rows.

    Raises:
        InputError: If the rows are not as many, or fewer than ten.
    """
    check_seed(seed)
    vectors = check_vectors(vectors)
    targets = check_vectors(targets, rows=len(vectors), what="vectors to map to")
    if len(vectors) < MIN_ROWS:
        raise InputError(
            f"expected at least {MIN_ROWS} texts to fit a map between embedders, found {len(vectors)}"
        )
    order = np.random.default_rng(seed).permutation(len(vectors))
    count = min(MAX_HELD_OUT, len(vectors) // 5)
    held_out, rest = order[:count], order[count:]
    tried = [_fit(vectors[rest], targets[rest], alpha) for alpha in ALPHAS]
    scored = [_cosines(mapping, vectors[held_out], targets[held_out]) for mapping in tried]
    best = int(np.argmax([cosine for cosine, _ in scored]))
    cosine, chance = scored[best]
    mapping = _fit(vectors, targets, ALPHAS[best])
    return Alignment(mapping.matrix, mapping.source_mean, mapping.target_mean, ALPHAS[best], cosine, chance)


def _fit(vectors: np.ndarray, targets: np.ndarray, alpha: float) -> Alignment:
    from sklearn.linear_model import Ridge

    source_mean, target_mean = vectors.mean(axis=0), targets.mean(axis=0)
    ridge = Ridge(alpha=alpha, fit_intercept=False).fit(vectors - source_mean, targets - target_mean)
    matrix = np.ascontiguousarray(
        np.reshape(ridge.coef_, (targets.shape[1], vectors.shape[1])).T, dtype=np.float32
    )
    return Alignment(matrix, source_mean, target_mean, alpha, float("nan"), float("nan"))


def _cosines(mapping: Alignment, vectors: np.ndarray, targets: np.ndarray) -> tuple[float, float]:
    """Mean cosine of mapped rows to their own vectors, and to those of the other rows."""
    return matched_and_mismatched(mapping.map(vectors), targets)


def matched_and_mismatched(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """Mean cosine of rows to the same rows of another matrix, and to all of its other rows.

    Args:
        first: float32 of shape (n, d), n >= 2.
        second: float32 of shape (n, d).
    """
    first, second = _unit(first), _unit(second)
    matched = float((first * second).sum(axis=1).mean())
    everything = float(
        first.mean(axis=0) @ second.mean(axis=0)
    )  # the mean over all pairs, without an (n, n) matrix
    count = len(first)
    return matched, (everything * count - matched) / (count - 1)


def _unit(vectors: np.ndarray) -> np.ndarray:
    """The vectors scaled to length 1; zeros stay zeros."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths == 0, 1, lengths), dtype=np.float32)
