"""What one set of texts, or what one method makes, is worth under a protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from dallme.classifiers.base import Classifier
from dallme.data import LabelledTexts
from dallme.errors import InputError
from dallme.evaluation.plans import PLAIN, Protocol
from dallme.evaluation.protocol import Score, score
from dallme.evaluation.results import ResultStore
from dallme.evaluation.tuning import TRAINING_ROWS, tune
from dallme.progress import Progress, SilentProgress, Task


def check_plan(protocol: Protocol, classifiers: Mapping[str, Classifier], *, has_full: bool) -> None:
    """Checks that a protocol can be followed, before anything is read or trained.

    Raises:
        InputError: If it trains neural classifiers and there is none, or chooses learning rates and there are no full data.
    """
    protocol.check(classifiers)
    tuned = [name for name, made in classifiers.items() if protocol.tunes(made)]
    if tuned and not has_full:
        raise InputError(f"expected the full data to choose the learning rate of {tuned[0]} on, found none; name it with --full")


def judge(
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
            raise InputError("expected the full data to choose learning rates on, found none; name it with --full")
        sampled = protocol.capped(classifier, min(len(sets[0]), TRAINING_ROWS), full=full)
        chosen, tuned = tune(sampled, sets, source, seed=seed, runs=protocol.tuning_runs(full=full), results=results, task=task)
        capped = replace(capped, learning_rate=chosen.learning_rate)  # type: ignore[type-var, attr-defined]
    runs = protocol.runs(classifier, len(sets), full=full)
    return replace(score(capped, name, sets, test, runs=runs, seed=seed, results=results, task=task), tuned=tuned)


def evaluate(
    train: LabelledTexts,
    test: LabelledTexts,
    classifiers: Mapping[str, Classifier],
    *,
    full: LabelledTexts | None = None,
    runs: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    protocol: Protocol = PLAIN,
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
    total = sum(plan.trainings(made, 1, full=whole) for made in classifiers.values() for _, whole in contestants)
    scores = []
    with (progress or SilentProgress()).task("evaluate", total=total) as task:
        for name, made in classifiers.items():
            found = [
                judge(made, name, [texts], test, full, plan, seed=seed, results=results, task=task, full=whole)
                for texts, whole in contestants
            ]
            scores.append(replace(found[0], full_accuracy=found[1].accuracy if full is not None else None))
    return scores
