"""Scores of a submission and of baselines, stored row by row."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import Any, cast

import numpy as np

from dallme.classifiers.base import Classifier
from dallme.data import LabelledTexts
from dallme.decoders.base import Context
from dallme.distiller import Distillation, Distiller
from dallme.embedders.base import Embedder, count_words
from dallme.embedders.cache import CachedEmbedder
from dallme.errors import MissingDependencyError, ModelNotFoundError
from dallme.evaluation.evaluate import evaluate_method, make_classifiers
from dallme.evaluation.protocol import DEFAULT, RANDOM_DRAWS, Protocol
from dallme.evaluation.results import ResultStore
from dallme.evaluation.sets import make_sets
from dallme.experiments.rows import Row, RowFile
from dallme.experiments.running import PACKAGES
from dallme.files.atomic import sha256_of
from dallme.leaderboard.datasets import Dataset
from dallme.leaderboard.submission import Submission, SubmittedSets
from dallme.overlap import CONTAMINATION, SuffixAutomaton, words_of
from dallme.progress import Progress
from dallme.text import clean, sentences
from dallme.versions import __version__, installed_versions

#: Version of the meaning of a row; raise it to invalidate older rows.
VERSION = 1

#: Kind of the rows that describe a submission.
SUBMISSION = "submission"

#: Classifiers that a score trains unless others are named. The first needs an embedder.
CLASSIFIERS = ("embedding-lr", "logistic-regression", "naive-bayes")

#: Method name of the full data.
FULL = "full"

#: Baseline that the others are compared with.
RANDOM = "random"

#: Default embedder.
EMBEDDER = "all-MiniLM-L6-v2"

#: Baselines that choose rows by their vectors.
BY_VECTORS = ("nearest", "herding")

#: Words that a sentence must have to count as copied.
SENTENCE_WORDS = 5


@dataclass(frozen=True)
class Tools:
    """Models and folders that a score uses.

    Attributes:
        classifiers: Name to classifier.
        embedder: The embedder; None if its model is not installed.
        store: Folder of vectors and of results of trainings.
        progress: Progress display.
    """

    classifiers: Mapping[str, Classifier]
    embedder: Embedder | None
    store: Path
    progress: Progress

    @property
    def tokenizer(self) -> str:
        """Name of the tokenizer that counts tokens."""
        return "words" if self.embedder is None else self.embedder.name

    def count_tokens(self, texts: Sequence[str]) -> int:
        """Counts the tokens of texts together, special tokens included."""
        return int((self.embedder.count_tokens if self.embedder else count_words)(texts).sum())


def make_tools(
    embedder: str | None, names: Sequence[str] | None, store: Path, progress: Progress
) -> tuple[Tools, list[str]]:
    """Makes the classifiers, and looks for the embedder.

    Args:
        embedder: Name of the embedder; None for :data:`EMBEDDER` if it is installed, else none.
        names: Names of classifiers; None for :data:`CLASSIFIERS`, without ``embedding-lr`` if there is no
            embedder.
        store: Folder of vectors and results.
        progress: Progress display.

    Returns:
        The tools, and a note if the default embedder is not installed.

    Raises:
        DallmeError: If a named classifier or embedder is unknown or cannot be used.
    """
    from dallme.embedders import resolve

    found: CachedEmbedder | None = None
    notes = []
    try:
        found = CachedEmbedder(resolve(embedder or EMBEDDER), None, store, progress)
        found.model.count_tokens(["a text"])  # looks for the model
    except (ModelNotFoundError, MissingDependencyError) as error:
        if embedder is not None:
            raise
        found = None
        notes.append(f"embedding-lr, nearest and herding are left out, tokens are words: {error}")
    chosen = names or (CLASSIFIERS if found else CLASSIFIERS[1:])
    classifiers = make_classifiers(chosen, found)
    return Tools(classifiers, found.model if found else None, store, progress), notes


@dataclass(frozen=True, eq=False)
class _Method:
    """The sets of one method for one data set and budget.

    Attributes:
        name: Name of the submission or baseline.
        data: The data set.
        budget: Texts a class; 0 for the full data.
        digest: SHA-256 of the sets, or of all that they are made from.
        make: Returns the sets.
        tokens_of: Digest of the submitted sets whose tokens are matched, or blank.
        soft: Whether the sets have soft labels.
        quotes: Whether the texts are training rows by definition.
    """

    name: str
    data: Dataset
    budget: int
    digest: str
    make: Callable[[], Sequence[LabelledTexts]]
    tokens_of: str = ""
    soft: bool = False
    quotes: bool = False

    def config(self, kind: str, **more: Any) -> dict[str, Any]:
        """Returns the configuration of a row."""
        shared = {"kind": kind, "version": VERSION, "method": self.name, "dataset": self.data.name}
        own = {"budget": self.budget, "sets": self.digest, "tokens_of": self.tokens_of}
        return shared | own | more


@dataclass(frozen=True)
class _Job:
    """A row that may have to be computed."""

    config: Mapping[str, Any]
    inputs: Mapping[str, Any]
    compute: Callable[[], dict[str, Any]]

    @property
    def key(self) -> str:
        return sha256_of([json.dumps([self.config, self.inputs], sort_keys=True)])

    def run(self) -> Row:
        started = time.perf_counter()
        result = self.compute()
        seconds = round(time.perf_counter() - started, 3)
        installed = installed_versions(PACKAGES)
        versions = {"python": installed.pop("python"), "dallme": __version__, **installed}
        when = datetime.now(UTC).isoformat(timespec="seconds")
        return Row(self.key, self.config, result, seconds, 0, versions, when)


def score_submission(
    submission: Submission, sets: Sequence[SubmittedSets], tools: Tools, file: RowFile, *, baselines: bool
) -> tuple[int, int]:
    """Scores checked sets; a row that is stored is not computed again.

    Each row is on the disk before the next is computed.

    Args:
        submission: The description.
        sets: The sets.
        tools: Classifiers and folders.
        file: The rows.
        baselines: Whether to score random texts, at equal texts and at equal tokens, ``nearest`` and
            ``herding`` too.

    Returns:
        The numbers of rows that were computed, and that were stored before.

    Raises:
        OutputError: If another process writes there, or a row cannot be written.
    """
    methods = [_submitted(submission.name, each) for each in sets]
    methods += [_full(data) for data in {each.data.name: each.data for each in sets}.values()]
    if baselines:
        methods += [baseline for each in sets for baseline in _baselines(each, tools)]
    jobs = [job for method in methods for job in _jobs(method, tools)]
    computed = 0
    with file.lock():
        stored = {row.key: row for row in file.load()}
        _describe(submission, sets, stored.values(), file)
        with tools.progress.task("benchmark", total=len(jobs)) as task:
            for job in jobs:
                if job.key not in stored:
                    file.append(job.run())
                    computed += 1
                task.advance()
    return computed, len(jobs) - computed


def _full(data: Dataset) -> _Method:
    digest = sha256_of([data.source.digest, data.test.digest])
    return _Method(FULL, data, 0, digest, lambda: [data.source])


def _submitted(name: str, sets: SubmittedSets) -> _Method:
    soft = sets.draws[0].probabilities is not None
    return _Method(name, sets.data, sets.budget, sets.digest, lambda: sets.draws, soft=soft)


def _describe(submission: Submission, sets: Sequence[SubmittedSets], stored: Any, file: RowFile) -> None:
    """Stores the description with the digests of the sets, unless the last one is the same."""
    config = {"kind": SUBMISSION, "version": VERSION, "method": submission.name}
    last = next((row for row in stored if row.config == config), None)
    earlier = last.result["sets"] if last else {}
    digests = {f"{each.data.name}/{each.budget}": each.digest for each in sets}
    # Data sets that were not read this time keep their sets.
    scored = {each.data.name for each in sets}
    kept = {place: digest for place, digest in earlier.items() if place.partition("/")[0] not in scored}
    result = json.loads(json.dumps({"submission": asdict(submission), "sets": kept | digests}))
    if last is None or last.result != result:
        file.append(_Job(config, {}, lambda: result).run())


def _jobs(method: _Method, tools: Tools) -> Iterator[_Job]:
    """Yields the rows of a method: its texts, and each classifier on hard and on soft labels."""
    make, full = cache(method.make), method.name == FULL
    if not full:
        config = method.config("texts", tokenizer=tools.tokenizer)
        measure = measure_sizes if method.quotes else measure_texts
        yield _Job(config, {}, lambda: measure(make(), method.data, tools))
    for name, classifier in tools.classifiers.items():
        if full and classifier.most_texts is not None:
            continue
        for labels in ("hard", "soft") if method.soft and classifier.soft else ("hard",):
            config = method.config("accuracy", classifier=name, labels=labels)
            train = partial(_train, make, classifier, name, labels, method, tools)
            yield _Job(config, classifier.describe(), train)


def _train(
    make: Callable[[], Sequence[LabelledTexts]],
    classifier: Classifier,
    name: str,
    labels: str,
    method: _Method,
    tools: Tools,
) -> dict[str, Any]:
    """Trains a classifier on each set and tests it on all test rows."""
    draws = make() if labels == "soft" else [replace(each, probabilities=None) for each in make()]
    data, results = method.data, ResultStore(tools.store / "results", tools.progress)
    options: dict[str, Any] = {"seed": 0, "results": results, "full": method.name == FULL}
    score = evaluate_method(classifier, name, draws, data.test, data.source, DEFAULT, **options)
    return {
        "accuracies": list(score.accuracies),
        "macro_f1s": list(score.macro_f1s),
        "seeds": list(score.seeds),
        "sets": score.sets,
    }


def measure_sizes(draws: Sequence[LabelledTexts], data: Dataset, tools: Tools) -> dict[str, Any]:
    """Measures the size of sets: ``texts`` and ``tokens``, both the mean of a set."""
    return {
        "texts": sum(map(len, draws)) / len(draws),
        "tokens": sum(tools.count_tokens(draw.texts) for draw in draws) / len(draws),
    }


def measure_texts(draws: Sequence[LabelledTexts], data: Dataset, tools: Tools) -> dict[str, Any]:
    """Measures the size of sets, and how much of them is copied.

    Returns:
        The sizes of :func:`measure_sizes`; ``copied``, the share of sentences of at least
        :data:`SENTENCE_WORDS` words that one training row holds word for word; ``longest_span``, the most
        words in a row that a text shares with a training row; ``in_test``, the share of texts that share
        thirteen words in a row with a test row.
    """
    texts = [clean(text) for draw in draws for text in draw.texts]
    automaton = SuffixAutomaton(list(dict.fromkeys(texts)))
    source, test = (
        dict(zip(automaton.texts, automaton.read(map(clean, part.texts)), strict=True))
        for part in (data.source, data.test)
    )
    copied = [found for text in texts for found in _copied_sentences(text, source[text].runs)]
    return measure_sizes(draws, data, tools) | {
        "copied": float(np.mean(copied)) if copied else 0.0,
        "longest_span": max(source[text].longest for text in texts),
        "in_test": float(np.mean([test[text].longest >= CONTAMINATION for text in texts])),
    }


def _copied_sentences(text: str, runs: np.ndarray) -> Iterator[bool]:
    """Yields for each sentence of enough words whether one row holds all of it."""
    end = 0
    for sentence in sentences(text):
        length = len(words_of(sentence))
        end = min(end + length, len(runs))
        if length >= SENTENCE_WORDS:
            yield bool(runs[end - 1] >= length)


def _baselines(sets: SubmittedSets, tools: Tools) -> Iterator[_Method]:
    """Yields the baselines of a budget; those that read vectors only if there is an embedder."""
    data, budget = sets.data, sets.budget
    distiller = Distiller(
        per_class=budget,
        embedder=tools.embedder or "hashing",
        decoder="nearest",
        store=tools.store,
        progress=tools.progress,
    )

    @cache
    def context() -> Context:
        ones = distiller.adopt(data.source, np.ones((len(data.source), 1), np.float32))
        return distiller.context(data.source, ones, with_embedder=tools.embedder is not None)

    @cache
    def distillation() -> Distillation:
        return distiller.run(data.source)

    def random() -> list[LabelledTexts]:
        without_texts = Distillation(context(), cast(Any, None), cast(Any, None))
        return make_sets(distiller, without_texts, RANDOM, DEFAULT)

    def matched() -> list[LabelledTexts]:
        made = []
        for seed in range(max(len(sets.draws), RANDOM_DRAWS)):
            draw = sets.draws[seed % len(sets.draws)]
            like = Distillation(context(), cast(Any, None), cast(Any, draw))
            made += make_sets(replace(distiller, seed=seed), like, RANDOM, Protocol(), match="tokens")
        return made

    def method(name: str, make: Callable[[], Sequence[LabelledTexts]], tokens_of: str = "") -> _Method:
        recipe = [__version__, name, budget, tools.tokenizer, tokens_of, data.source.digest, data.test.digest]
        return _Method(name, data, budget, sha256_of([json.dumps(recipe)]), make, tokens_of, quotes=True)

    yield method(RANDOM, random)
    yield method(RANDOM, matched, sets.digest)
    for name in BY_VECTORS if tools.embedder else ():
        yield method(name, lambda name=name: make_sets(distiller, distillation(), name, DEFAULT))  # type: ignore[misc]
