"""What one set of texts, or what one method makes, is worth under a protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from dallme import registry
from dallme.classifiers.base import Classifier
from dallme.classifiers.training import NeuralClassifier
from dallme.data import LabelledTexts
from dallme.errors import InputError
from dallme.evaluation.protocol import DEFAULT, Protocol
from dallme.evaluation.results import TRAINING_ROWS, ResultStore, train_and_test, tune
from dallme.progress import Progress, SilentProgress, Task
from dallme.validation import check_positive

if TYPE_CHECKING:
    from dallme.embedders.cache import CachedEmbedder

#: The classifiers of Appendix A.1, which need no accelerator.
LINEAR = ("logistic-regression", "linear-svm", "naive-bayes")


@dataclass(frozen=True)
class Score:
    """What one classifier learned from one set, or from several draws of it.

    Attributes:
        classifier: Its registry name, with its argument if one was given.
        accuracies: Accuracy on the test set of each run, between 0 and 1.
        macro_f1s: Unweighted mean over the classes of F1, of each run.
        seconds: Time of training and testing all runs, when they were computed.
        full_accuracy: Accuracy of the same classifier trained on the full data, if that was measured.
        seeds: Seed of each run; empty if they are not known.
        sets: Sets that were trained on in turn: run r on the set at r modulo their number.
        learning_rate: That of a neural classifier.
        steps: Optimizer steps of a neural classifier on the first set.
        tuned: Learning rate to accuracy on held-out rows, where the rate was chosen on them.
    """

    classifier: str
    accuracies: tuple[float, ...]
    macro_f1s: tuple[float, ...]
    seconds: float
    full_accuracy: float | None = None
    seeds: tuple[int, ...] = ()
    sets: int = 1
    learning_rate: float | None = None
    steps: int | None = None
    tuned: Mapping[float, float] | None = None

    @property
    def accuracy(self) -> float:
        """Mean accuracy over the runs."""
        return float(np.mean(self.accuracies))

    @property
    def recovered(self) -> float | None:
        """Recovered accuracy (section 5.2): accuracy as a share of the full data's."""
        return self.accuracy / self.full_accuracy if self.full_accuracy else None

    def as_dict(self) -> dict[str, Any]:
        """The fields of the command line's JSON; deviations are those of the sample (n - 1), 0 for a single run."""
        runs = len(self.accuracies)
        return {
            "classifier": self.classifier,
            "accuracy_mean": self.accuracy,
            "accuracy_std": float(np.std(self.accuracies, ddof=1)) if runs > 1 else 0.0,
            "macro_f1_mean": float(np.mean(self.macro_f1s)),
            "runs": runs,
            "seconds": round(self.seconds, 3),
            "full_accuracy": self.full_accuracy,
            "recovered": self.recovered,
            "learning_rate": self.learning_rate,
            "steps": self.steps,
            "tuned": None
            if self.tuned is None
            else {f"{rate:g}": accuracy for rate, accuracy in self.tuned.items()},
        }


def check_classifiers(names: Sequence[str]) -> list[str]:
    """Turns names and aliases into registry names, with the argument if one is given, each once, in the order asked for.

    Raises:
        UnknownNameError: If a name is not known; it lists the known ones.
    """
    found = [registry.split("classifiers", name) for name in names]
    return list(
        dict.fromkeys(
            part.name if argument is None else f"{part.name}:{argument}" for part, argument in found
        )
    )


def make_classifiers(names: Sequence[str], embedder: CachedEmbedder | None = None) -> dict[str, Classifier]:
    """Makes classifiers from their names or aliases, and has each look for the model that it needs.

    Args:
        names: What the user wrote: ``NAME`` or ``NAME:ARGUMENT``.
        embedder: The embedder of classifiers that read vectors.

    Returns:
        Registry name, with the argument if one was given, to classifier, in the order asked for.

    Raises:
        UnknownNameError: If a name is not known.
        InputError: If a classifier needs an embedder and there is none, or takes no argument and one is given.
        MissingDependencyError: If a classifier needs a package that is not installed.
        ModelNotFoundError: If its model is not there.
    """
    made: dict[str, Classifier] = {}
    for name in check_classifiers(names):
        options: dict[str, Any] = {}
        if registry.split("classifiers", name)[0].name == "embedding-lr":
            if embedder is None:
                raise InputError(
                    "expected an embedder for the classifier embedding-lr, found none; name one with --embedder"
                )
            options = {"embed": embedder.embed, "fingerprint": embedder.cache_key}
        made[name] = registry.make("classifiers", name, **options)
        made[name].find()
    return made


