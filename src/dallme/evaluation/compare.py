"""Comparison table: one budget, several methods, the same classifiers and test set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dallme import registry
from dallme.baselines.base import Baseline, ModelBaseline
from dallme.classifiers.base import Classifier
from dallme.data import LabelledTexts
from dallme.dataset.comparison import comparison_table
from dallme.distiller import Distillation, Distiller
from dallme.errors import InputError, UnknownNameError
from dallme.evaluation.evaluate import Score, chance_level, chance_notes, evaluate_method, overlap_note
from dallme.evaluation.protocol import DEFAULT, Protocol
from dallme.evaluation.results import ResultStore
from dallme.evaluation.sets import SOFT, check_match, count_tokens, make_sets
from dallme.evaluation.significance import better, holm

#: Level of significance of the difference to ``random``, after Holm's correction over the table.
SIGNIFICANT = 0.05


def known_methods() -> list[str]:
    """Lists the names of the baselines and decoders."""
    return [*registry.names("baselines"), *registry.names("decoders")]


def check_methods(methods: Sequence[str], classifiers: Iterable[str] = ()) -> list[str]:
    """Checks names of baselines and decoders; returns each once, in order.

    Args:
        methods: The names, with an argument for those that take one.
        classifiers: Names of the classifiers; without any, baselines that return a trained model are not
            accepted.

    Raises:
        UnknownNameError: If a name is neither; the message lists the known ones.
        InputError: If a method takes no argument and one is given, or returns a model that fits none of the
            classifiers.
        MissingDependencyError: If a method needs a package that is not installed.
        DallmeError: If a baseline lacks something else that it needs.
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
                f"expected methods that return texts, found {method!r}, which returns a model; leave it out"
            )
    if columns:
        model_baselines(methods, columns)
    return list(dict.fromkeys(methods))


def model_baselines(methods: Sequence[str], classifiers: Iterable[str]) -> dict[str, ModelBaseline]:
    """Makes those of checked methods that return a trained model.

    Args:
        methods: Names of baselines and decoders.
        classifiers: Names of the classifiers, the columns of the table.

    Raises:
        InputError: If a method fits none of the columns.
    """
    models, columns = {}, list(classifiers)
    for method in methods:
        if method.partition(":")[0] not in registry.names("baselines"):
            continue
        baseline: Baseline = registry.make("baselines", method)
        if isinstance(baseline, ModelBaseline):
            models[method] = baseline
            if not any(baseline.fits(name) for name in columns):
                accepted = ", ".join(name for name in registry.names("classifiers") if baseline.fits(name))
                raise InputError(
                    f"expected a classifier that the method {method!r} can be compared on ({accepted}), "
                    f"found only {', '.join(columns)}; name one, or leave the method out"
                )
    return models


def check_candidates(
    candidates: Mapping[str, Sequence[LabelledTexts]], source: LabelledTexts, test: LabelledTexts
) -> list[str]:
    """Checks ready sets before anything is trained.

    Returns:
        A note on each candidate whose sets differ in size, and on each with texts of the test set.

    Raises:
        InputError: If a candidate has the name of a method, or no set. Or if one of its sets has fewer than
            two classes, or a class that the source lacks.
    """
    notes, test_texts = [], set(test.texts)
    for name, sets in candidates.items():
        if name in known_methods():
            raise InputError(
                f"expected a candidate's name that no method has, found {name!r}; write a path as './{name}'"
            )
        if not sets:
            raise InputError(f"candidate {name!r}: expected at least one set of texts, found none")
        for index, texts in enumerate(sets):
            if unknown := sorted(set(texts.class_counts) - set(source.label_names)):
                raise InputError(
                    f"candidate {name!r}: expected the classes {list(source.label_names)} of the source, "
                    f"found {unknown} as well in set {index}; read it with like=source"
                )
            if len(texts.class_counts) < 2:
                raise InputError(
                    f"candidate {name!r}: expected texts of at least two classes, "
                    f"found {list(texts.class_counts)} in set {index}"
                )
        sizes = [len(texts) for texts in sets]
        if min(sizes) < max(sizes):
            notes.append(
                f"the sets of candidate {name!r} have from {min(sizes):,} to {max(sizes):,} texts; "
                "the table shows the first's"
            )
        if shared := sum(text in test_texts for texts in sets for text in texts.texts):
            notes.append(
                f"{shared:,} of {sum(sizes):,} texts of candidate {name!r} are in the test set: "
                "its accuracy is inflated"
            )
    return notes


