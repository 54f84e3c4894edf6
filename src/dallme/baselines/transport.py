"""Core-sets by weighted optimal transport: rows count by their gradients along the training of a probe."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.special import logsumexp, softmax
from sklearn.cluster import KMeans

from dallme.baselines.coreset import CoreSet, check_classes
from dallme.errors import InputError
from dallme.validation import check_positive

#: Most rows of a class that are transported; of larger classes a weighted sample is.
MAX_ROWS = 20_000

#: Learning rate of the probe, rounds of moving the points, and iterations of Sinkhorn in each.
_RATE, _ROUNDS, _SINKHORN = 2.0, 10, 50


@dataclass(frozen=True)
class OptimalTransportBaseline(CoreSet):
    """The rows nearest to the points to which the weighted rows of a class are transported most cheaply.

    A softmax probe is trained on all vectors by gradient descent from zero. The weight of row i sums its
    gradient norms along the way, early steps the most ::

        w_i = sum_t decay^t || p_t(x_i) - y_i || || x_i ||

    Within a class the weights are divided by their sum. `count` points, each of mass 1 / count, start from
    weighted k-means and move to the means of what is transported to them. The plan minimises the squared
    distance with an entropic penalty (Sinkhorn; Cuturi, NeurIPS 2013). Each point is replaced by a row of its
    own, all together as near as possible.

    This follows the description of selection by training trajectory and optimal transport of Nguyen et al.,
    "TAKE" (arXiv 2607.11898, 2026). It was written without their code; their choice of constants may differ.

    Strong where typical rows of every mode are wanted in proportion. Weak with label noise, since mislabelled
    rows have large gradients.

    Attributes:
        steps: Number of steps of the probe.
        decay: Factor by which a step counts less than the one before, in (0, 1].
        penalty: Entropic penalty, as a share of the mean squared distance to the nearest point.
    """

    steps: int = 20
    decay: float = 0.9
    penalty: float = 0.1

    varies = True

    def __post_init__(self) -> None:
        """Checks the options."""
        check_positive(self.steps, "steps")
        if not 0 < self.decay <= 1:
            raise InputError(f"expected decay in (0, 1], found {self.decay!r}")
        if not self.penalty > 0:
            raise InputError(f"expected a penalty above 0, found {self.penalty!r}")

    def _features(self, vectors: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Returns the vectors with the weight of each row before them, of shape (n, 1 + d)."""
        weights = trajectory_weights(vectors, labels, self.steps, self.decay)
        return np.column_stack([weights, vectors]).astype(np.float64)

    def _choose(self, features: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
        weights, vectors = features[:, 0], features[:, 1:]
        weights = np.maximum(weights, 1e-12) / np.maximum(weights, 1e-12).sum()
        rows = np.arange(len(vectors))
        if len(rows) > MAX_ROWS:
            rows = np.sort(rng.choice(len(rows), MAX_ROWS, replace=False, p=weights))
            weights = np.full(len(rows), 1 / len(rows))  # the draw has the weights in it
        moved = self._points(vectors[rows], weights, count, rng)
        # A point may stand for any of its nearest rows; `count` of them suffice for a row each.
        distances = _squared_distances(moved, vectors)
        near = np.unique(np.argpartition(distances, count - 1, axis=1)[:, :count])
        points, chosen = linear_sum_assignment(distances[:, near])
        assert len(points) == count
        rows_of_points: np.ndarray = near[chosen]
        return rows_of_points

    def _points(
        self, vectors: np.ndarray, weights: np.ndarray, count: int, rng: np.random.Generator
    ) -> np.ndarray:
        """Returns the points to which the mass is transported, of shape (count, d)."""
        seed = int(rng.integers(2**31))
        clusters = KMeans(count, n_init=1, max_iter=50, random_state=seed)
        points: np.ndarray = clusters.fit(vectors, sample_weight=weights * len(vectors)).cluster_centers_
        for _ in range(_ROUNDS):
            plan = transport_plan(_squared_distances(vectors, points), weights, self.penalty)
            points = (plan.T @ vectors) * count
        return points


def trajectory_weights(vectors: np.ndarray, labels: np.ndarray, steps: int, decay: float) -> np.ndarray:
    """Sums the gradient norms of each row along the training of a probe, early steps the most.

    Returns:
        float64 of shape (n,).
    """
    classes = check_classes(labels)
    targets = (labels[:, None] == classes).astype(np.float64)
    inputs = vectors.astype(np.float64)
    lengths = np.linalg.norm(inputs, axis=1)
    probe, sums = np.zeros((inputs.shape[1], len(classes))), np.zeros(len(inputs))
    rate = _RATE / max(float(np.mean(lengths**2)), 1e-12)
    for step in range(steps):
        errors = softmax(inputs @ probe, axis=1) - targets
        sums += decay**step * np.linalg.norm(errors, axis=1) * lengths
        probe -= rate * inputs.T @ errors / len(inputs)
    return sums


def transport_plan(costs: np.ndarray, weights: np.ndarray, penalty: float) -> np.ndarray:
    """Computes the entropic transport plan from weighted rows to points of equal mass.

    Args:
        costs: Cost of a unit of mass from each row to each point, of shape (n, k).
        weights: Mass of each row, of sum 1.
        penalty: Entropic penalty, as a share of the mean cost to the nearest point.

    Returns:
        Mass from each row to each point, of shape (n, k); its columns sum to 1 / k.
    """
    kernel = -costs / max(penalty * float(costs.min(axis=1).mean()), 1e-12)
    rows, points = np.zeros(len(costs)), np.zeros(costs.shape[1])
    for _ in range(_SINKHORN):
        rows = np.log(weights) - logsumexp(kernel + points, axis=1)
        points = -np.log(costs.shape[1]) - logsumexp(kernel + rows[:, None], axis=0)
    return np.asarray(np.exp(kernel + rows[:, None] + points))


def _squared_distances(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    squares = (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1) - 2 * left @ right.T
    return np.maximum(squares, 0.0)
