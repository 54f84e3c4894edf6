"""A mixture of Gaussians per class: the component means are the prototypes (section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn import mixture

from dallme.condensers.base import Cluster, Condenser
from dallme.condensers.partition import fill_empty, members_of, reproducible
from dallme.errors import InputError, UnknownNameError

COVARIANCE_TYPES = ("diag", "spherical", "tied", "full")


@dataclass(frozen=True)
class GaussianMixture(Condenser):
    """Condenses each class to the component means of a Gaussian mixture, fitted by expectation-maximisation.

    The density of the mixture is the sum over j of w_j N(x; m_j, S_j). The responsibility of component j for
    row x is its share of that sum. The prototype is m_j, its weight the sum of its responsibilities over the
    rows of the class. Its members are the rows for which no other component has a larger responsibility.

    The paper saw no significant difference to `k-centroid`. Prefer this one if clusters overlap and a row
    should count for several prototypes. It needs a float64 copy of the class and rows × clusters
    responsibilities.

    Attributes:
        covariance_type: As in scikit-learn. ``diag`` has d variances a component. ``full`` has d (d + 1) / 2
            values (73,920 at d = 384), more than the rows of a cluster determine. Each of its steps costs k
            d^3.
        regularization: Added to each variance, as a share of the class's mean variance, so that a component
            of few or equal rows does not collapse onto them.
    """

    covariance_type: str = "diag"
    regularization: float = 0.1

    def __post_init__(self) -> None:
        """Checks the options."""
        if self.covariance_type not in COVARIANCE_TYPES:
            raise UnknownNameError("covariance_type", self.covariance_type, COVARIANCE_TYPES)
        if not 0 < self.regularization < np.inf:
            raise InputError(f"expected regularization above 0, such as 0.1, found {self.regularization!r}")

    def _condense_class(self, vectors: np.ndarray, count: int, rng: np.random.Generator) -> list[Cluster]:
        seed = int(rng.integers(2**31))
        if count == len(vectors):  # includes a single row, which scikit-learn refuses
            return [
                Cluster(row, np.array([i]), 1.0, np.ones(1, dtype=np.float32))
                for i, row in enumerate(vectors)
            ]
        means, shares = self._fit(vectors.astype(np.float64), count, seed)
        labels = fill_empty(vectors, shares.argmax(axis=1), count)
        weights = shares.sum(axis=0)
        return [
            Cluster(means[j], members, float(weights[j]), shares[members, j].astype(np.float32))
            for j, members in enumerate(members_of(labels, count))
        ]

    def _fit(self, vectors: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the means, float32 of shape (count, d), and responsibilities, of shape (n, count)."""
        model = mixture.GaussianMixture(
            count,
            covariance_type=self.covariance_type,
            reg_covar=max(self.regularization * float(vectors.var(axis=0).mean()), 1e-9),
            random_state=seed,
        )
        with reproducible():
            shares = model.fit(vectors).predict_proba(vectors)
        return model.means_.astype(np.float32), shares / shares.sum(axis=1, keepdims=True)
