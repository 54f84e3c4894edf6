"""The contract of a classifier: labelled texts in, predictions for other texts out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from dallme.errors import InputError
from dallme.validation import check_seed, check_texts


class Classifier(ABC):
    """A downstream model (section 4, "Evaluation"; Appendix A).

    A subclass is a frozen dataclass whose fields are its options, and writes :meth:`_fit`.

    Attributes:
        varies: Whether two seeds give different models, so that repeated runs make sense.
    """

    varies: bool = True

    def fit(self, texts: Sequence[str], labels: np.ndarray, *, seed: int) -> FittedClassifier:
        """Trains on labelled texts.

        Args:
            texts: n texts.
            labels: Class ids, int64 of shape (n,).
            seed: Seed of every random choice.

        Returns:
            The trained model; the classifier itself is not changed.

        Raises:
            InputError: If texts and labels do not belong together, or if there is one class only.
        """
        checked = check_texts(texts)
        labels = np.asarray(labels)
        if len(labels) != len(checked):
            raise InputError(f"expected a label for each of {len(checked)} texts, found {len(labels)}")
        if len(np.unique(labels)) < 2:
            raise InputError(f"expected texts of at least two classes to train a classifier, found one ({labels[0]})")
        return self._fit(checked, labels, check_seed(seed))

    @abstractmethod
    def _fit(self, texts: list[str], labels: np.ndarray, seed: int) -> FittedClassifier:
        """Trains on checked texts."""


class FittedClassifier(ABC):
    """A trained model."""

    def predict(self, texts: Sequence[str]) -> np.ndarray:
        """Predicts the class id of each text, int64 of shape (n,).

        Raises:
            InputError: If there is no text or one is unusable.
        """
        return self._predict(check_texts(texts))

    @abstractmethod
    def _predict(self, texts: list[str]) -> np.ndarray:
        """Predicts for checked texts."""
