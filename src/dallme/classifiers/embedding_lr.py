"""Logistic regression on the vectors of an embedder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression

from dallme.classifiers.base import Classifier, FittedClassifier


def linear_probe(seed: int) -> LogisticRegression:
    """The linear classifier that is trained on vectors."""
    return LogisticRegression(max_iter=1000, random_state=seed)


@dataclass(frozen=True, eq=False)
class _FittedProbe(FittedClassifier):
    embed: Callable[[Sequence[str]], np.ndarray]
    model: Any

    def _predict(self, texts: list[str]) -> np.ndarray:
        return np.asarray(self.model.predict(self.embed(texts)))


@dataclass(frozen=True)
class EmbeddingLogisticRegression(Classifier):
    """A linear probe: the embedder stays as it is, logistic regression is trained on its vectors (section 5.3).

    Attributes:
        embed: Turns n texts into vectors, float32 of shape (n, d).
        fingerprint: Gives the hash of the embedder's :class:`~dallme.data.Fingerprint`, or None if its weights are not known.
    """

    embed: Callable[[Sequence[str]], np.ndarray]
    fingerprint: Callable[[], str | None]

    varies = False

    def describe(self) -> dict[str, Any]:
        """The embedder's fingerprint in place of the embedder."""
        return {"class": type(self).__name__, "version": self.version, "fingerprint": self.fingerprint()}

    def _fit(self, texts: list[str], labels: np.ndarray, seed: int) -> FittedClassifier:
        return _FittedProbe(self.embed, linear_probe(seed).fit(self.embed(texts), labels))