@dataclass(frozen=True)
class MethodResult:
    """One row of the table.

    Attributes:
        method: Name of the baseline, decoder or candidate.
        texts: Texts in the first set, or texts that the method's model was trained on.
        draws: Number of sets.
        scores: One score per classifier that the method fits.
        tokens: Tokens of the texts in the first set, by the embedder's tokenizer; None for a model.
    """

    method: str
    texts: int
    draws: int
    scores: tuple[Score, ...]
    tokens: int | None = None


@dataclass(frozen=True)
class Comparison:
    """The comparison table.

    Attributes:
        methods: Its rows.
        test_rows: Rows of the test set.
        notes: Notes for the reader, such as test rows that are in the source as well.
        protocol: Number of runs and training options.
        classifiers: Its columns; by default those of the scores.
        match: What the budgets have in common: ``texts`` or ``tokens``.
    """

    methods: tuple[MethodResult, ...]
    test_rows: int
    notes: tuple[str, ...] = ()
    protocol: Protocol = DEFAULT
    classifiers: tuple[str, ...] = ()
    match: str = "texts"

    def __str__(self) -> str:
        """The table as Markdown."""
        return comparison_table(self.as_dict())

    def as_dict(self) -> dict[str, Any]:
        """Returns the table for JSON.

        Each result has `gain_over_random`, the difference in mean accuracy, `p_better_than_random` and
        `p_better_than_nearest` (see :func:`~dallme.evaluation.significance.better`). They are None without a
        row of that name; p is also None in the row itself and with too few runs. `better_than_random` says
        whether the first p is below 0.05 after Holm's correction over the table. If a method does not fit a
        classifier, all else in the cell is None.
        """
        columns = self.classifiers or tuple(
            dict.fromkeys(score.classifier for row in self.methods for score in row.scores)
        )
        random, nearest = self._scores_of("random"), self._scores_of("nearest")
        rows: list[dict[str, Any]] = []
        for row in self.methods:
            scores = {score.classifier: score for score in row.scores}
            cells = [_cell(name, scores.get(name), random.get(name), nearest.get(name)) for name in columns]
            sizes = {"texts": row.texts, "tokens": row.tokens, "draws": row.draws}
            rows.append({"method": row.method, **sizes, "results": cells})
        tested = [cell for row in rows for cell in row["results"] if cell["p_better_than_random"] is not None]
        corrected = holm([cell["p_better_than_random"] for cell in tested])
        for cell, p_value in zip(tested, corrected, strict=True):
            cell["better_than_random"] = p_value < SIGNIFICANT
        return {
            "methods": rows,
            "test_rows": self.test_rows,
            "notes": list(self.notes),
            "protocol": self.protocol.as_dict(),
            "match": self.match,
        }

    def _scores_of(self, method: str) -> dict[str, Score]:
        """Returns classifier to score of one row; empty without it."""
        return {
            score.classifier: score for row in self.methods if row.method == method for score in row.scores
        }


def _cell(name: str, score: Score | None, random: Score | None, nearest: Score | None) -> dict[str, Any]:
    """Returns one cell of the table; without a score all but the name of the classifier is None."""
    if score is None:
        fields = _cell(name, Score(name, (0.0,), (0.0,), 0.0), None, None)
        return dict.fromkeys(fields) | {"classifier": name}
    return {
        **score.as_dict(),
        "gain_over_random": None if random is None else score.accuracy - random.accuracy,
        "p_better_than_random": _p_better(score, random),
        "p_better_than_nearest": _p_better(score, nearest),
        "better_than_random": False,
    }


def _p_better(score: Score, reference: Score | None) -> float | None:
    return None if reference is None or reference is score else better(score, reference)


