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
from dallme.evaluation.compare import check_methods
from dallme.evaluation.evaluate import Score, chance_level, chance_notes, evaluate_method, overlap_note
from dallme.evaluation.protocol import DEFAULT
from dallme.evaluation.results import ResultStore
from dallme.evaluation.sets import make_sets

#: Default budgets: texts per class, and shares of the rows for small classes.
PER_CLASS = (1, 2, 5, 10, 20, 50, 100)
RATIOS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)

#: Minimum number of budgets that can have a knee.
MIN_BUDGETS = 3

#: Differences below this are rounding errors.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Step:
    """One budget of a curve.

    Attributes:
        budget: The requested budget.
        texts: Texts in all.
        ratio: Distillation ratio: texts as a share of the rows.
    """

    budget: Budget
    texts: int
    ratio: float

    @property
    def words(self) -> str:
        """The budget in words."""
        if self.budget.per_class is not None:
            return f"{self.budget.per_class:,} text{'s' if self.budget.per_class > 1 else ''} per class"
        if self.budget.ratio is None:
            return f"{self.texts:,} texts"
        return f"{100 * self.budget.ratio:.3g}% of the rows"


def default_budgets(texts: LabelledTexts) -> list[Budget]:
    """Returns texts per class up to half of the smallest class, or shares of the rows for small classes."""
    _, largest = _smallest_class(texts)
    counts = [count for count in PER_CLASS if count <= largest / 2]
    if len(counts) >= MIN_BUDGETS:
        return [Budget(per_class=count) for count in counts]
    return [Budget(ratio=ratio) for ratio in RATIOS]


def make_steps(
    distiller: Distiller, texts: LabelledTexts, budgets: Sequence[Budget]
) -> tuple[tuple[Step, ...], list[str]]:
    """Checks and sorts budgets.

    Args:
        distiller: The distiller; its own budget is not used.
        texts: The source.
        budgets: Budgets in any order; of those with the same number of texts the first is kept.

    Returns:
        The steps, fewest texts first, and a note on each budget that was left out.

    Raises:
        InputError: If there is no budget, or one is more than a class allows; the message names the largest
            possible.
    """
    if not budgets:
        raise InputError("expected at least one budget, found none")
    name, largest = _smallest_class(texts)
    steps: dict[int, Step] = {}
    notes = []
    for budget in budgets:
        if budget.per_class is not None and budget.allocation == "equal" and budget.per_class > largest:
            raise InputError(
                f"expected at most {largest:,} texts per class, found {budget.per_class:,}: "
                f"class {name!r} has only {largest:,} different texts; ask for fewer, or give ratios"
            )
        count = sum(with_budget(distiller, budget).allocate(texts).values())
        step = Step(budget, count, count / len(texts))
        if steps.setdefault(count, step).budget != budget:
            notes.append(
                f"{step.words} come to {count:,} texts, as {steps[count].words} do; they are measured once"
            )
    return tuple(steps[count] for count in sorted(steps)), notes


def with_budget(distiller: Distiller, budget: Budget) -> Distiller:
    """Returns the distiller with another budget."""
    return replace(
        distiller,
        per_class=budget.per_class,
        ratio=budget.ratio,
        total=budget.total,
        allocation=budget.allocation,
    )


def _smallest_class(texts: LabelledTexts) -> tuple[str, int]:
    """Returns the class with the fewest different texts: its name and their number."""
    distinct: dict[int, set[str]] = {label: set() for label in texts.class_counts}
    for text, label in zip(texts.texts, texts.labels.tolist(), strict=True):
        distinct[label].add(text)
    smallest = min(distinct, key=lambda label: len(distinct[label]))
    return texts.label_names[smallest], len(distinct[smallest])


def find_knee(sizes: Sequence[float], accuracies: Sequence[float] | np.ndarray) -> int | None:
    """Finds the size with diminishing returns after it.

    Accuracies are replaced by their running maximum, sizes by their logarithm, and both axes are scaled to
    [0, 1]. The knee is the point farthest above the chord from the first to the last (Satopää et al., 2011,
    "Finding a 'Kneedle' in a Haystack").

    Args:
        sizes: Increasing numbers of at least 1.
        accuracies: One per size.

    Returns:
        The index of the knee: 0 if no size gains anything; None with fewer than three sizes or no point above
        the chord.

    Example:
        >>> find_knee([1, 10, 100, 1000], [0.5, 0.8, 0.81, 0.82])
        1
    """
    if len(sizes) < MIN_BUDGETS:
        return None
    x, y = np.log(np.asarray(sizes, dtype=float)), np.maximum.accumulate(np.asarray(accuracies, dtype=float))
    if y[-1] == y[0]:
        return 0
    above = (y - y[0]) / (y[-1] - y[0]) - (x - x[0]) / (x[-1] - x[0])
    if above.max() <= _ROUNDING:
        return None
    return int(np.flatnonzero(above >= above.max() - _ROUNDING)[0])


