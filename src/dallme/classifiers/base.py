"""Contract of a classifier: trains on labelled texts, predicts the classes of others."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, ClassVar

import numpy as np

from dallme.errors import InputError
from dallme.validation import check_seed, check_texts


class Classifier(ABC):
    """A downstream model (section 4, "Evaluation"; Appendix A).

    A subclass is a frozen dataclass whose fields are its options, and implements :meth:`_fit`.

    Attributes:
        varies: Whether different seeds give different models.
        argument: The option set by ``NAME:ARGUMENT``, or None if the name takes no argument.
        learning_rates: Candidates for its option ``learning_rate``; empty without such an option.
        sample: Number of test rows that it is tested on, if not on all.
        most_texts: Maximum number of texts that it can be trained on; None for any number.
        packages: Packages whose versions may change what it learns, part of the key of stored results.
        version: Version of the implementation, part of the key of stored results.
        soft: Whether it can learn from soft labels, as a :class:`SoftClassifier`.
    """

    varies: bool = True
    argument: ClassVar[str | None] = None
    learning_rates: ClassVar[tuple[float, ...]] = ()
    sample: int | None = None
    most_texts: int | None = None
    packages: ClassVar[tuple[str, ...]] = ("scikit-learn",)
    version: ClassVar[int] = 1
    soft: ClassVar[bool] = False

    def describe(self) -> dict[str, Any]:
        """Describes all that determines the trained model except texts, labels and seed, for JSON."""
        return {"class": type(self).__name__, "version": self.version, **asdict(self)}  # type: ignore[call-overload]

    def with_label_names(self, label_names: Mapping[int, str]) -> Classifier:
        """Returns the classifier with the names of the classes, which generative classifiers write."""
        return self

    def find(self) -> None:  # noqa: B027 - most need nothing
        """Finds the model or word vectors that the classifier needs, before long work starts."""

    def fit(
        self, texts: Sequence[str], labels: np.ndarray, *, seed: int, probabilities: np.ndarray | None = None
    ) -> FittedClassifier:
        """Trains on labelled texts.

        Args:
            texts: n texts.
            labels: Class ids, int64 of shape (n,).
            seed: Seed of every random choice.
            probabilities: Soft labels, of shape (n, k) with the k distinct labels in ascending order; rows
                add up to 1. A classifier that is not :attr:`soft` ignores them.

        Returns:
            The trained model; the classifier itself is unchanged.

        Raises:
            InputError: If texts and labels differ in number, there is only one class, or the soft labels have
                another shape.
        """
        checked = check_texts(texts)
        labels = np.asarray(labels)
        if len(labels) != len(checked):
            raise InputError(f"expected a label for each of {len(checked)} texts, found {len(labels)}")
        if len(np.unique(labels)) < 2:
            raise InputError(
                f"expected texts of at least two classes to train a classifier, found one ({labels[0]})"
            )
        if probabilities is None or not isinstance(self, SoftClassifier):
            return self._fit(checked, labels, check_seed(seed))
        expected = (len(checked), len(np.unique(labels)))
        if probabilities.shape != expected:
            raise InputError(
                f"expected soft labels of shape {expected}, one column a class, found {probabilities.shape}"
            )
        return self._fit_soft(checked, labels, probabilities, check_seed(seed))

    @abstractmethod
    def _fit(self, texts: list[str], labels: np.ndarray, seed: int) -> FittedClassifier:
        """Trains on checked texts."""


class SoftClassifier(Classifier):
    """A classifier that can learn from soft labels; a subclass implements :meth:`_fit_soft`."""

    soft = True

    def _fit(self, texts: list[str], labels: np.ndarray, seed: int) -> FittedClassifier:
        return self._fit_soft(texts, labels, None, seed)

    @abstractmethod
    def _fit_soft(
        self, texts: list[str], labels: np.ndarray, probabilities: np.ndarray | None, seed: int
    ) -> FittedClassifier:
        """Trains on checked texts, with soft labels or with hard ones if they are None."""


def fit_sklearn(model: Any, inputs: Any, labels: np.ndarray, probabilities: np.ndarray | None = None) -> Any:
    """Fits a scikit-learn classifier without its warning about few samples per class.

    With soft labels each row counts once for each class, weighted by its probability.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The number of unique classes", category=UserWarning)
        if probabilities is None:
            return model.fit(inputs, labels)
        rows, columns = np.nonzero(probabilities > 0)
        classes = np.unique(labels)[columns]
        return model.fit(inputs[rows], classes, sample_weight=probabilities[rows, columns])


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
