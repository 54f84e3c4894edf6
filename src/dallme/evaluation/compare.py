"""The honest table: one budget, several ways to fill it, the same classifiers and the same test set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dallme import registry
from dallme.baselines.base import Baseline
from dallme.classifiers.base import Classifier
from dallme.data import LabelledTexts
from dallme.decoders.base import Context, Decoder
from dallme.decoders.nearest import first_sentences
from dallme.distiller import Distillation, Distiller
from dallme.errors import InputError, UnknownNameError
from dallme.evaluation.protocol import Score, overlap_note, score
from dallme.validation import check_positive

#: Draws of a baseline that chooses at random (section 4, "Random Sampling").
RANDOM_DRAWS = 10


@dataclass(frozen=True)
class MethodResult:
    """One row of the table.

    Attributes:
        method: Name of the baseline, decoder or candidate.
        texts: Texts in a set, the first where they differ.
        draws: Sets that were made, with different seeds, or handed over.
        scores: One a classifier.
    """

    method: str
    texts: int
    draws: int
    scores: tuple[Score, ...]


@dataclass(frozen=True)
class Comparison:
    """The honest table.

    Attributes:
        methods: Its rows.
        test_rows: Rows of the test set.
        notes: What a reader should know, such as test rows that stand in the source as well.
    """

    methods: tuple[MethodResult, ...]
    test_rows: int
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The table as JSON; `gain_over_random` is the difference in mean accuracy, null without the method ``random``."""
        random = {score.classifier: score.accuracy for row in self.methods if row.method == "random" for score in row.scores}
        rows = []
        for row in self.methods:
            results = []
            for found in row.scores:
                base = random.get(found.classifier)
                results.append(found.as_dict() | {"gain_over_random": None if base is None else found.accuracy - base})
            rows.append({"method": row.method, "texts": row.texts, "draws": row.draws, "results": results})
        return {"methods": rows, "test_rows": self.test_rows, "notes": list(self.notes)}


def check_methods(methods: Sequence[str]) -> list[str]:
    """Checks names of baselines and decoders; each is kept once, in the order asked for.

    Raises:
        UnknownNameError: If one is neither; it lists the known ones.
    """
    known = [*registry.names("baselines"), *registry.names("decoders")]
    for method in methods:
        if method not in known:
            raise UnknownNameError("method", method, known)
    return list(dict.fromkeys(methods))


def compare(
    distiller: Distiller,
    distillation: Distillation,
    test: LabelledTexts,
    methods: Sequence[str],
    classifiers: Mapping[str, Classifier],
    *,
    runs: int = 1,
    candidates: Mapping[str, Sequence[LabelledTexts]] | None = None,
) -> Comparison:
    """Fills one budget in several ways and says what each is worth.

    Args:
        distiller: Its budget, condenser, seed and progress are used; its own decoder's texts are those of `distillation`.
        distillation: What `distiller` made of the source.
        test: Real texts with the same label ids.
        methods: Names of baselines and decoders; their texts are held to one token limit, only the full data are whole.
        classifiers: Name to classifier.
        runs: Sets that each decoder makes, with the seeds from the distiller's on. Baselines that choose at random make
            ten, or as many if that is more.
        candidates: Name to ready sets with the label ids of the source, each one a draw. They are taken as they are,
            neither cut to the token limit nor held to the budget: the table shows how many texts they have.

    Returns:
        The table, candidates last; where ``full`` is among the methods, each score says how much of it is recovered.

    Raises:
        InputError: If a candidate has the name of a method, no set, or a set with a class that the source has not or with
            fewer than two classes.
    """
    check_positive(runs, "runs")
    texts = distillation.context.source
    names = check_methods(methods)
    candidates = dict(candidates or {})
    notes = [*overlap_note(texts, test), *_check_candidates(candidates, texts)]
    full: dict[str, float] = {}
    rows: dict[str, MethodResult] = {}
    contestants = [*names, *candidates]
    with distiller.progress.task("compare", total=len(contestants) * len(classifiers)) as task:
        # The full data comes first: every other row is measured against it.
        for method in sorted(contestants, key=lambda method: method != "full"):
            sets = candidates[method] if method in candidates else _sets(distiller, distillation, method, runs)
            scores = []
            for name, classifier in classifiers.items():
                found = score(classifier, name, sets, test, runs=1, seed=distiller.seed)
                if method == "full":
                    full[name] = found.accuracy
                scores.append(replace(found, full_accuracy=full.get(name)))
                task.advance()
            rows[method] = MethodResult(method, len(sets[0]), len(sets), tuple(scores))
    return Comparison(tuple(rows[method] for method in contestants), len(test), tuple(notes))


def _check_candidates(candidates: Mapping[str, Sequence[LabelledTexts]], source: LabelledTexts) -> list[str]:
    """Checks ready sets before anything is trained; gives a note for each candidate whose sets differ in size."""
    notes = []
    known = [*registry.names("baselines"), *registry.names("decoders")]
    for name, sets in candidates.items():
        if name in known:
            raise InputError(f"expected a candidate's name that no method has, found {name!r}; write a path as './{name}'")
        if not sets:
            raise InputError(f"candidate {name!r}: expected at least one set of texts, found none")
        for place, texts in enumerate(sets):
            if other := sorted(set(texts.class_counts) - set(source.label_names)):
                raise InputError(
                    f"candidate {name!r}: expected the classes {list(source.label_names)} of the source, "
                    f"found {other} as well in set {place}; read it with like=source"
                )
            if len(texts.class_counts) < 2:
                found = list(texts.class_counts)
                raise InputError(f"candidate {name!r}: expected texts of at least two classes, found {found} in set {place}")
        sizes = [len(texts) for texts in sets]
        if min(sizes) < max(sizes):
            notes.append(
                f"the sets of candidate {name!r} have from {min(sizes):,} to {max(sizes):,} texts; the table shows the first's"
            )
    return notes


def _sets(distiller: Distiller, distillation: Distillation, method: str, runs: int) -> list[LabelledTexts]:
    """The sets of texts of one method, one a draw."""
    context, seeds = distillation.context, range(distiller.seed, distiller.seed + runs)
    if method in registry.names("baselines"):
        baseline: Baseline = registry.make("baselines", method)
        budget = distiller.allocate(context.source)
        draws = range(distiller.seed, distiller.seed + max(runs, RANDOM_DRAWS)) if baseline.varies else seeds[:1]
        selected = [baseline.select(context.source, context.vectors, budget, seed=seed) for seed in draws]
        return [_cut(texts, context) for texts in selected] if baseline.bounded else selected
    sets = []
    for seed in seeds:
        if seed == distiller.seed and method == distiller.decoder:
            sets.append(distillation.distilled.to_labelled_texts())
            continue
        prototypes = distillation.prototypes if seed == distiller.seed else replace(distiller, seed=seed).condense(context)
        decoder: Decoder = distiller.resolved_decoder if method == distiller.decoder else registry.make("decoders", method)
        decoded = decoder.decode(prototypes, context, seed=seed)
        sets.append(
            replace(distillation.distilled.to_labelled_texts(), texts=[text.text for text in decoded], labels=prototypes.labels)
        )
    return sets


def _cut(texts: LabelledTexts, context: Context) -> LabelledTexts:
    """The texts cut to the token limit after a whole sentence, as those of the decoders are."""
    kept = (first_sentences(text, row, context.max_tokens, context.count_tokens, "en") for row, text in enumerate(texts.texts))
    return replace(texts, texts=[text if cut is None else cut.text for text, cut in zip(texts.texts, kept, strict=True)])
