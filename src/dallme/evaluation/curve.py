"""Accuracy against budget, from one embedding of the source (section 5.2; Figures 4 and 5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from dallme import registry
from dallme.classifiers.base import Classifier
from dallme.data import Budget, LabelledTexts
from dallme.dataset import DistilledDataset, trace
from dallme.dataset.manifest import Clock
from dallme.decoders.base import Context
from dallme.distiller import Distillation, Distiller
from dallme.errors import InputError
from dallme.evaluation.compare import check_methods, make_sets
from dallme.evaluation.evaluate import Score, evaluate_method, overlap_note
from dallme.evaluation.protocol import DEFAULT
from dallme.evaluation.results import ResultStore

#: Texts per class and shares of the rows that are measured where the user names none.
PER_CLASS = (1, 2, 5, 10, 20, 50, 100)
RATIOS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)


@dataclass(frozen=True)
class Step:
    """One budget of a curve.

    Attributes:
        budget: As it was asked for.
        texts: Texts in all.
        ratio: Texts as a share of the rows, the distillation ratio.
    """

    budget: Budget
    texts: int
    ratio: float

    @property
    def words(self) -> str:
        """The budget as a person would say it."""
        if self.budget.per_class is not None:
            return f"{self.budget.per_class:,} text{'s' if self.budget.per_class > 1 else ''} a class"
        return (
            f"{self.texts:,} texts"
            if self.budget.ratio is None
            else f"{100 * self.budget.ratio:.3g}% of the rows"
        )


def default_budgets(texts: LabelledTexts) -> list[Budget]:
    """A series that fits the data: up to half of the smallest class, or shares of the rows if that is too small for a curve."""
    _, largest = _smallest_class(texts)
    fitting = [count for count in PER_CLASS if count <= largest / 2]
    if len(fitting) >= 3:
        return [Budget(per_class=count) for count in fitting]
    return [Budget(ratio=ratio) for ratio in RATIOS]


def make_steps(
    distiller: Distiller, texts: LabelledTexts, budgets: Sequence[Budget]
) -> tuple[tuple[Step, ...], list[str]]:
    """Checks budgets and puts them in order.

    Args:
        distiller: All but its budget is used.
        texts: The source.
        budgets: In any order; of those that come to the same number of texts the first is kept.

    Returns:
        The steps, fewest texts first, and a note on each budget that was left out.

    Raises:
        InputError: If there is no budget, or one is more than a class allows; it names the most that is possible.
    """
    if not budgets:
        raise InputError("expected at least one budget, found none")
    name, largest = _smallest_class(texts)
    steps: dict[int, Step] = {}
    notes = []
    for budget in budgets:
        if budget.per_class is not None and budget.allocation == "equal" and budget.per_class > largest:
            raise InputError(
                f"expected at most {largest:,} texts a class, found {budget.per_class:,}: class {name!r} has only {largest:,} "
                "different texts; ask for fewer, or give ratios"
            )
        count = sum(with_budget(distiller, budget).allocate(texts).values())
        step = Step(budget, count, count / len(texts))
        if steps.setdefault(count, step).budget != budget:
            notes.append(
                f"{step.words} come to {count:,} texts, as {steps[count].words} do; they are measured once"
            )
    return tuple(steps[count] for count in sorted(steps)), notes


def with_budget(distiller: Distiller, budget: Budget) -> Distiller:
    """The distiller with another budget."""
    return replace(
        distiller,
        per_class=budget.per_class,
        ratio=budget.ratio,
        total=budget.total,
        allocation=budget.allocation,
    )


def _smallest_class(texts: LabelledTexts) -> tuple[str, int]:
    """Name and number of different texts of the class that has fewest."""
    distinct: dict[int, set[str]] = {label: set() for label in texts.class_counts}
    for text, label in zip(texts.texts, texts.labels.tolist(), strict=True):
        distinct[label].add(text)
    label = min(distinct, key=lambda label: len(distinct[label]))
    return texts.label_names[label], len(distinct[label])


#: Fewest budgets that a knee can be told from.
FEWEST = 3

#: Distances that are rounding errors.
_TINY = 1e-9


def find_knee(sizes: Sequence[float], accuracies: Sequence[float] | np.ndarray) -> int | None:
    """Finds the size after which more is hardly worth it.

    The accuracies are made monotone by their running maximum; both axes, the sizes as logarithms, are scaled to [0, 1]. The
    knee is the point that lies highest above the chord from the first to the last (Satopää et al., 2011, "Finding a
    'Kneedle' in a Haystack").

    Args:
        sizes: At least 1 each, increasing.
        accuracies: One a size.

    Returns:
        Its position: the first if nothing is gained by any other; None with fewer than three sizes, and if no point lies
        above the chord.

    Example:
        >>> find_knee([1, 10, 100, 1000], [0.5, 0.8, 0.81, 0.82])
        1
    """
    if len(sizes) < FEWEST:
        return None
    x, y = np.log(np.asarray(sizes, dtype=float)), np.maximum.accumulate(np.asarray(accuracies, dtype=float))
    if y[-1] == y[0]:
        return 0
    above = (y - y[0]) / (y[-1] - y[0]) - (x - x[0]) / (x[-1] - x[0])
    return int(np.flatnonzero(above >= above.max() - _TINY)[0]) if above.max() > _TINY else None


def find_level(
    sizes: Sequence[float], accuracies: Sequence[float] | np.ndarray, level: float
) -> tuple[int | None, float | None]:
    """Finds the smallest size that reaches a level.

    Args:
        sizes: Increasing.
        accuracies: One a size.
        level: What to reach.

    Returns:
        The position of the first that reaches it, None if there is none; and the size between it and the one before at
        which a straight line reaches it, None if there is none before.
    """
    reached = np.flatnonzero(np.asarray(accuracies) >= level - _TINY)
    if not len(reached):
        return None, None
    first = int(reached[0])
    if not first:
        return 0, None
    low, high = accuracies[first - 1], accuracies[first]
    share = min(1.0, float((level - low) / (high - low)))
    return first, float(sizes[first - 1] + share * (sizes[first] - sizes[first - 1]))


@dataclass(frozen=True)
class Finding:
    """A budget that was found on a curve.

    Attributes:
        method: The method whose curve it is, averaged over the classifiers.
        words: What was found, as a sentence.
        step: The measured budget, or None if there is none.
        accuracy: Accuracy at that budget.
        recovered: The same as a share of the full data's.
        interpolated_texts: Texts in all at which a straight line between measured budgets reaches what was asked for.
    """

    method: str
    words: str
    step: Step | None = None
    accuracy: float | None = None
    recovered: float | None = None
    interpolated_texts: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """The fields of the command line's JSON."""
        step = self.step
        return {
            "method": self.method,
            "per_class": step.budget.per_class if step else None,
            "texts": step.texts if step else None,
            "ratio": step.ratio if step else None,
            "accuracy": self.accuracy,
            "recovered": self.recovered,
            "interpolated_texts": self.interpolated_texts,
            "words": self.words,
        }


def knee(curve: Curve, method: str) -> Finding:
    """The budget after which more texts are hardly worth it; see :func:`find_knee`."""
    place = find_knee([step.texts for step in curve.steps], curve.average(method))
    if place is not None:
        return _at(curve, method, place, f"{method}: knee at")
    if len(curve.steps) < FEWEST:
        return Finding(
            method, f"{method}: no knee, which takes at least {FEWEST} budgets, found {len(curve.steps)}"
        )
    return Finding(method, f"{method}: no knee: up to {curve.steps[-1].words} the gain does not slow down")


def smallest_recovering(curve: Curve, method: str, share: float) -> Finding:
    """The smallest measured budget that recovers a share of the full data's accuracy; see :func:`find_level`.

    Raises:
        InputError: If the share is not in (0, 1].
    """
    check_share(share)
    goal = f"{method}: {100 * share:.3g}% of the full data's accuracy"
    accuracies, sizes = curve.average(method), [step.texts for step in curve.steps]
    place, between = find_level(sizes, accuracies, share * curve.full_accuracy)
    if place is None:
        most = _at(curve, method, int(np.argmax(accuracies)), "the most is at")
        return Finding(method, f"{goal} is not reached; {most.words}")
    end = "" if between is None else f"; on a line between the measured, at {between:,.0f} texts in all"
    return _at(curve, method, place, f"{goal} at", end, between)


def check_share(share: float) -> None:
    """Checks a share that is to be recovered.

    Raises:
        InputError: If it is not in (0, 1].
    """
    if not 0 < share <= 1:
        raise InputError(f"expected the share to recover in (0, 1], found {share!r}")


def _at(
    curve: Curve, method: str, place: int, start: str, end: str = "", between: float | None = None
) -> Finding:
    """What stands at a step of a method's average curve."""
    step, accuracy, full = curve.steps[place], float(curve.average(method)[place]), curve.full_accuracy
    share = accuracy / full if full else None
    of_full = "" if share is None else f" ({share:.1%} of full data)"
    return Finding(
        method, f"{start} {step.words}: {accuracy:.3f}{of_full}{end}", step, accuracy, share, between
    )


@dataclass(frozen=True)
class Curve:
    """Accuracy against budget.

    Attributes:
        steps: The budgets, fewest texts first.
        scores: Method and classifier to one score a step.
        full: Classifier to the score of the full data.
        train_rows: Rows of the source.
        test_rows: Rows of the test set.
        notes: What a reader should know, such as budgets that come to the same number of texts.
        seconds: Time of embedding the source and of everything after it; no part of the JSON.
    """

    steps: tuple[Step, ...]
    scores: Mapping[tuple[str, str], tuple[Score, ...]]
    full: Mapping[str, Score]
    train_rows: int
    test_rows: int
    notes: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict, compare=False)

    @property
    def methods(self) -> list[str]:
        """The methods, in the order asked for."""
        return list(dict.fromkeys(method for method, _ in self.scores))

    @property
    def full_accuracy(self) -> float:
        """Accuracy of the full data, averaged over the classifiers."""
        return float(np.mean([found.accuracy for found in self.full.values()]))

    def average(self, method: str) -> np.ndarray:
        """Accuracy of a method averaged over the classifiers, as in section 5.2, of shape (steps,)."""
        lines = [[found.accuracy for found in self.scores[method, name]] for name in self.full]
        averaged: np.ndarray = np.mean(lines, axis=0)
        return averaged

    def as_dict(self) -> dict[str, Any]:
        """The points as JSON, without times: the same seed gives the same bytes."""
        points = [
            {
                "method": method,
                "per_class": step.budget.per_class,
                "texts": step.texts,
                "ratio": step.ratio,
                **_without_seconds(found),
            }
            for (method, _), scores in self.scores.items()
            for step, found in zip(self.steps, scores, strict=True)
        ]
        full = [_without_seconds(found) for found in self.full.values()]
        return {
            "points": points,
            "full": full,
            "train_rows": self.train_rows,
            "test_rows": self.test_rows,
            "notes": [*self.notes],
        }


