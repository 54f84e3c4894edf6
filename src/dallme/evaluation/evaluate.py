"""Evaluation of one set of texts, or of all sets of one method, under a protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
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

#: The classifiers of Appendix A.1; they need neither an accelerator nor an embedder.
LINEAR = ("logistic-regression", "linear-svm", "naive-bayes")


@dataclass(frozen=True)
class Score:
    """Test scores of one classifier, trained on one set or on several sets of one method.

    Attributes:
        classifier: Registry name, with its argument if it has one.
        accuracies: Accuracy on the test set of each run, between 0 and 1.
        macro_f1s: Unweighted mean over the classes of F1, of each run.
        seconds: Time of training and testing all runs, when they were computed.
        full_accuracy: Accuracy of the same classifier trained on the full data, if it was measured.
        seeds: Seed of each run; empty if unknown.
        sets: Number of training sets; run r is trained on set r modulo this number.
        learning_rate: Learning rate of a neural classifier.
        steps: Optimizer steps of a neural classifier on the first set.
        tuned: Learning rate to accuracy on held-out rows, if the rate was chosen on them.
        chance: Accuracy below which the full data's counts as below chance; 0 if unknown.
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
    chance: float = 0.0

    @property
    def accuracy(self) -> float:
        """Mean accuracy over the runs."""
        return float(np.mean(self.accuracies))

    @property
    def accuracy_std(self) -> float:
        """Sample standard deviation (n - 1) of the accuracy over the runs; 0 for a single run."""
        return float(np.std(self.accuracies, ddof=1)) if len(self.accuracies) > 1 else 0.0

    @property
    def recovered(self) -> float | None:
        """Recovered accuracy (section 5.2): share of the full data's, None if that is below chance."""
        if not self.full_accuracy or self.full_accuracy < self.chance:
            return None
        return self.accuracy / self.full_accuracy

    def as_dict(self) -> dict[str, Any]:
        """Returns the fields for JSON."""
        tuned = {f"{rate:g}": accuracy for rate, accuracy in self.tuned.items()} if self.tuned else self.tuned
        return {
            "classifier": self.classifier,
            "accuracy_mean": self.accuracy,
            "accuracy_std": self.accuracy_std,
            "macro_f1_mean": float(np.mean(self.macro_f1s)),
            "runs": len(self.accuracies),
            "seconds": round(self.seconds, 3),
            "full_accuracy": self.full_accuracy,
            "recovered": self.recovered,
            "learning_rate": self.learning_rate,
            "steps": self.steps,
            "tuned": tuned,
        }


def check_classifiers(names: Sequence[str]) -> list[str]:
    """Resolves names and aliases to registry names, each once, in order; an argument is kept.

    Raises:
        UnknownNameError: If a name is unknown; the message lists the known ones.
    """
    resolved = [registry.split("classifiers", name) for name in names]
    return list(
        dict.fromkeys(
            part.name if argument is None else f"{part.name}:{argument}" for part, argument in resolved
        )
    )


def make_classifiers(
    names: Sequence[str],
    embedder: CachedEmbedder | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Classifier]:
    """Makes classifiers by name and looks for the models that they need.

    Args:
        names: Names or aliases: ``NAME`` or ``NAME:ARGUMENT``.
        embedder: The embedder of classifiers that read vectors. Its store caches the answers of a service.
        options: Name to options of the classifier.

    Returns:
        Registry name, with the argument if there is one, to classifier, in the order of `names`.

    Raises:
        UnknownNameError: If a name is unknown.
        InputError: If a classifier needs an embedder and there is none, or takes no argument and one is
            given.
        MissingDependencyError: If a classifier needs a package that is not installed.
        ModelNotFoundError: If its model is not found.
    """
    classifiers: dict[str, Classifier] = {}
    for name in check_classifiers(names):
        own: dict[str, Any] = dict((options or {}).get(name, {}))
        part = registry.split("classifiers", name)[0].name
        if part == "prompt" and embedder is not None:
            own["progress"] = embedder.progress
            own["answers"] = None if embedder.store is None else Path(embedder.store) / "answers"
        if part == "embedding-lr":
            if embedder is None:
                raise InputError(
                    "expected an embedder for the classifier embedding-lr, found none; "
                    "name one with --embedder"
                )
            own = {"embed": embedder.embed, "fingerprint": embedder.cache_key}
        classifiers[name] = registry.make("classifiers", name, **own)
        classifiers[name].find()
    return classifiers


def overlap_note(source: LabelledTexts, test: LabelledTexts) -> tuple[str, ...]:
    """Returns a note if test texts occur in the source as well."""
    known = set(source.texts)
    shared = sum(text in known for text in test.texts)
    if not shared:
        return ()
    return (f"{shared:,} of {len(test):,} test rows have a text that is in the source as well",)


