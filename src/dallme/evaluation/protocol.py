"""Protocols that others published: how many sets, how many models on each, and how these are trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from dallme.classifiers.base import Classifier
from dallme.classifiers.training import NeuralClassifier
from dallme.data import LabelledTexts
from dallme.errors import InputError
from dallme.validation import check_positive

#: Trainings with each learning rate that is tried, whose mean accuracy counts: on few texts a single one says little.
TUNING_RUNS = 3

#: Sets of a baseline that chooses at random, where no protocol says otherwise (section 4, "Random Sampling").
RANDOM_DRAWS = 10


@dataclass(frozen=True)
class Protocol:
    """How often each method and each classifier is run, and how neural classifiers are trained.

    A classifier that varies is trained as often for a method that makes one set whatever the seed as for the others.

    Attributes:
        name: What it is called, or None where no published protocol is followed.
        sets: Sets that a method makes which makes others with other seeds.
        models: Models that a classifier that varies trains on each set.
        training: Options of :class:`~dallme.classifiers.training.NeuralClassifier`, put on every neural classifier.
        tune: Whether learning rates are chosen on held-out rows; one that stands in `training` is not.
        draws: Sets of a baseline that chooses at random, where that is more than `sets`.
        full_runs: Models that a classifier that varies trains on the full data.
        full_steps: Most optimizer steps of a neural classifier on the full data, or None for no limit.
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
        """The protocol with another number of sets; None changes nothing."""
        return self if sets is None else replace(self, sets=sets)

    def usable(self, sets: Sequence[LabelledTexts]) -> Sequence[LabelledTexts]:
        """Of ready sets those that are used: as many as the protocol has, or all if it has no name."""
        return sets if self.name is None else sets[: self.sets]

    def runs(self, classifier: Classifier, sets: int, *, full: bool = False) -> int:
        """Trainings of a classifier for a method that made so many sets; `full` if its one set is the full data."""
        if not classifier.varies:
            return sets
        return self.full_runs if full else max(sets, self.sets) * self.models

    def prepare(self, classifier: Classifier) -> Classifier:
        """The classifier with the options of training, if it is a neural one."""
        return (
            replace(classifier, **self.training) if isinstance(classifier, NeuralClassifier) else classifier
        )

    def tunes(self, classifier: Classifier) -> bool:
        """Whether the learning rate of a classifier is to be chosen."""
        return self.tune and bool(classifier.learning_rates) and "learning_rate" not in self.training

    def capped(self, classifier: Classifier, rows: int, *, full: bool) -> Classifier:
        """The classifier with at most `full_steps` optimizer steps on so many rows, if they are of the full data."""
        if self.full_steps is None or not full or not isinstance(classifier, NeuralClassifier):
            return classifier
        return replace(classifier, steps=min(classifier.total_steps(rows), self.full_steps))

    def tuning_runs(self, *, full: bool = False) -> int:
        """Trainings with each learning rate that is tried; the full data, where rates differ plainly, are trained on once."""
        return 1 if full else TUNING_RUNS

    def trainings(self, classifier: Classifier, sets: int, *, full: bool = False) -> int:
        """Trainings of a classifier for a method, those for the choice of the learning rate included."""
        tuning = len(classifier.learning_rates) * self.tuning_runs(full=full) if self.tunes(classifier) else 0
        return self.runs(classifier, sets, full=full) + tuning

    def check(self, classifiers: Mapping[str, Classifier]) -> None:
        """Checks the options of training, and that they are about a neural classifier unless the protocol has a name.

        Raises:
            InputError: If an option makes no sense, or if options are given and there is no neural classifier.
        """
        for made in classifiers.values():
            self.prepare(made)
        options = [*self.training, *(["full_steps"] if self.full_steps else [])]
        if (
            self.name is None
            and options
            and not any(isinstance(made, NeuralClassifier) for made in classifiers.values())
        ):
            raise InputError(
                f"expected a neural classifier to train with {', '.join(options)}, found only {', '.join(classifiers)}; "
                "name one, or leave the option out"
            )

    def as_dict(self) -> dict[str, Any]:
        """The fields of the command line's JSON."""
        return asdict(self)


#: What is done unless another is asked for.
DEFAULT = Protocol(draws=RANDOM_DRAWS)

#: That of the paper (section 4, "Evaluation"; Appendix B.1).
PAPER = Protocol("paper", sets=10, tune=True)

#: That of DiLM and CondenseLM, who call it DPC.
DPC = Protocol(
    "dpc", sets=5, models=20, training={"learning_rate": 1e-4, "batch_size": 64, "steps": 200, "warmup": 0.5}
)

#: Those with a name.
PROTOCOLS = {"paper": PAPER, "dpc": DPC}
