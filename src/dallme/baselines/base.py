"""Contract of a baseline: selects a few texts of a dataset, or trains a model on it, without distillation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dallme.classifiers.base import Classifier, FittedClassifier
from dallme.data import LabelledTexts, LabelledVectors
from dallme.decoders.base import TokenCounter
from dallme.errors import InputError
from dallme.validation import check_positive, check_seed


@dataclass(frozen=True)
class Baseline(ABC):
    """A method that distilled data are compared with (section 4, "Baseline").

    A subclass is a frozen dataclass whose fields are its options, and implements :meth:`_select`.

    Attributes:
        varies: Whether different seeds select different texts.
        bounded: Whether its texts are truncated to the token limit of the distilled texts.
    """

    varies = True
    bounded = True

    def with_limit(self, max_tokens: int, count_tokens: TokenCounter) -> Baseline:
        """Returns the baseline for texts of at most `max_tokens` tokens; most do not depend on the limit."""
        return self

    def find(self) -> None:  # noqa: B027 - most need nothing
        """Finds the other resources that the baseline needs, before long work starts."""

    def select(
        self, texts: LabelledTexts, vectors: LabelledVectors | None, budget: Mapping[int, int], *, seed: int
    ) -> LabelledTexts:
        """Selects texts.

        Args:
            texts: The source.
            vectors: Its vectors, for baselines that use them.
            budget: Class id to number of texts.
            seed: Seed of every random choice.

        Returns:
            The selected texts with their labels.

        Raises:
            InputError: If a class has fewer texts than its budget.
        """
        for label, count in budget.items():
            available = texts.class_counts.get(label, 0)
            if check_positive(count, f"texts of class {label}") > available:
                raise InputError(
                    f"expected at least {count} texts in class {label}, found {available}; ask for fewer"
                )
        return self._select(texts, vectors, budget, np.random.default_rng(check_seed(seed)))

    @abstractmethod
    def _select(
        self,
        texts: LabelledTexts,
        vectors: LabelledVectors | None,
        budget: Mapping[int, int],
        rng: np.random.Generator,
    ) -> LabelledTexts:
        """Selects from a checked source."""


@dataclass(frozen=True)
class ModelBaseline(Baseline):
    """A baseline that returns a trained model, in the columns of the classifiers that it fits.

    A subclass is a frozen dataclass whose fields are its options, and implements :meth:`fits` and
    :meth:`trainer`.
    """

    @abstractmethod
    def fits(self, classifier_name: str) -> bool:
        """Returns whether the baseline applies to a classifier, given as ``NAME`` or ``NAME:ARGUMENT``."""

    @abstractmethod
    def trainer(self, classifier: Classifier, source: LabelledTexts, budget: Mapping[int, int]) -> Classifier:
        """Makes a classifier whose training on the whole source gives the model of this baseline.

        Args:
            classifier: The classifier of the column.
            source: The source.
            budget: Class id to number of texts, or of their substitutes.
        """

    def size(self, source: LabelledTexts, budget: Mapping[int, int]) -> int:
        """Counts the texts, or their substitutes, that the model is trained on."""
        return sum(budget.values())

    def fit(
        self, source: LabelledTexts, budget: Mapping[int, int], classifier: Classifier, *, seed: int
    ) -> FittedClassifier:
        """Trains the model.

        Args:
            source: The source.
            budget: Class id to number of texts.
            classifier: A classifier that it fits.
            seed: Seed of every random choice.

        Raises:
            InputError: If the source has only one class, or the budget is more than it has.
        """
        trainer = self.trainer(classifier, source, budget).with_label_names(source.label_names)
        return trainer.fit(source.texts, source.labels, seed=seed)

    def _select(
        self,
        texts: LabelledTexts,
        vectors: LabelledVectors | None,
        budget: Mapping[int, int],
        rng: np.random.Generator,
    ) -> LabelledTexts:
        raise InputError(
            f"expected a baseline that selects texts, found {type(self).__name__}, which returns a model; "
            "compare it with dallme compare"
        )