def score(
    classifier: Classifier,
    name: str,
    train_sets: Sequence[LabelledTexts],
    test: LabelledTexts,
    *,
    runs: int,
    seed: int,
    results: ResultStore | None = None,
    task: Task | None = None,
) -> Score:
    """Trains a classifier on each set in turn and tests each model on the whole test set.

    Args:
        classifier: What is trained.
        name: What the score calls it.
        train_sets: The sets; run r trains on the set at r modulo their number, with the seed `seed` + r.
        test: Real texts with the same label ids.
        runs: Trainings in all; a classifier that does not vary is trained at most once a set.
        seed: Seed of the first run.
        results: Where results are kept.
        task: Progress, advanced by one for each run.
    """
    check_positive(runs, "runs")
    classifier = classifier.with_label_names(test.label_names)
    seeds = tuple(range(seed, seed + (runs if classifier.varies else min(runs, len(train_sets)))))
    found = []
    for run, own in enumerate(seeds):
        found.append(
            train_and_test(classifier, train_sets[run % len(train_sets)], test, seed=own, results=results)
        )
        if task is not None:
            task.advance()
    neural = classifier if isinstance(classifier, NeuralClassifier) else None
    return Score(
        name,
        tuple(result.accuracy for result in found),
        tuple(result.macro_f1 for result in found),
        sum(result.seconds for result in found),
        seeds=seeds,
        sets=len(train_sets),
        learning_rate=neural.learning_rate if neural else None,
        steps=neural.total_steps(len(train_sets[0])) if neural else None,
    )


def overlap_note(source: LabelledTexts, test: LabelledTexts) -> tuple[str, ...]:
    """One note if test rows have a text that stands in the source as well, else none."""
    known = set(source.texts)
    shared = sum(text in known for text in test.texts)
    return (
        (f"{shared:,} of {len(test):,} test rows have a text that stands in the source as well",)
        if shared
        else ()
    )


def check_plan(protocol: Protocol, classifiers: Mapping[str, Classifier], *, has_full: bool) -> None:
    """Checks that a protocol can be followed, before anything is read or trained.

    Raises:
        InputError: If it trains neural classifiers and there is none, or chooses learning rates and there are no full data.
    """
    protocol.check(classifiers)
    tuned = [name for name, made in classifiers.items() if protocol.tunes(made)]
    if tuned and not has_full:
        raise InputError(
            f"expected the full data to choose the learning rate of {tuned[0]} on, found none; name it with --full"
        )


def evaluate_method(
    classifier: Classifier,
    name: str,
    sets: Sequence[LabelledTexts],
    test: LabelledTexts,
    source: LabelledTexts | None,
    protocol: Protocol,
    *,
    seed: int,
    results: ResultStore | None = None,
    task: Task | None = None,
    full: bool = False,
) -> Score:
    """Scores what one method made, under a protocol: as :func:`score`, once the learning rate is chosen on the first sets.

    Args:
        classifier: What is trained.
        name: What the score calls it.
        sets: The sets of the method.
        test: Real texts with the same label ids.
        source: The full training data, which a learning rate is chosen on.
        protocol: How often, and how.
        seed: Seed of the first run.
        results: Where results are kept.
        task: Progress, advanced by one for each training.
        full: Whether the one set is the full data.

    Raises:
        InputError: If a learning rate is to be chosen and there is no source.
    """
    classifier, tuned = protocol.prepare(classifier), None
    capped = protocol.capped(classifier, len(sets[0]), full=full)
    if protocol.tunes(classifier):
        if source is None:
            raise InputError(
                "expected the full data to choose learning rates on, found none; name it with --full"
            )
        sampled = protocol.capped(classifier, min(len(sets[0]), TRAINING_ROWS), full=full)
        chosen, tuned = tune(
            sampled, sets, source, seed=seed, runs=protocol.tuning_runs(full=full), results=results, task=task
        )
        capped = replace(capped, learning_rate=chosen.learning_rate)  # type: ignore[type-var, attr-defined]
    runs = protocol.runs(classifier, len(sets), full=full)
    return replace(
        score(capped, name, sets, test, runs=runs, seed=seed, results=results, task=task), tuned=tuned
    )


def evaluate(
    train: LabelledTexts,
    test: LabelledTexts,
    classifiers: Mapping[str, Classifier],
    *,
    full: LabelledTexts | None = None,
    runs: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    protocol: Protocol = DEFAULT,
    results: ResultStore | None = None,
) -> list[Score]:
    """Says what a set of texts is worth.

    Args:
        train: The few texts.
        test: Real texts with the same label ids.
        classifiers: Name to classifier.
        full: The full data, to say how much of its accuracy is recovered; a protocol chooses learning rates on it.
        runs: In place of the sets of the protocol, of which there is one here: classifiers that vary are trained so
            often on it, times the models of the protocol.
        seed: Seed of the first run.
        progress: Where to show progress.
        protocol: How often classifiers are run, and how neural ones are trained.
        results: Where results are kept.

    Returns:
        One score a classifier.

    Raises:
        InputError: If the protocol chooses learning rates and the full data are not given.
    """
    plan = protocol.with_sets(runs)
    check_plan(plan, classifiers, has_full=full is not None)
    contestants = [(train, False), *([(full, True)] if full is not None else [])]
    total = sum(
        plan.trainings(made, 1, full=whole) for made in classifiers.values() for _, whole in contestants
    )
    scores = []
    with (progress or SilentProgress()).task("evaluate", total=total) as task:
        for name, made in classifiers.items():
            found = [
                evaluate_method(
                    made, name, [texts], test, full, plan, seed=seed, results=results, task=task, full=whole
                )
                for texts, whole in contestants
            ]
            scores.append(replace(found[0], full_accuracy=found[1].accuracy if full is not None else None))
    return scores
