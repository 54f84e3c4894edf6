"""Train on the few texts, test on real data (section 4, "Evaluation")."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.metrics import f1_score

from dallme import registry
from dallme.classifiers.base import Classifier
from dallme.data import LabelledTexts
from dallme.errors import InputError
from dallme.progress import Progress, SilentProgress
from dallme.validation import check_positive

#: The classifiers of Appendix A.1, which need no accelerator.
LINEAR = ("logistic-regression", "linear-svm", "naive-bayes")


@dataclass(frozen=True)
class Score:
    """What one classifier learned from one set, or from several draws of it.

    Attributes:
        classifier: Its registry name.
        accuracies: Accuracy on the test set of each run, between 0 and 1.
        macro_f1s: Unweighted mean over the classes of F1, of each run.
        seconds: Time of training and testing all runs.
        full_accuracy: Accuracy of the same classifier trained on the full data, if that was measured.
    """

    classifier: str
    accuracies: tuple[float, ...]
    macro_f1s: tuple[float, ...]
    seconds: float
    full_accuracy: float | None = None

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
        }


def check_classifiers(names: Sequence[str]) -> list[str]:
    """Turns names and aliases into registry names, each once, in the order asked for.

    Raises:
        UnknownNameError: If a name is not known; it lists the known ones.
    """
    return list(dict.fromkeys(registry.find("classifiers", name).name for name in names))


def make_classifiers(names: Sequence[str], embed: Callable[[Sequence[str]], np.ndarray] | None = None) -> dict[str, Classifier]:
    """Makes classifiers from their names or aliases.

    Args:
        names: What the user wrote.
        embed: The embedder, for classifiers that look at vectors.

    Returns:
        Registry name to classifier, in the order asked for.

    Raises:
        UnknownNameError: If a name is not known; it lists the known ones.
        InputError: If a classifier needs an embedder and there is none.
    """
    made: dict[str, Classifier] = {}
    for name in check_classifiers(names):
        if name == "embedding-lr" and embed is None:
            raise InputError("expected an embedder for the classifier embedding-lr, found none; name one with --embedder")
        made[name] = registry.make("classifiers", name, **({"embed": embed} if name == "embedding-lr" else {}))
    return made


def score(
    classifier: Classifier, name: str, train_sets: Sequence[LabelledTexts], test: LabelledTexts, *, runs: int, seed: int
) -> Score:
    """Trains a classifier on each set `runs` times, with the seeds from `seed` on, and tests each model on the whole test set."""
    started = time.perf_counter()
    accuracies, macro_f1s = [], []
    for train in train_sets:
        for run in range(check_positive(runs, "runs")):
            predicted = classifier.fit(train.texts, train.labels, seed=seed + run).predict(test.texts)
            accuracies.append(float(np.mean(predicted == test.labels)))
            macro_f1s.append(float(f1_score(test.labels, predicted, average="macro", zero_division=0)))
    return Score(name, tuple(accuracies), tuple(macro_f1s), time.perf_counter() - started)


def evaluate(
    train: LabelledTexts,
    test: LabelledTexts,
    classifiers: Mapping[str, Classifier],
    *,
    full: LabelledTexts | None = None,
    runs: int = 1,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[Score]:
    """Says what a set of texts is worth.

    Args:
        train: The few texts.
        test: Real texts with the same label ids.
        classifiers: Name to classifier.
        full: The full data, to say how much of its accuracy is recovered; trained on once.
        runs: Runs of each classifier, with different seeds.
        seed: Seed of the first run.
        progress: Where to show progress.

    Returns:
        One score a classifier.
    """
    scores = []
    with (progress or SilentProgress()).task("evaluate", total=len(classifiers) * (2 if full else 1)) as task:
        for name, classifier in classifiers.items():
            found = score(classifier, name, [train], test, runs=runs, seed=seed)
            task.advance()
            reference = None
            if full is not None:
                reference = score(classifier, name, [full], test, runs=1, seed=seed).accuracy
                task.advance()
            scores.append(Score(name, found.accuracies, found.macro_f1s, found.seconds, reference))
    return scores


def overlap_note(source: LabelledTexts, test: LabelledTexts) -> tuple[str, ...]:
    """One note if test rows have a text that stands in the source as well, else none."""
    known = set(source.texts)
    shared = sum(text in known for text in test.texts)
    return (f"{shared:,} of {len(test):,} test rows have a text that stands in the source as well",) if shared else ()
