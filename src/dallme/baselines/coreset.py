"""Core-set selection: the shared base class, herding and k-center."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression

from dallme.baselines.base import Baseline
from dallme.classifiers.base import fit_sklearn
from dallme.data import LabelledTexts, LabelledVectors
from dallme.errors import InputError
from dallme.validation import check_vectors


@dataclass(frozen=True)
class CoreSet(Baseline):
    """Selection of rows by their vectors, class by class.

    Rows that repeat an earlier text of their class are not candidates. A subclass implements :meth:`_choose`,
    and :meth:`_features` if it does not use the vectors themselves. Memory: the vectors and a copy of the
    largest class.
    """

    varies = False

    def _select(
        self,
        texts: LabelledTexts,
        vectors: LabelledVectors | None,
        budget: Mapping[int, int],
        rng: np.random.Generator,
    ) -> LabelledTexts:
        if vectors is None:
            raise InputError("expected one vector per text, found none; embed the texts before this baseline")
        matrix = check_vectors(vectors.vectors, rows=len(texts))
        candidates = {label: _distinct_rows(texts, label, count) for label, count in budget.items()}
        features = self._features(matrix, texts.labels, rng)
        chosen = [
            rows[self._choose(features[rows], budget[label], rng)] for label, rows in candidates.items()
        ]
        return texts.take(np.concatenate(chosen))

    def _features(self, vectors: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Computes the features to choose by, of shape (n, ...): the vectors themselves by default."""
        return vectors

    @abstractmethod
    def _choose(self, features: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
        """Chooses `count` different positions from the features of one class, in order of choice."""


@dataclass(frozen=True)
class RankedCoreSet(CoreSet):
    """The rows of each class with the highest scores; the earlier row wins a tie."""

    @abstractmethod
    def _features(self, vectors: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Computes the scores, of shape (n,)."""

    def _choose(self, features: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
        return np.argsort(-features, kind="stable")[:count]


def probe_probabilities(vectors: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Predicts class probabilities with a linear probe, logistic regression trained on all rows.

    Returns:
        float64 of shape (n, classes), in the order of the class ids.

    Raises:
        InputError: If there is only one class.
    """
    check_classes(labels)
    probe = fit_sklearn(LogisticRegression(max_iter=1000), vectors, labels)
    return np.asarray(probe.predict_proba(vectors), dtype=np.float64)


def check_classes(labels: np.ndarray) -> np.ndarray:
    """Returns the sorted class ids.

    Raises:
        InputError: If there is only one class, which no probe can be trained on.
    """
    classes = np.unique(labels)
    if len(classes) < 2:
        raise InputError(
            f"expected at least 2 classes to train a probe, found {len(classes)}; use another baseline"
        )
    return classes


def _distinct_rows(texts: LabelledTexts, label: int, count: int) -> np.ndarray:
    """Returns the first row of each different text of a class."""
    first: dict[str, int] = {}
    for row in np.flatnonzero(texts.labels == label).tolist():
        first.setdefault(texts.texts[row], row)
    if len(first) < count:
        raise InputError(
            f"expected at least {count} different texts in class {label}, found {len(first)}; ask for fewer"
        )
    return np.fromiter(first.values(), dtype=np.int64)


@dataclass(frozen=True)
class HerdingBaseline(CoreSet):
    """Greedy matching of the class mean: each row brings the mean of the chosen rows nearest to it.

    With mu the class mean and s the sum of the t - 1 rows chosen so far, the next row is ::

        argmin_x || mu - (s + x) / t ||  =  argmin_x || x ||^2 - 2 x . (t mu - s)

    For vectors of length 1 this is Welling's rule, argmax_x x . w with w = t mu - s. Cost: O(n d) per chosen
    row.

    Strong with a handful of texts: the first is the most typical, the next balance it. Weak if a class has
    several distant modes, as the mean says little about them, and rare modes are never chosen.

    References: Welling, "Herding Dynamical Weights to Learn", ICML 2009; Chen, Welling and Smola,
    "Super-Samples from Kernel Herding", UAI 2010.
    """

    def _choose(self, features: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
        mean = features.mean(axis=0, dtype=np.float64)
        total = np.zeros_like(mean)
        squares = np.einsum("ij,ij->i", features, features)
        chosen: list[int] = []
        for size in range(1, count + 1):
            costs = squares - 2 * (features @ (size * mean - total).astype(features.dtype))
            costs[chosen] = np.inf
            best = int(costs.argmin())
            chosen.append(best)
            total += features[best]
        return np.array(chosen)


@dataclass(frozen=True)
class KCenterBaseline(CoreSet):
    """Greedy k-center: each row is the one farthest from all chosen rows.

    It starts at the row nearest to the class mean and minimises the largest distance of a row to its nearest
    chosen row, ::

        max_i min_{j in S} || x_i - x_j ||

    within a factor of two of the optimum (Gonzalez, 1985). Cost: O(n d) per chosen row.

    Strong if every region of a class must be covered and the budget suffices for it. Weak with few texts or
    noise: the farthest row is often an outlier or mislabelled.

    Reference: Sener and Savarese, "Active Learning for Convolutional Neural Networks: A Core-Set Approach",
    ICLR 2018.
    """

    def _choose(self, features: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
        mean = features.mean(axis=0, dtype=np.float64).astype(features.dtype)
        squares = np.einsum("ij,ij->i", features, features)
        chosen = [int((squares - 2 * (features @ mean)).argmin())]
        nearest = np.full(len(features), np.inf, dtype=features.dtype)  # squared distance to the chosen rows
        while len(chosen) < count:
            last = chosen[-1]
            np.minimum(nearest, squares - 2 * (features @ features[last]) + squares[last], out=nearest)
            nearest[last] = -np.inf
            chosen.append(int(nearest.argmax()))
        return np.array(chosen)
