"""Evaluation protocols: the number of sets, the models trained on each, and how these are trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from dallme.classifiers.base import Classifier
from dallme.classifiers.training import NeuralClassifier
from dallme.data import LabelledTexts
from dallme.errors import InputError
from dallme.validation import check_positive

#: Trainings with each candidate learning rate; their mean accuracy counts, as a single training on few texts
#: is noisy.
TUNING_RUNS = 3

#: Sets drawn by a random baseline, unless a protocol says otherwise (section 4, "Random Sampling").
RANDOM_DRAWS = 10


@dataclass(frozen=True)
class Protocol:
    """Number of runs of each method and classifier, and training options of neural classifiers.

    A classifier that varies is trained equally often for every method, also for one that makes the same set
    under any seed.

    Attributes:
        name: Name of a published protocol, or None.
        sets: Sets made by a method whose output depends on the seed.
        models: Models that a classifier that varies trains on each set.
        training: Options of :class:`~dallme.classifiers.training.NeuralClassifier`, set on every neural
            classifier.
        tune: Whether learning rates are chosen on held-out rows; a rate in `training` is fixed.
        draws: Sets drawn by a random baseline, if more than `sets`.
        full_runs: Models that a classifier that varies trains on the full data.
        full_steps: Maximum number of optimizer steps of a neural classifier on the full data; None for no
            limit.
    """

    name: str | None = None
    sets: int = 1
    models: int = 1
    training: Mapping[str, Any] = field(default_factory=dict)
    tune: bool = False
    draws: int = 0
    full_runs: int = 1
    full_steps: int | None = None

    def __post_init__(self) -> None:
        """Checks the numbers."""
        for name in ("sets", "models", "full_runs"):
            check_positive(getattr(self, name), name)
        if self.full_steps is not None:
            check_positive(self.full_steps, "full_steps")

    def with_sets(self, sets: int | None) -> Protocol:
        """Returns the protocol with another number of sets; None changes nothing."""
        return self if sets is None else replace(self, sets=sets)

    def usable(self, sets: Sequence[LabelledTexts]) -> Sequence[LabelledTexts]:
        """Returns the first `sets` of a candidate's ready sets, or all if the protocol has no name."""
        return sets if self.name is None else sets[: self.sets]

    def runs(self, classifier: Classifier, sets: int, *, full: bool = False) -> int:
        """Counts the trainings of a classifier for a method with that many sets, or for the full data."""
        if not classifier.varies:
            return sets
        return self.full_runs if full else max(sets, self.sets) * self.models

    def prepare(self, classifier: Classifier) -> Classifier:
        """Returns the classifier with the training options set, if it is a neural one."""
        if not isinstance(classifier, NeuralClassifier):
            return classifier
        return replace(classifier, **self.training)

    def tunes(self, classifier: Classifier) -> bool:
        """Returns whether the learning rate of a classifier is chosen on held-out rows."""
        return self.tune and bool(classifier.learning_rates) and "learning_rate" not in self.training

    def capped(self, classifier: Classifier, rows: int, *, full: bool) -> Classifier:
        """Returns the classifier with at most `full_steps` optimizer steps on rows of the full data."""
        if self.full_steps is None or not full or not isinstance(classifier, NeuralClassifier):
            return classifier
        return replace(classifier, steps=min(classifier.total_steps(rows), self.full_steps))

    def tuning_runs(self, *, full: bool = False) -> int:
        """Counts the trainings with each candidate rate: one on the full data, where rates differ clearly."""
        return 1 if full else TUNING_RUNS

    def trainings(self, classifier: Classifier, sets: int, *, full: bool = False) -> int:
        """Counts the trainings of a classifier for a method, including those for tuning."""
        tuning = len(classifier.learning_rates) * self.tuning_runs(full=full) if self.tunes(classifier) else 0
        return self.runs(classifier, sets, full=full) + tuning

    def check(self, classifiers: Mapping[str, Classifier]) -> None:
        """Checks the training options, and that a neural classifier uses them unless the protocol has a name.

        Raises:
            InputError: If an option is out of range, or no classifier is neural although options are given.
        """
        for classifier in classifiers.values():
            self.prepare(classifier)
        options = [*self.training, *(["full_steps"] if self.full_steps else [])]
        neural = any(isinstance(classifier, NeuralClassifier) for classifier in classifiers.values())
        if self.name is None and options and not neural:
            raise InputError(
                f"expected a neural classifier to train with {', '.join(options)}, found only "
                f"{', '.join(classifiers)}; name one, or leave the option out"
            )

    def as_dict(self) -> dict[str, Any]:
        """Returns the fields for JSON."""
        return asdict(self)


#: The protocol used unless another is named.
DEFAULT = Protocol(draws=RANDOM_DRAWS)

#: The paper's protocol (section 4, "Evaluation"; Appendix B.1).
PAPER = Protocol("paper", sets=10, tune=True)

#: The protocol of DiLM and CondenseLM, which they call DPC.
DPC = Protocol(
    "dpc", sets=5, models=20, training={"learning_rate": 1e-4, "batch_size": 64, "steps": 200, "warmup": 0.5}
)

#: The published protocols by name.
PROTOCOLS = {"paper": PAPER, "dpc": DPC}