def chance_level(test: LabelledTexts) -> float:
    """Computes the accuracy two standard deviations below that of guessing on the test rows, at least 0."""
    guess = 1 / len(test.class_counts)
    return float(max(0.0, guess - 2 * np.sqrt(guess * (1 - guess) / len(test))))


def chance_notes(scores: Sequence[Score], test: LabelledTexts) -> tuple[str, ...]:
    """Returns a note on each classifier that is below chance on the full data, or never right on any set.

    Such accuracies mean that the class ids of the test data are not those of the training data.
    """
    guess, notes = 1 / len(test.class_counts), []
    for score in scores:
        full = score.full_accuracy
        if full is not None and (full == 0 or full < chance_level(test)):
            accuracy, trained = full, "trained on the full data"
        elif score.accuracy == 0:
            accuracy, trained = 0.0, "in every run"
        else:
            continue
        notes.append(
            f"{score.classifier}, {trained}, is right on {accuracy:.1%} of {len(test):,} test rows, "
            f"guessing on {guess:.1%}: check that the test data have the same classes under the same names"
        )
    return tuple(dict.fromkeys(notes))


def check_plan(protocol: Protocol, classifiers: Mapping[str, Classifier], *, has_full: bool) -> None:
    """Checks that a protocol fits the classifiers, before anything is read or trained.

    Raises:
        InputError: If it has training options and no classifier is neural, or tunes learning rates without
            the full data.
    """
    protocol.check(classifiers)
    tuned = [name for name, classifier in classifiers.items() if protocol.tunes(classifier)]
    if tuned and not has_full:
        raise InputError(
            f"expected the full data to choose the learning rate of {tuned[0]} on, found none; "
            "name it with --full"
        )


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
        classifier: The classifier.
        name: Its name in the score.
        train_sets: The sets; run r trains on the set at r modulo their number, with the seed `seed` + r.
        test: Real texts with the same label ids.
        runs: Trainings in all; a classifier that does not vary is trained at most once per set.
        seed: Seed of the first run.
        results: Store of results.
        task: Progress, advanced once per run.
    """
    check_positive(runs, "runs")
    classifier = classifier.with_label_names(test.label_names)
    seeds = tuple(range(seed, seed + (runs if classifier.varies else min(runs, len(train_sets)))))
    run_results = []
    for run, run_seed in enumerate(seeds):
        train = train_sets[run % len(train_sets)]
        run_results.append(train_and_test(classifier, train, test, seed=run_seed, results=results))
        if task is not None:
            task.advance()
    neural = classifier if isinstance(classifier, NeuralClassifier) else None
    return Score(
        name,
        tuple(result.accuracy for result in run_results),
        tuple(result.macro_f1 for result in run_results),
        sum(result.seconds for result in run_results),
        seeds=seeds,
        sets=len(train_sets),
        learning_rate=neural.learning_rate if neural else None,
        steps=neural.total_steps(len(train_sets[0])) if neural else None,
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
    """Scores the sets of one method under a protocol, which may tune the learning rate first.

    Args:
        classifier: The classifier.
        name: Its name in the score.
        sets: The sets of the method.
        test: Real texts with the same label ids.
        source: The full training data; learning rates are tuned on it.
        protocol: Number of runs and training options.
        seed: Seed of the first run.
        results: Store of results.
        task: Progress, advanced once per training.
        full: Whether the one set is the full data.

    Raises:
        InputError: If a learning rate is to be tuned and there is no source.
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
    seed: int = 0,
    progress: Progress | None = None,
    protocol: Protocol = DEFAULT,
    results: ResultStore | None = None,
) -> list[Score]:
    """Scores classifiers trained on one set of texts; :func:`dallme.evaluate` takes sources and names.

    Args:
        train: The training texts.
        test: Real texts with the same label ids.
        classifiers: Name to classifier.
        full: The full data, for the recovered accuracy; learning rates are tuned on it.
        seed: Seed of the first run.
        progress: Progress reporter.
        protocol: Number of runs and training options. Each of its sets is one more run on `train`.
        results: Store of results.

    Returns:
        One score per classifier.

    Raises:
        InputError: If the protocol tunes learning rates and there are no full data.
    """
    check_plan(protocol, classifiers, has_full=full is not None)
    sets = {False: train} if full is None else {False: train, True: full}
    total = sum(
        protocol.trainings(classifier, 1, full=is_full)
        for classifier in classifiers.values()
        for is_full in sets
    )
    scores = []
    with (progress or SilentProgress()).task("evaluate", total=total) as task:
        for name, classifier in classifiers.items():
            own, *reference = [
                evaluate_method(
                    classifier,
                    name,
                    [texts],
                    test,
                    full,
                    protocol,
                    seed=seed,
                    results=results,
                    task=task,
                    full=is_full,
                )
                for is_full, texts in sets.items()
            ]
            full_accuracy = reference[0].accuracy if reference else None
            scores.append(replace(own, full_accuracy=full_accuracy, chance=chance_level(test)))
    return scores