def compare(
    distiller: Distiller,
    distillation: Distillation,
    test: LabelledTexts,
    methods: Sequence[str],
    classifiers: Mapping[str, Classifier],
    *,
    candidates: Mapping[str, Sequence[LabelledTexts]] | None = None,
    protocol: Protocol = DEFAULT,
    results: ResultStore | None = None,
    soft_labels: bool = False,
    match: str = "texts",
) -> Comparison:
    """Compares methods that fill one budget; :func:`dallme.compare` takes sources and names.

    Args:
        distiller: Its budget, condenser, seed and progress are used.
        distillation: Output of ``distiller.run`` on the source; it holds the set of the distiller's own
            decoder.
        test: Real texts with the same label ids.
        methods: Names of baselines and decoders. Texts of all but ``full`` are truncated to one token limit.
            Baselines that return a model are run as often as the full data, in the columns of the classifiers
            they fit.
        classifiers: Name to classifier.
        candidates: Name to ready sets with the label ids of the source, each set one draw. They are neither
            truncated nor held to the budget. A published protocol uses only as many as it has sets.
        protocol: Number of runs and training options.
        results: Store of results.
        soft_labels: Whether to add for each method that makes texts a row in which classifiers learn from
            soft labels, if they can.
        match: ``texts`` gives each method as many texts as the budget has. ``tokens`` gives it as many texts
            of each class as fit the tokens of the distilled ones.

    Returns:
        The table, candidates last. With ``full`` among the methods, each score has the recovered accuracy.

    Raises:
        InputError: If a candidate has the name of a method, no set, or a set with wrong classes. Or if a
            method returns a model that fits none of the classifiers.
    """
    protocol.check(classifiers)
    check_match(match)
    source, names = distillation.context.source, check_methods(methods, classifiers)
    models, budget = model_baselines(names, classifiers), distiller.allocate(source)
    ready = {name: list(protocol.usable(sets)) for name, sets in (candidates or {}).items()}
    notes = [*overlap_note(source, test), *check_candidates(ready, source, test)]
    sets_of = {
        name: [source] if name in models else make_sets(distiller, distillation, name, protocol, match=match)
        for name in names
    } | ready
    for name in names:
        if soft_labels and name != "full" and name not in models:
            sets_of[name + SOFT] = make_sets(
                distiller, distillation, name, protocol, with_soft_labels=True, match=match
            )
    columns = {
        method: {name: each for name, each in classifiers.items() if _learns_from(each, sets[0])}
        for method, sets in sets_of.items()
    }
    notes += [
        f"{name}: {method} is left out, since it has {len(sets[0]):,} texts, more than {each.most_texts:,}"
        for name, each in classifiers.items()
        for method, sets in sets_of.items()
        if method not in models and not _reads(each, sets[0])
    ]
    for method, model in models.items():
        columns[method] = {
            name: model.trainer(protocol.prepare(classifier), source, budget)
            for name, classifier in classifiers.items()
            if model.fits(name)
        }
    full_methods = {"full", *models}  # a model is trained on the full data
    total = sum(
        protocol.trainings(classifier, len(sets), full=method in full_methods)
        for method, sets in sets_of.items()
        for classifier in columns[method].values()
    )
    rows: dict[str, MethodResult] = {}
    full_accuracy: dict[str, float] = {}
    with distiller.progress.task("compare", total=total) as task:
        # The full data come first: every other row is measured against them.
        for method in sorted(sets_of, key=lambda method: method != "full"):
            sets, scores = sets_of[method], []
            for name, classifier in columns[method].items():
                score = evaluate_method(
                    classifier,
                    name,
                    sets,
                    test,
                    source,
                    protocol,
                    seed=distiller.seed,
                    results=results,
                    task=task,
                    full=method in full_methods,
                )
                if method == "full":
                    full_accuracy[name] = score.accuracy
                reference = full_accuracy.get(name)
                scores.append(replace(score, full_accuracy=reference, chance=chance_level(test)))
            size = models[method].size(source, budget) if method in models else len(sets[0])
            tokens = None if method in models else count_tokens(sets[0].texts, distillation.context)
            rows[method] = MethodResult(method, size, len(sets), tuple(scores), tokens)
    # The row of the full data suffices: each classifier is noted once.
    checked = [rows["full"]] if "full" in rows else [*rows.values()]
    notes += chance_notes([score for row in checked for score in row.scores], test)
    return Comparison(
        tuple(rows[method] for method in sets_of),
        len(test),
        tuple(notes),
        protocol,
        tuple(classifiers),
        match,
    )


def _learns_from(classifier: Classifier, texts: LabelledTexts) -> bool:
    """Whether a classifier can be trained on that many texts and, if they have soft labels, on those."""
    return _reads(classifier, texts) and (classifier.soft or texts.probabilities is None)


def _reads(classifier: Classifier, texts: LabelledTexts) -> bool:
    """Whether a classifier can be trained on that many texts."""
    return classifier.most_texts is None or len(texts) <= classifier.most_texts
