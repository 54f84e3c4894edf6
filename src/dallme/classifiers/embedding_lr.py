"""Logistic regression on the vectors of an embedder (section 5.3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression

from dallme.classifiers.base import Classifier, FittedClassifier, fit_sklearn


def linear_probe(seed: int) -> LogisticRegression:
    """Makes the linear classifier for vectors."""
    return LogisticRegression(max_iter=1000, random_state=seed)


@dataclass(frozen=True, eq=False)
class _FittedProbe(FittedClassifier):
    embed: Callable[[Sequence[str]], np.ndarray]
    model: Any

    def _predict(self, texts: list[str]) -> np.ndarray:
        return np.asarray(self.model.predict(self.embed(texts)))


@dataclass(frozen=True)
class EmbeddingLogisticRegression(Classifier):
    """Linear probe: logistic regression on the vectors of a frozen embedder.

    Attributes:
        embed: Maps n texts to vectors, float32 of shape (n, d).
        fingerprint: Returns the hash of the embedder's :class:`~dallme.data.Fingerprint`, or None for unknown
            weights.
    """

    embed: Callable[[Sequence[str]], np.ndarray]
    fingerprint: Callable[[], str | None]

    varies = False

    def describe(self) -> dict[str, Any]:
        """Describes the classifier with the embedder's fingerprint in place of the embedder."""
        return {"class": type(self).__name__, "version": self.version, "fingerprint": self.fingerprint()}

    def _fit(self, texts: list[str], labels: np.ndarray, seed: int) -> FittedClassifier:
        return _FittedProbe(self.embed, fit_sklearn(linear_probe(seed), self.embed(texts), labels))