def _without_seconds(found: Score) -> dict[str, Any]:
    return {key: value for key, value in found.as_dict().items() if key != "seconds"}


def curve(
    distiller: Distiller,
    texts: LabelledTexts,
    test: LabelledTexts,
    budgets: Sequence[Budget],
    methods: Sequence[str],
    classifiers: Mapping[str, Classifier],
    *,
    vectors: Any = None,
    runs: int = 1,
    results: ResultStore | None = None,
) -> Curve:
    """Fills several budgets in several ways, from one embedding of the source.

    Args:
        distiller: All but its budget is used.
        texts: The source.
        test: Real texts with the same label ids.
        budgets: What to measure, in any order; of those that come to the same number of texts, the first.
        methods: Names of baselines and decoders; each has as many sets as in :func:`~dallme.evaluation.compare.compare`.
        classifiers: Name to classifier; each is trained on the full data once.
        vectors: Ready vectors of the source, of shape (n, d); then no embedder is loaded.
        runs: Sets that each decoder makes, with the seeds from the distiller's on.
        results: Where results are kept, so that no training is made twice.

    Returns:
        The curve; each score says how much of the full data's accuracy is recovered.

    Raises:
        InputError: If there is no budget, a budget is more than a class allows, or no method but ``full`` is named. All
            of this is found before the embedding.
    """
    plan = DEFAULT.with_sets(runs)
    names = [name for name in check_methods(methods) if name != "full"]
    if not names or not classifiers:
        raise InputError(
            "expected a method besides 'full' and a classifier, found none; the full data are measured anyway"
        )
    steps, notes = make_steps(distiller, texts, budgets)
    clock = Clock()
    with clock.lap("embed"):
        embedded = distiller.embed(texts) if vectors is None else distiller.adopt(texts, vectors)
    context = distiller.context(texts, embedded, with_embedder=vectors is None)
    texts = context.source
    scores: dict[tuple[str, str], list[Score]] = {
        (method, name): [] for method in names for name in classifiers
    }
    total = (len(steps) * len(names) + 1) * len(classifiers)
    with clock.lap("rest"), distiller.progress.task("curve", total=total) as task:
        full = {}
        for name, classifier in classifiers.items():
            found = evaluate_method(
                classifier, name, [texts], test, texts, plan, seed=distiller.seed, results=results, full=True
            )
            full[name] = replace(found, full_accuracy=found.accuracy)
            task.advance()
        for step in steps:
            rung, distillation = _distil(with_budget(distiller, step.budget), context, names)
            for method in names:
                sets = make_sets(rung, distillation, method, plan)
                for name, classifier in classifiers.items():
                    found = evaluate_method(
                        classifier, name, sets, test, texts, plan, seed=distiller.seed, results=results
                    )
                    scores[method, name].append(replace(found, full_accuracy=full[name].accuracy))
                    task.advance()
    lines = {line: tuple(found) for line, found in scores.items()}
    return Curve(
        steps, lines, full, len(texts), len(test), (*overlap_note(texts, test), *notes), clock.seconds
    )


def _distil(distiller: Distiller, context: Context, methods: Sequence[str]) -> tuple[Distiller, Distillation]:
    """What ``distiller.run`` makes, but from vectors that are there and without embedding the texts that come out.

    Where its decoder is not to be measured, one that is takes its place, so that no text is written in vain.
    """
    decoders = [method for method in methods if method not in registry.names("baselines")]
    if distiller.decoder not in decoders:
        distiller = replace(distiller, decoder=decoders[0] if decoders else "nearest")
    prototypes = distiller.condense(context)
    decoded = distiller.decode(prototypes, context).texts
    source, texts = context.source, tuple(text.text for text in decoded)
    lineage = trace(prototypes, decoded, source.row_ids, None, str(distiller.decoder))
    distilled = DistilledDataset(texts, prototypes.labels, source.label_names, prototypes.weights, lineage)
    return distiller, Distillation(context, prototypes, distilled)
