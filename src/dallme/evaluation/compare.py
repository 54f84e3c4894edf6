"""The honest table: one budget, several ways to fill it, the same classifiers and the same test set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dallme import registry
from dallme.baselines.base import Baseline, ModelBaseline
from dallme.classifiers.base import Classifier
from dallme.data import LabelledTexts
from dallme.decoders.base import Context, Decoder
from dallme.decoders.nearest import first_sentences
from dallme.distiller import Distillation, Distiller
from dallme.errors import InputError, UnknownNameError
from dallme.evaluation.evaluate import Score, evaluate_method, overlap_note
from dallme.evaluation.protocol import DEFAULT, Protocol
from dallme.evaluation.results import ResultStore
from dallme.evaluation.significance import better, holm


def known_methods() -> list[str]:
    """The names of the baselines and decoders."""
    return [*registry.names("baselines"), *registry.names("decoders")]


def check_methods(methods: Sequence[str], classifiers: Iterable[str] = ()) -> list[str]:
    """Checks names of baselines and decoders; each is kept once, in the order asked for.

    Args:
        methods: The names, with an argument for those that take one.
        classifiers: Names of the classifiers, where baselines that hand over a trained model may be among the methods.

    Raises:
        UnknownNameError: If one is neither; it lists the known ones.
        InputError: If a method takes no argument and one is given, or if it hands over a model that is for none of the
            classifiers.
        MissingDependencyError: If one needs a package that is not installed.
        DallmeError: If a baseline misses something else that it needs.
    """
    known, columns = known_methods(), list(classifiers)
    for method in methods:
        name = method.partition(":")[0]
        if name not in known:
            raise UnknownNameError("method", method, known)
        if name not in registry.names("baselines"):
            registry.make("decoders", method)
            continue
        baseline: Baseline = registry.make("baselines", method)
        baseline.find()
        if isinstance(baseline, ModelBaseline) and not columns:
            raise InputError(
                f"expected methods that make texts, found {method!r}, which hands over a model; leave it out"
            )
    if columns:
        model_baselines(methods, columns)
    return list(dict.fromkeys(methods))


def model_baselines(methods: Sequence[str], classifiers: Iterable[str]) -> dict[str, ModelBaseline]:
    """Those of checked methods that hand over a trained model.

    Args:
        methods: Names of baselines and decoders.
        classifiers: Names of the classifiers, which are the columns of the table.

    Raises:
        InputError: If one fills none of the columns.
    """
    found, columns = {}, list(classifiers)
    for method in methods:
        if method.partition(":")[0] not in registry.names("baselines"):
            continue
        baseline: Baseline = registry.make("baselines", method)
        if isinstance(baseline, ModelBaseline):
            found[method] = baseline
            if not any(baseline.fits(name) for name in columns):
                kinds = ", ".join(name for name in registry.names("classifiers") if baseline.fits(name))
                raise InputError(
                    f"expected a classifier that the method {method!r} can be compared on ({kinds}), "
                    f"found only {', '.join(columns)}; name one, or leave the method out"
                )
    return found


def check_candidates(
    candidates: Mapping[str, Sequence[LabelledTexts]], source: LabelledTexts, test: LabelledTexts
) -> list[str]:
    """Checks ready sets before anything is trained.

    Returns:
        A note for each candidate whose sets differ in size, and for each with texts that stand in the test set.

    Raises:
        InputError: If a candidate has the name of a method, no set, or a set with a class that the source has not or with
            fewer than two classes.
    """
    notes, tested = [], set(test.texts)
    for name, sets in candidates.items():
        if name in known_methods():
            raise InputError(
                f"expected a candidate's name that no method has, found {name!r}; write a path as './{name}'"
            )
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
                raise InputError(
                    f"candidate {name!r}: expected texts of at least two classes, found {found} in set {place}"
                )
        sizes = [len(texts) for texts in sets]
        if min(sizes) < max(sizes):
            notes.append(
                f"the sets of candidate {name!r} have from {min(sizes):,} to {max(sizes):,} texts; the table shows the first's"
            )
        if shared := sum(text in tested for texts in sets for text in texts.texts):
            notes.append(
                f"{shared:,} of {sum(sizes):,} texts of candidate {name!r} stand in the test set: its row is too good"
            )
    return notes


def count_sets(method: str, protocol: Protocol) -> int:
    """How many sets :func:`make_sets` makes.

    Decoders make as many as the protocol says; so do baselines that choose at random, or the protocol's `draws` if that
    is more; other baselines make one.
    """
    if method.partition(":")[0] not in registry.names("baselines"):
        return protocol.sets
    baseline: Baseline = registry.make("baselines", method)
    return max(protocol.sets, protocol.draws) if baseline.varies else 1


def make_sets(
    distiller: Distiller, distillation: Distillation, method: str, protocol: Protocol
) -> list[LabelledTexts]:
    """The sets of texts of one method, :func:`count_sets` of them, with the seeds from the distiller's on.

    A set depends on its seed alone, not on how many there are.
    """
    context, first = distillation.context, distiller.seed
    if method in registry.names("baselines"):
        baseline: Baseline = registry.make("baselines", method)
        budget = distiller.allocate(context.source)
        seeds = range(first, first + count_sets(method, protocol))
        selected = [baseline.select(context.source, context.vectors, budget, seed=seed) for seed in seeds]
        return [_cut(texts, context) for texts in selected] if baseline.bounded else selected
    sets = []
    for seed in range(first, first + count_sets(method, protocol)):
        if seed == first and method == distiller.decoder:
            sets.append(distillation.distilled.to_labelled_texts())
            continue
        prototypes = (
            distillation.prototypes if seed == first else replace(distiller, seed=seed).condense(context)
        )
        decoder: Decoder = (
            distiller.resolved_decoder if method == distiller.decoder else registry.make("decoders", method)
        )
        decoded = decoder.decode(prototypes, context, seed=seed).texts
        sets.append(
            replace(
                distillation.distilled.to_labelled_texts(),
                texts=[text.text for text in decoded],
                labels=prototypes.labels,
            )
        )
    return sets


def _cut(texts: LabelledTexts, context: Context) -> LabelledTexts:
    """The texts cut to the token limit after a whole sentence, as those of the decoders are."""
    kept = (
        first_sentences(text, row, context.max_tokens, context.count_tokens, "en")
        for row, text in enumerate(texts.texts)
    )
    return replace(
        texts, texts=[text if cut is None else cut.text for text, cut in zip(texts.texts, kept, strict=True)]
    )


#: Stands for a score where only the names of its fields are wanted.
_NO_SCORE = Score("", (0.0,), (0.0,), 0.0)

#: A row is called better than ``random`` below this p, after Holm's correction over the table.
SIGNIFICANT = 0.05


@dataclass(frozen=True)
class MethodResult:
    """One row of the table.

    Attributes:
        method: Name of the baseline, decoder or candidate.
        texts: Texts in a set, the first where they differ, or what a model was trained on in their place.
        draws: Sets that were made, with different seeds, or handed over.
        scores: One a classifier that the method is for.
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
        protocol: How often classifiers were run, and how neural ones were trained.
        classifiers: The columns; by default those of the scores.
    """

    methods: tuple[MethodResult, ...]
    test_rows: int
    notes: tuple[str, ...] = ()
    protocol: Protocol = DEFAULT
    classifiers: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The table as JSON.

        Each result has `gain_over_random`, the difference in mean accuracy, and `p_better_than_random` and
        `p_better_than_nearest` (see :func:`~dallme.evaluation.significance.better`), null without a row of that name, for that
        row itself, and where there are too few runs. `better_than_random` says whether the first p is below .05
        after Holm's correction over all results that have one. Where a method is not for a classifier, all but the name
        of the classifier is null.
        """
        random, nearest = self._scores_of("random"), self._scores_of("nearest")
        columns = self.classifiers or tuple(
            dict.fromkeys(found.classifier for row in self.methods for found in row.scores)
        )
        rows, tested = [], []
        for row in self.methods:
            results, scores = [], {found.classifier: found for found in row.scores}
            for name in columns:
                result = _result(name, scores.get(name), random.get(name), nearest.get(name))
                results.append(result)
                tested += [result] if result["p_better_than_random"] is not None else []
            rows.append({"method": row.method, "texts": row.texts, "draws": row.draws, "results": results})
        for result, p in zip(
            tested, holm([result["p_better_than_random"] for result in tested]), strict=True
        ):
            result["better_than_random"] = p < SIGNIFICANT
        notes = list(self.notes)
        return {
            "methods": rows,
            "test_rows": self.test_rows,
            "notes": notes,
            "protocol": self.protocol.as_dict(),
        }

    def _scores_of(self, method: str) -> dict[str, Score]:
        """Classifier to score, for one row; empty without it."""
        return {
            score.classifier: score for row in self.methods if row.method == method for score in row.scores
        }


