"""Choosing a learning rate on rows that are held out of the training data (Appendix B.1); the test set is never seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from dallme.budget import Budget
from dallme.classifiers.base import Classifier
from dallme.data import LabelledTexts
from dallme.errors import InputError
from dallme.evaluation.plans import TUNING_RUNS
from dallme.evaluation.results import ResultStore, train_and_test
from dallme.progress import Task
from dallme.text import clean
from dallme.validation import check_positive

#: Rows of the full training data that a learning rate is chosen on.
VALIDATION_ROWS = 1_000

#: Rows that are trained on for the choice; of larger sets a sample is taken.
TRAINING_ROWS = 2_000


def tune(
    classifier: Classifier,
    train_sets: Sequence[LabelledTexts],
    source: LabelledTexts,
    *,
    seed: int,
    runs: int = TUNING_RUNS,
    results: ResultStore | None = None,
    validation_rows: int = VALIDATION_ROWS,
    training_rows: int = TRAINING_ROWS,
    task: Task | None = None,
) -> tuple[Classifier, dict[float, float]]:
    """Trains with each of the classifier's ``learning_rates`` and keeps the one that is best on held-out rows.

    Args:
        classifier: What is tuned; it is returned as it is if it has no learning rates to choose from.
        train_sets: The sets that it is to be trained on; run r trains on the set at r modulo their number.
        source: The full training data.
        seed: Seed of the samples; run r trains with the seed `seed` + r.
        runs: Trainings with each rate, whose mean accuracy counts: on few texts a single one says little.
        results: Where results are kept.
        validation_rows: Rows to validate on; fewer where they would be more than half of the source.
        training_rows: Most rows to train on for the choice.
        task: Progress, advanced by one for each training.

    Returns:
        The classifier with the best learning rate, the smaller of two that are equally good, and the mean accuracy on the
        held-out rows by learning rate.

    Raises:
        InputError: If no row is left to validate or to train on.
    """
    if not classifier.learning_rates:
        return classifier, {}
    check_positive(runs, "runs")
    limits = {"validation_rows": validation_rows, "training_rows": training_rows}
    parts = [split(train, source, seed=seed, **limits) for train in train_sets[:runs]]
    named = classifier.with_label_names(source.label_names)
    accuracies = {}
    for rate in classifier.learning_rates:
        found = []
        for run in range(runs):
            result = train_and_test(_with_rate(named, rate), *parts[run % len(parts)], seed=seed + run, results=results)
            found.append(result.accuracy)
            if task is not None:
                task.advance()
        accuracies[rate] = float(np.mean(found))
    best = max(accuracies, key=lambda rate: (accuracies[rate], -rate))
    return _with_rate(classifier, best), accuracies


def split(
    train: LabelledTexts,
    source: LabelledTexts,
    *,
    seed: int,
    validation_rows: int = VALIDATION_ROWS,
    training_rows: int = TRAINING_ROWS,
) -> tuple[LabelledTexts, LabelledTexts]:
    """The rows to train on for a choice, and those to validate on; no text is in both.

    The validation rows are a stratified sample of the source, under one seed the same for every set. Of those the ones
    that stand in `train` are left out; where these are most of them, `train` is much of the source, and it is `train`
    that they are left out of. A row that stands in `train` cut short is not noticed.

    Raises:
        InputError: If no row is left to validate or fewer than two classes to train on.
    """
    size = min(check_positive(validation_rows, "validation_rows"), len(source) // 2)
    rng = np.random.default_rng([seed, 1])
    validation, known = sample(source, size, rng), set(train.texts)
    fresh = [row for row, text in enumerate(validation.texts) if text not in known and clean(text) not in known]
    if 2 * len(fresh) >= len(validation):
        validation = validation.take(fresh)
    else:
        held_out = set(validation.texts)
        train = train.take([row for row, text in enumerate(train.texts) if text not in held_out])
    if not len(validation) or len(train.class_counts) < 2:
        raise InputError(
            f"expected enough rows to choose a learning rate on, found {len(source):,} in the full data; fix the learning rate"
        )
    return sample(train, check_positive(training_rows, "training_rows"), rng), validation


def sample(texts: LabelledTexts, size: int, rng: np.random.Generator) -> LabelledTexts:
    """Rows drawn at random, from each class in proportion to its rows and at least one; all if there are no more than `size`."""
    if len(texts) <= size:
        return texts
    budget = Budget(total=max(size, len(texts.class_counts)), allocation="proportional").allocate(texts.class_counts)
    drawn = [rng.choice(np.flatnonzero(texts.labels == label), count, replace=False) for label, count in budget.items()]
    return texts.take(np.sort(np.concatenate(drawn)))


def _with_rate(classifier: Classifier, rate: float) -> Classifier:
    return replace(classifier, learning_rate=rate)  # type: ignore[type-var]