def find_level(
    sizes: Sequence[float], accuracies: Sequence[float] | np.ndarray, level: float
) -> tuple[int | None, float | None]:
    """Finds the smallest size that reaches an accuracy.

    Args:
        sizes: Increasing numbers.
        accuracies: One per size.
        level: The accuracy to reach.

    Returns:
        The index of that size, or None. Also the interpolated size, at which a straight line from the
        previous size reaches the level; None without a previous size.
    """
    reached = np.flatnonzero(np.asarray(accuracies) >= level - _ROUNDING)
    if not len(reached):
        return None, None
    first = int(reached[0])
    if not first:
        return 0, None
    low, high = accuracies[first - 1], accuracies[first]
    share = min(1.0, float((level - low) / (high - low)))
    return first, float(sizes[first - 1] + share * (sizes[first] - sizes[first - 1]))


def check_share(share: float) -> None:
    """Checks the share of the full data's accuracy to recover.

    Raises:
        InputError: If it is not in (0, 1].
    """
    if not 0 < share <= 1:
        raise InputError(f"expected the share to recover in (0, 1], found {share!r}")


@dataclass(frozen=True)
class Finding:
    """A budget picked from a curve.

    Attributes:
        method: The method; its curve is the average over the classifiers.
        words: The finding as a sentence.
        step: The measured budget, or None.
        accuracy: Accuracy at that budget.
        recovered: Accuracy as a share of the full data's.
        interpolated_texts: Number of texts at which a line between measured budgets reaches the target.
    """

    method: str
    words: str
    step: Step | None = None
    accuracy: float | None = None
    recovered: float | None = None
    interpolated_texts: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Returns the fields for JSON."""
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


@dataclass(frozen=True)
class Curve:
    """Accuracy against budget.

    Attributes:
        steps: The budgets, fewest texts first.
        scores: Method and classifier to one score per step.
        full: Classifier to the score of the full data.
        train_rows: Rows of the source.
        test_rows: Rows of the test set.
        notes: Notes for the reader, such as budgets with the same number of texts.
        seconds: Time of embedding the source and of everything after it; not part of the JSON.
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
        return float(np.mean([score.accuracy for score in self.full.values()]))

    def average(self, method: str) -> np.ndarray:
        """Averages the accuracy of a method over the classifiers (section 5.2); returns shape (steps,)."""
        accuracies = [[score.accuracy for score in self.scores[method, name]] for name in self.full]
        averaged: np.ndarray = np.mean(accuracies, axis=0)
        return averaged

    def knee(self, method: str) -> Finding:
        """Finds the budget with diminishing returns after it; see :func:`find_knee`."""
        index = find_knee([step.texts for step in self.steps], self.average(method))
        if index is not None:
            return self._finding(method, index, f"{method}: knee at")
        if len(self.steps) < MIN_BUDGETS:
            reason = f"no knee, which takes at least {MIN_BUDGETS} budgets, found {len(self.steps)}"
        else:
            reason = f"no knee: up to {self.steps[-1].words} the gain does not slow down"
        return Finding(method, f"{method}: {reason}")

    def smallest_recovering(self, method: str, share: float) -> Finding:
        """Finds the smallest measured budget that recovers a share of the full data's accuracy.

        Raises:
            InputError: If the share is not in (0, 1].
        """
        check_share(share)
        goal = f"{method}: {100 * share:.3g}% of the full data's accuracy"
        accuracies, sizes = self.average(method), [step.texts for step in self.steps]
        index, size = find_level(sizes, accuracies, share * self.full_accuracy)
        if index is None:
            most = self._finding(method, int(np.argmax(accuracies)), "the most is at")
            return Finding(method, f"{goal} is not reached; {most.words}")
        end = "" if size is None else f"; on a line between the measured, at {size:,.0f} texts in all"
        return self._finding(method, index, f"{goal} at", end, size)

    def _finding(
        self, method: str, index: int, start: str, end: str = "", size: float | None = None
    ) -> Finding:
        """Describes a step of a method's average curve."""
        step, accuracy = self.steps[index], float(self.average(method)[index])
        share = accuracy / self.full_accuracy if self.full_accuracy else None
        of_full = "" if share is None else f" ({share:.1%} of full data)"
        words = f"{start} {step.words}: {accuracy:.3f}{of_full}{end}"
        return Finding(method, words, step, accuracy, share, size)

    def as_dict(self) -> dict[str, Any]:
        """Returns the points for JSON, without times: the same seed gives the same bytes."""
        points = [
            {
                "method": method,
                "per_class": step.budget.per_class,
                "texts": step.texts,
                "ratio": step.ratio,
                **_without_seconds(score),
            }
            for (method, _), scores in self.scores.items()
            for step, score in zip(self.steps, scores, strict=True)
        ]
        return {
            "points": points,
            "full": [_without_seconds(score) for score in self.full.values()],
            "train_rows": self.train_rows,
            "test_rows": self.test_rows,
            "notes": list(self.notes),
        }