def _result(name: str, score: Score | None, random: Score | None, nearest: Score | None) -> dict[str, Any]:
    """One cell; without a score all but the name of the classifier is None."""
    if score is None:
        return {**dict.fromkeys(_cell(_NO_SCORE, None, None)), "classifier": name}
    return _cell(score, random, nearest)


def _cell(score: Score, random: Score | None, nearest: Score | None) -> dict[str, Any]:
    return score.as_dict() | {
        "gain_over_random": None if random is None else score.accuracy - random.accuracy,
        "p_better_than_random": _p_better(score, random),
        "p_better_than_nearest": _p_better(score, nearest),
        "better_than_random": False,
    }


def _p_better(score: Score, base: Score | None) -> float | None:
    return None if base is None or base is score else better(score, base)


def compare(
    distiller: Distiller,
    distillation: Distillation,
    test: LabelledTexts,
    methods: Sequence[str],
    classifiers: Mapping[str, Classifier],
    *,
    runs: int | None = None,
    candidates: Mapping[str, Sequence[LabelledTexts]] | None = None,
    protocol: Protocol = DEFAULT,
    results: ResultStore | None = None,
) -> Comparison:
    """Fills one budget in several ways and says what each is worth.

    Args:
        distiller: Its budget, condenser, seed and progress are used; its own decoder's texts are those of `distillation`.
        distillation: What `distiller` made of the source.
        test: Real texts with the same label ids.
        methods: Names of baselines and decoders; their texts are held to one token limit, only the full data are whole.
            Baselines that hand over a model are run as often as the full data, in the columns of the classifiers they fit.
        classifiers: Name to classifier.
        runs: In place of the sets of the protocol: sets that each decoder makes, with the seeds from the distiller's on.
            Without a named protocol, baselines that choose at random make ten, or as many if that is more.
        candidates: Name to ready sets with the label ids of the source, each one a draw. They are taken as they are,
            neither cut to the token limit nor held to the budget: the table shows how many texts they have. A named
            protocol uses the first of them, as many as it has sets.
        protocol: How often methods and classifiers are run, and how neural classifiers are trained.
        results: Where results are kept.

    Returns:
        The table, candidates last; where ``full`` is among the methods, each score says how much of it is recovered.

    Raises:
        InputError: If a candidate has the name of a method, no set, or a set with a class that the source has not or with
            fewer than two classes; if a method hands over a model that is for none of the classifiers.
    """
    plan = protocol.with_sets(runs)
    plan.check(classifiers)
    source, names = distillation.context.source, check_methods(methods, classifiers)
    models, budget = model_baselines(names, classifiers), distiller.allocate(source)
    ready = {name: list(plan.usable(sets)) for name, sets in (candidates or {}).items()}
    notes = [*overlap_note(source, test), *check_candidates(ready, source, test)]
    contestants = {
        name: [source] if name in models else make_sets(distiller, distillation, name, plan) for name in names
    } | ready
    columns = {method: dict(classifiers) for method in contestants}
    for method, model in models.items():
        fitting = {name: plan.prepare(made) for name, made in classifiers.items() if model.fits(name)}
        columns[method] = {name: model.trainer(made, source, budget) for name, made in fitting.items()}
    whole = {"full", *models}  # a model is trained on the full data, or as long
    rows: dict[str, MethodResult] = {}
    full: dict[str, float] = {}
    total = sum(
        plan.trainings(made, len(sets), full=method in whole)
        for method, sets in contestants.items()
        for made in columns[method].values()
    )
    with distiller.progress.task("compare", total=total) as task:
        # The full data comes first: every other row is measured against it.
        for method in sorted(contestants, key=lambda method: method != "full"):
            sets, scores = contestants[method], []
            for name, made in columns[method].items():
                kept: dict[str, Any] = {"seed": distiller.seed, "results": results, "task": task}
                found = evaluate_method(made, name, sets, test, source, plan, full=method in whole, **kept)
                if method == "full":
                    full[name] = found.accuracy
                scores.append(replace(found, full_accuracy=full.get(name)))
            size = models[method].size(source, budget) if method in models else len(sets[0])
            rows[method] = MethodResult(method, size, len(sets), tuple(scores))
    return Comparison(
        tuple(rows[method] for method in contestants), len(test), tuple(notes), plan, tuple(classifiers)
    )
