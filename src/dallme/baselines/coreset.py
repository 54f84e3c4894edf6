"""What core-set baselines share: the vectors must be there, classes are looked at one by one, no text is taken twice."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression

from dallme.baselines.base import Baseline
from dallme.data import LabelledTexts, LabelledVectors
from dallme.errors import InputError
from dallme.validation import check_vectors


@dataclass(frozen=True)
class CoreSet(Baseline):
    """Rows of each class that are chosen by their vectors.

    Rows that repeat an earlier text of their class are put aside first. A subclass writes :meth:`_choose`,
    and :meth:`_look` where it looks at something else than the vectors. Beside the vectors it needs a copy of
    those of the largest class.
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
            raise InputError(
                "expected vectors, one a text, found none: this baseline looks at vectors; embed the texts first"
            )
        matrix = check_vectors(vectors.vectors, rows=len(texts))
        candidates = {label: _different_rows(texts, label, count) for label, count in budget.items()}
        seen = self._look(matrix, texts.labels, rng)
        chosen = [rows[self._choose(seen[rows], budget[label], rng)] for label, rows in candidates.items()]
        return texts.take(np.concatenate(chosen))

    def _look(self, vectors: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """What the choice is made by, of shape (n, ...): the vectors, float32 of shape (n, d), as they are."""
        return vectors

    @abstractmethod
    def _choose(self, seen: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
        """Chooses in one class: what was seen of its k rows in, `count` different positions out, the first chosen first."""


@dataclass(frozen=True)
class RankedCoreSet(CoreSet):
    """The rows of each class with the highest scores; of equal ones the earlier row. A subclass writes :meth:`_look`."""

    @abstractmethod
    def _look(self, vectors: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The scores, of shape (n,)."""

    def _choose(self, seen: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
        return np.argsort(-seen, kind="stable")[:count]


def probe_probabilities(vectors: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The probabilities that a linear probe, logistic regression trained on all rows, gives each class.

    Returns:
        float64 of shape (n, classes), in the order of the class ids.

    Raises:
        InputError: If there is only one class.
    """
    check_classes(labels)
    probe = LogisticRegression(max_iter=1000).fit(vectors, labels)
    return np.asarray(probe.predict_proba(vectors), dtype=np.float64)


def check_classes(labels: np.ndarray) -> np.ndarray:
    """The class ids in their order.

    Raises:
        InputError: If there is only one: a probe has nothing to tell apart.
    """
    classes = np.unique(labels)
    if len(classes) < 2:
        raise InputError(
            f"expected at least 2 classes for a probe to tell apart, found {len(classes)}; use another baseline"
        )
    return classes


def _different_rows(texts: LabelledTexts, label: int, count: int) -> np.ndarray:
    """The rows of a class without those that repeat an earlier text of it."""
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
    """Takes, one after the other, the row that brings the mean of the chosen ones nearest to the mean of the class.

    With mu the mean of the class and s the sum of the t - 1 rows chosen so far, the next one is ::

        argmin_x || mu - (s + x) / t ||  =  argmin_x || x ||^2 - 2 x . (t mu - s)

    For vectors of length 1 that is Welling's rule, argmax_x x . w with w = t mu - s (Herding Dynamical
    Weights to Learn, 2009; Chen, Welling & Smola, Super-Samples from Kernel Herding, 2010). O(n d) a row
    chosen.

    Strong with a handful of texts: the first is the most typical one, the next balance it. Weak where a class
    has several modes far apart: the mean says little of them, and rare ones are never seen.
    """

    def _choose(self, seen: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
        mean = seen.mean(axis=0, dtype=np.float64)
        total = np.zeros_like(mean)
        squares = np.einsum("ij,ij->i", seen, seen)
        chosen: list[int] = []
        for size in range(1, count + 1):
            costs = squares - 2 * (seen @ (size * mean - total).astype(seen.dtype))
            costs[chosen] = np.inf
            best = int(costs.argmin())
            chosen.append(best)
            total += seen[best]
        return np.array(chosen)


@dataclass(frozen=True)
class KCenterBaseline(CoreSet):
    """Starts at the row nearest to the mean of the class, then takes the row farthest from all chosen ones.

    It makes the largest distance of a row to its nearest chosen one small, ::

        max_i min_{j in S} || x_i - x_j ||

    at most twice the smallest that is possible (Gonzalez, 1985; Sener & Savarese, Active Learning for
    Convolutional Neural
    Networks: A Core-Set Approach, 2018). O(n d) a row chosen.

    Strong where every corner of a class must be seen and the budget is large enough to reach them. Weak with
    few texts and with noise: what is farthest is often an outlier or has a wrong label.
    """

    def _choose(self, seen: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
        mean = seen.mean(axis=0, dtype=np.float64).astype(seen.dtype)
        squares = np.einsum("ij,ij->i", seen, seen)
        chosen = [int((squares - 2 * (seen @ mean)).argmin())]
        nearest = np.full(len(seen), np.inf, dtype=seen.dtype)  # squared distance to the nearest chosen row
        while len(chosen) < count:
            last = chosen[-1]
            np.minimum(nearest, squares - 2 * (seen @ seen[last]) + squares[last], out=nearest)
            nearest[last] = -np.inf
            chosen.append(int(nearest.argmax()))
        return np.array(chosen)