def _without_seconds(score: Score) -> dict[str, Any]:
    return {name: value for name, value in score.as_dict().items() if name != "seconds"}


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
    """Measures several budgets and methods from one embedding; :func:`dallme.curve` takes sources and names.

    Args:
        distiller: The distiller; its own budget is not used.
        texts: The source.
        test: Real texts with the same label ids.
        budgets: Budgets in any order; of those with the same number of texts the first is measured.
        methods: Names of baselines and decoders; each makes as many sets as in
            :func:`~dallme.evaluation.compare.compare`.
        classifiers: Name to classifier; each is trained on the full data once.
        vectors: Ready vectors of the source, of shape (n, d); no embedder is loaded then.
        runs: Sets that each decoder makes, under consecutive seeds from the distiller's on.
        results: Store of results.

    Returns:
        The curve; each score has the recovered accuracy.

    Raises:
        InputError: If there is no budget, a budget is more than a class allows, or ``full`` is the only
            method. It is raised before the embedding.
    """
    protocol = DEFAULT.with_sets(runs)
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
    options: dict[str, Any] = {"seed": distiller.seed, "results": results}
    scores: dict[tuple[str, str], list[Score]] = {
        (method, name): [] for method in names for name in classifiers
    }
    chance = chance_level(test)
    total = (len(steps) * len(names) + 1) * len(classifiers)
    with clock.lap("rest"), distiller.progress.task("curve", total=total) as task:
        full = {}
        for name, classifier in classifiers.items():
            score = evaluate_method(classifier, name, [texts], test, texts, protocol, full=True, **options)
            full[name] = replace(score, full_accuracy=score.accuracy, chance=chance)
            task.advance()
        for step in steps:
            step_distiller, distillation = _distil(with_budget(distiller, step.budget), context, names)
            for method in names:
                sets = make_sets(step_distiller, distillation, method, protocol)
                for name, classifier in classifiers.items():
                    score = evaluate_method(classifier, name, sets, test, texts, protocol, **options)
                    scores[method, name].append(
                        replace(score, full_accuracy=full[name].accuracy, chance=chance)
                    )
                    task.advance()
    return Curve(
        steps,
        {key: tuple(step_scores) for key, step_scores in scores.items()},
        full,
        len(texts),
        len(test),
        (*overlap_note(texts, test), *notes, *chance_notes([*full.values()], test)),
        clock.seconds,
    )


def _distil(distiller: Distiller, context: Context, methods: Sequence[str]) -> tuple[Distiller, Distillation]:
    """Distils as ``distiller.run``, but from ready vectors and without embedding the distilled texts.

    If the distiller's decoder is not among the methods, the first decoder among them replaces it.
    """
    decoders = [method for method in methods if method not in registry.names("baselines")]
    if distiller.decoder not in decoders:
        distiller = replace(distiller, decoder=decoders[0] if decoders else "nearest")
    prototypes = distiller.condense(context)
    decoded = distiller.decode(prototypes, context).texts
    source, texts = context.source, tuple(text.text for text in decoded)
    lineage = trace(prototypes, decoded, source.row_ids, None, str(distiller.decoder))
    distilled = DistilledDataset(
        texts,
        prototypes.labels,
        source.label_names,
        prototypes.weights,
        lineage,
        own_ids=source.own_ids,
    )
    return distiller, Distillation(context, prototypes, distilled)
