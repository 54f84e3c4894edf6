"""The contract of a classifier: labelled texts in, predictions for other texts out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, ClassVar

import numpy as np

from dallme.errors import InputError
from dallme.validation import check_seed, check_texts


class Classifier(ABC):
    """A downstream model (section 4, "Evaluation"; Appendix A).

    A subclass is a frozen dataclass whose fields are its options, and writes :meth:`_fit`.

    Attributes:
        varies: Whether two seeds give different models, so that repeated runs make sense.
        argument: The option that ``NAME:ARGUMENT`` gives, or None if the name takes no argument.
        learning_rates: What its option ``learning_rate`` is chosen from on held-out rows; empty if it has no such option.
        version: Raised when the same options come to give other models, so that no result of the old ones is used again.
    """

    varies: bool = True
    argument: ClassVar[str | None] = None
    learning_rates: ClassVar[tuple[float, ...]] = ()
    version: ClassVar[int] = 1

    def describe(self) -> dict[str, Any]:
        """All that the trained model depends on besides texts, labels and seed, ready for JSON."""
        return {"class": type(self).__name__, "version": self.version, **asdict(self)}  # type: ignore[call-overload]

    def with_label_names(self, label_names: Mapping[int, str]) -> Classifier:
        """The classifier, told what the classes are called: those that write the name of a class need to know."""
        return self

    def find(self) -> None:  # noqa: B027 - most have nothing to look for
        """Looks for what the classifier needs (a model, word vectors), so that a missing one is noticed before long work."""

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
            raise InputError(
                f"expected texts of at least two classes to train a classifier, found one ({labels[0]})"
            )
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
