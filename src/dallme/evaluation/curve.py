"""Accuracy against budget, from one embedding of the source (section 5.2; Figures 4 and 5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from dallme import registry
from dallme.budget import Budget
from dallme.classifiers.base import Classifier
from dallme.data import LabelledTexts
from dallme.decoders.base import Context
from dallme.distilled import DistilledDataset, trace
from dallme.distiller import Distillation, Distiller
from dallme.errors import InputError
from dallme.evaluation.contestants import check_methods, make_sets
from dallme.evaluation.judging import judge
from dallme.evaluation.plans import PLAIN
from dallme.evaluation.protocol import Score, overlap_note
from dallme.evaluation.results import ResultStore
from dallme.evaluation.steps import Step, make_steps, with_budget
from dallme.manifest import Clock


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
    plan = PLAIN.with_sets(runs)
    names = [name for name in check_methods(methods) if name != "full"]
    if not names or not classifiers:
        raise InputError("expected a method besides 'full' and a classifier, found none; the full data are measured anyway")
    steps, notes = make_steps(distiller, texts, budgets)
    clock = Clock()
    with clock.lap("embed"):
        embedded = distiller.embed(texts) if vectors is None else distiller.adopt(texts, vectors)
    context = distiller.context(texts, embedded, with_embedder=vectors is None)
    texts = context.source
    scores: dict[tuple[str, str], list[Score]] = {(method, name): [] for method in names for name in classifiers}
    total = (len(steps) * len(names) + 1) * len(classifiers)
    with clock.lap("rest"), distiller.progress.task("curve", total=total) as task:
        full = {}
        for name, classifier in classifiers.items():
            found = judge(classifier, name, [texts], test, texts, plan, seed=distiller.seed, results=results, full=True)
            full[name] = replace(found, full_accuracy=found.accuracy)
            task.advance()
        for step in steps:
            rung, distillation = _distil(with_budget(distiller, step.budget), context, names)
            for method in names:
                sets = make_sets(rung, distillation, method, plan)
                for name, classifier in classifiers.items():
                    found = judge(classifier, name, sets, test, texts, plan, seed=distiller.seed, results=results)
                    scores[method, name].append(replace(found, full_accuracy=full[name].accuracy))
                    task.advance()
    lines = {line: tuple(found) for line, found in scores.items()}
    return Curve(steps, lines, full, len(texts), len(test), (*overlap_note(texts, test), *notes), clock.seconds)


def _distil(distiller: Distiller, context: Context, methods: Sequence[str]) -> tuple[Distiller, Distillation]:
    """What ``distiller.run`` makes, but from vectors that are there and without embedding the texts that come out.

    Where its decoder is not to be measured, one that is takes its place, so that no text is written in vain.
    """
    decoders = [method for method in methods if method not in registry.names("baselines")]
    if distiller.decoder not in decoders:
        distiller = replace(distiller, decoder=decoders[0] if decoders else "nearest")
    prototypes = distiller.condense(context)
    decoded = distiller.resolved_decoder.decode(prototypes, context, seed=distiller.seed)
    source, texts = context.source, tuple(text.text for text in decoded)
    lineage = trace(prototypes, decoded, source.row_ids, None, str(distiller.decoder))
    distilled = DistilledDataset(texts, prototypes.labels, source.label_names, prototypes.weights, lineage)
    return distiller, Distillation(context, prototypes, distilled)
