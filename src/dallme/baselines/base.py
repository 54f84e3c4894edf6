"""The contract of a baseline: the whole dataset in, a few of its texts out, by other means than ours."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dallme.classifiers.base import Classifier, FittedClassifier
from dallme.data import LabelledTexts, LabelledVectors
from dallme.errors import InputError
from dallme.validation import check_positive, check_seed


@dataclass(frozen=True)
class Baseline(ABC):
    """Something that a distilled set must beat (section 4, "Baseline").

    A subclass is a frozen dataclass whose fields are its options, and writes :meth:`_select`.

    Attributes:
        varies: Whether two seeds select different texts, so that repeated draws make sense.
        bounded: Whether its texts are held to the token limit of the distilled ones, so that all have one
            budget.
    """

    varies = True
    bounded = True

    def find(self) -> None:  # noqa: B027 - most have nothing to look for
        """Looks for what the baseline needs besides texts and vectors, so that a missing one is noticed before long work."""

    def select(
        self, texts: LabelledTexts, vectors: LabelledVectors | None, budget: Mapping[int, int], *, seed: int
    ) -> LabelledTexts:
        """Selects texts.

        Args:
            texts: The source.
            vectors: Its vectors, for baselines that look at them.
            budget: Class id to number of texts.
            seed: Seed of every random choice.

        Returns:
            The selected texts with their labels.

        Raises:
            InputError: If a class of the budget has fewer texts than are wanted.
        """
        for label, count in budget.items():
            held = texts.class_counts.get(label, 0)
            if check_positive(count, f"texts of class {label}") > held:
                raise InputError(
                    f"expected at least {count} texts in class {label}, found {held}; ask for fewer"
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
    """Something to beat that no other model can be trained on: it fills the columns of the classifiers that it fits.

    A subclass is a frozen dataclass whose fields are its options, and writes :meth:`fits` and
    :meth:`trainer`.
    """

    @abstractmethod
    def fits(self, classifier_name: str) -> bool:
        """Whether it fills the column of a classifier, from its ``NAME`` or ``NAME:ARGUMENT``."""

    @abstractmethod
    def trainer(self, classifier: Classifier, source: LabelledTexts, budget: Mapping[int, int]) -> Classifier:
        """The classifier that, trained on the whole source, gives the model of this baseline.

        Args:
            classifier: The one of the column.
            source: The source.
            budget: Class id to number of texts, or of what stands in their place.
        """

    def size(self, source: LabelledTexts, budget: Mapping[int, int]) -> int:
        """How many texts, or things in their place, the model is trained on."""
        return sum(budget.values())

    def fit(
        self, source: LabelledTexts, budget: Mapping[int, int], classifier: Classifier, *, seed: int
    ) -> FittedClassifier:
        """Trains the model.

        Args:
            source: The source.
            budget: Class id to number of texts.
            classifier: One that it fits.
            seed: Seed of every random choice.

        Raises:
            InputError: If the source has one class only, or the budget asks for more than it holds.
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
            f"expected a baseline that selects texts, found {type(self).__name__}, which hands over a trained model; "
            "compare it with dallme compare"
        )
