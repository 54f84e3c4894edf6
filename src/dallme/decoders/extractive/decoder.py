"""Texts made of whole sentences of the source, chosen greedily by static or adaptive word weights."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
from scipy.sparse import csr_matrix, vstack

from dallme.data import DecodedText, Prototypes, rows_of_classes
from dallme.decoders.base import Context, Decoder, DecodingResult
from dallme.decoders.extractive.candidates import (
    CandidateSentences,
    SentenceFilter,
    gather_candidates,
    special_tokens,
)
from dallme.decoders.extractive.proxies import ProxyAccuracy, ProxyLoss
from dallme.decoders.extractive.weights import ClassWeights, WordWeights, row_of
from dallme.decoders.holdout import select_max_tokens
from dallme.decoders.nearest import nearest_unused
from dallme.errors import InputError
from dallme.progress import Task
from dallme.validation import check_positive

#: Upper bound on texts for training proxy classifiers on them; above it one static draw is made.
PROXY_TEXTS = 1000

#: Upper bound on classes × vocabulary size; above it the proxy classifiers are skipped.
PROXY_WEIGHTS = 50_000_000

#: Values of `length`: chosen on held-out rows, or as long as the token limit allows.
LENGTHS = ("tried", "longest")

#: Number of sentences between two updates of the weights, and maximum number of updates per set.
_STRIDE, _UPDATES = 4, 200


class GreedySelector:
    """Chooses sentences for the texts of some classes by marginal gain per token, under a token limit.

    A sentence s gains the sum over its words w of weight(w) / (1 + u(w)), divided by its tokens. u(w) counts
    the sentences of the class that hold w so far. No sentence is chosen twice in a class.

    Attributes:
        candidates: Candidate sentences of each text.
        chosen: Positions among its candidates of the sentences of each text, in the order of choice.
        weights: Weight of each word for each class, of shape (classes, w); callers may replace it between two
            choices.
    """

    def __init__(
        self,
        candidates: Sequence[CandidateSentences],
        labels: np.ndarray,
        weights: np.ndarray,
        limit: int,
        min_tokens: float,
    ) -> None:
        """Prepares empty texts.

        Args:
            candidates: Candidate sentences of each of m texts.
            labels: Row of `weights` for each text, int64 of shape (m,).
            weights: Weight of each word for each class, of shape (classes, w).
            limit: Maximum number of tokens per text, without special tokens.
            min_tokens: Tokens up to which a text takes sentences that gain nothing.
        """
        self.candidates = candidates
        self._labels, self._limit, self._min_tokens = labels, limit, min_tokens
        # The same sentence may be a candidate of several texts of its class.
        self._copies: dict[tuple[int, str], list[tuple[int, int]]] = {}
        for text, (own, label) in enumerate(zip(candidates, labels.tolist(), strict=True)):
            for position, sentence in enumerate(own.sentences):
                self._copies.setdefault((label, sentence), []).append((text, position))
        self.restart(weights)

    def restart(self, weights: np.ndarray) -> None:
        """Empties the texts and sets the weights."""
        self.chosen: list[list[int]] = [[] for _ in self.candidates]
        self._used = np.zeros_like(weights)
        self.weights = weights
        self._free = [own.tokens <= self._limit for own in self.candidates]
        self._left = np.full(len(self.candidates), self._limit)
        # Word counts of each text, and the texts whose counts are out of date.
        self._counts: list[csr_matrix] = [csr_matrix((1, weights.shape[1]), dtype=np.float32)] * len(
            self.candidates
        )
        self._changed: set[int] = set()

    @property
    def weights(self) -> np.ndarray:
        """Weight of each word for each class, of shape (classes, w)."""
        return self._weights

    @weights.setter
    def weights(self, weights: np.ndarray) -> None:
        self._weights = weights
        self._gains: dict[int, np.ndarray] = {}

    def add(self, text: int) -> bool:
        """Adds the best sentence that fits; returns False if the text is complete."""
        own, label = self.candidates[text], int(self._labels[text])
        free = self._free[text] & (own.tokens <= self._left[text])
        if not free.any():
            return False
        if label not in self._gains:
            self._gains[label] = self._weights[label] / (1 + self._used[label])
        gains = (own.words @ self._gains[label]) / own.tokens
        best = int(np.argmax(np.where(free, gains, -np.inf)))
        if gains[best] <= 0 and self._limit - self._left[text] >= self._min_tokens:
            return False
        self.chosen[text].append(best)
        self._changed.add(text)
        self._left[text] -= own.tokens[best]
        counted = own.words[best].indices
        self._used[label, counted] += 1
        self._gains[label][counted] = self._weights[label, counted] / (1 + self._used[label, counted])
        for other, position in self._copies[label, own.sentences[best]]:
            self._free[other][position] = False
        return True

    def word_counts(self) -> csr_matrix:
        """Returns the word counts of the texts, of shape (m, w)."""
        for text in self._changed:
            self._counts[text] = csr_matrix(self.candidates[text].counts[self.chosen[text]].sum(axis=0))
        self._changed.clear()
        return vstack(self._counts, format="csr", dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Material:
    """Input of the choice of sentences for some prototypes.

    Attributes:
        prototypes: m prototypes.
        labels: Position of the class of each prototype in the weights, int64 of shape (m,).
        words: The vocabulary and the weights of the full data.
        weights: The positive weights.
        candidates: Candidate sentences of each prototype.
        limit: Maximum number of tokens per text, without special tokens.
    """

    prototypes: Prototypes
    labels: np.ndarray
    words: WordWeights
    weights: ClassWeights
    candidates: list[CandidateSentences]
    limit: int


@dataclass(frozen=True)
class SentenceDecoder(Decoder):
    """Writes each text from whole sentences of the rows of its cluster.

    Attributes:
        candidates: Maximum number of candidate sentences of a text: those of the cluster with the best first
            gain.
        min_words: Minimum number of words per sentence.
        max_words: Maximum number of words per sentence.
        language: ISO 639-1 code, for sentence boundaries.
        separator: White space between the sentences of a text; a backslash and an n are a line break.
    """

    candidates: int = 2000
    min_words: int = 4
    max_words: int = 40
    language: str = "en"
    separator: str = " "

    def __post_init__(self) -> None:
        """Checks the separator."""
        object.__setattr__(self, "separator", self.separator.replace("\\n", "\n"))
        if not self.separator or self.separator.strip():
            raise InputError(
                f"expected separator to be white space, such as ' ' or '\\n', found {self.separator!r}"
            )

    def _write(
        self,
        prototypes: Prototypes,
        context: Context,
        rng: np.random.Generator,
        phase: str = "choosing sentences",
    ) -> list[DecodedText]:
        """Writes texts that are as long as the context allows; `phase` names the progress."""
        steps = self._steps(len(prototypes))
        with context.progress.task(phase, total=1 + len(prototypes) + steps) as task:
            words = WordWeights.of(context, rng)
            weights = words.positive
            task.advance()
            labels = np.searchsorted(words.classes, prototypes.labels)
            options = SentenceFilter(self.candidates, self.min_words, self.max_words, self.language)
            candidates = gather_candidates(prototypes.members, labels, weights, words, options, context, task)
            limit = context.max_tokens - special_tokens(context)
            material = Material(prototypes, labels, words, weights, candidates, limit)
            return self._choose(material, context, rng, task)

    @abstractmethod
    def _steps(self, texts: int) -> int:
        """Returns the steps of progress that :meth:`_choose` takes."""

    @abstractmethod
    def _choose(
        self, material: Material, context: Context, rng: np.random.Generator, task: Task
    ) -> list[DecodedText]:
        """Chooses the sentences of each text and joins them."""

    def _join(self, material: Material, chosen: Sequence[list[int]], context: Context) -> list[DecodedText]:
        """Joins the sentences; the nearest row replaces an empty text, or a duplicate within its class."""
        prototypes = material.prototypes
        taken: dict[int, set[str]] = {int(label): set() for label in prototypes.labels}
        decoded = []
        for own, positions, label, vector in zip(
            material.candidates, chosen, prototypes.labels.tolist(), prototypes.vectors, strict=True
        ):
            text = own.join(positions, context, self.separator)
            if not text.text or text.text in taken[label]:
                text = nearest_unused(vector, label, taken[label], context, self.language)
            taken[label].add(text.text)
            decoded.append(text)
        return decoded


@dataclass(frozen=True)
class ExtractiveDecoder(SentenceDecoder):
    """Writes each text from whole sentences of its cluster, with static word weights.

    A linear TF-IDF classifier of the full data gives word w the weight a(w) for the class. A sentence s gains

        gain(s) = sum over its words w of max(a(w), 0) / (1 + u(w)), divided by its tokens,

    where u(w) counts how often the texts of this class have used w so far. This is the marginal gain per
    token of a concave coverage function, which greedy choice maximises well. The best sentence that fits is
    added until none fits. No sentence is used twice in a class. A cluster without an unused sentence gets the
    nearest unused row.

    Several sets are written with randomly scaled weights. The decoder returns the set whose proxy classifiers
    have the best accuracy on a sample of source rows.

    Prefer it to ``nearest`` for classifiers that count words. The texts are dense and read as a list of
    sentences.

    Reference: Lin and Bilmes, "A Class of Submodular Functions for Document Summarization", ACL 2011.

    Attributes:
        candidates: As of :class:`SentenceDecoder`.
        min_words: As of :class:`SentenceDecoder`.
        max_words: As of :class:`SentenceDecoder`.
        language: As of :class:`SentenceDecoder`.
        separator: As of :class:`SentenceDecoder`.
        draws: Number of sets to choose from.
        scale: Standard deviation of the logarithm of the random scale of the weights.
    """

    draws: int = 8
    scale: float = 0.3

    def _decode(self, prototypes: Prototypes, context: Context, rng: np.random.Generator) -> DecodingResult:
        check_positive(self.draws, "draws")
        return DecodingResult(tuple(self._write(prototypes, context, rng)))

    def _steps(self, texts: int) -> int:
        return self.draws if texts <= PROXY_TEXTS else 1

    def _choose(
        self, material: Material, context: Context, rng: np.random.Generator, task: Task
    ) -> list[DecodedText]:
        draws, labels = self._steps(len(material.labels)), material.prototypes.labels
        proxies = ProxyAccuracy(material.words, context.vectors.labels, rng) if draws > 1 else None
        best, best_accuracy, selectors = [DecodedText("")], -1.0, _class_selectors(material)
        for draw in range(draws):
            weights = _scale_randomly(material.weights, self.scale, rng) if draw else material.weights
            drawn = self._join(material, _cover(selectors, weights), context)
            accuracy = proxies.score([decoded.text for decoded in drawn], labels) if proxies else 0.0
            if accuracy > best_accuracy:
                best, best_accuracy = drawn, accuracy
            task.advance()
        return best


def _class_selectors(material: Material) -> dict[int, tuple[np.ndarray, GreedySelector]]:
    """Returns for each class its texts and their selector, still empty."""
    selectors = {}
    for label, texts in rows_of_classes(material.labels).items():
        own = [material.candidates[text] for text in texts]
        weights = row_of(material.weights, label)[None]
        selectors[label] = texts, GreedySelector(own, np.zeros_like(texts), weights, material.limit, 1)
    return selectors


def _cover(
    selectors: Mapping[int, tuple[np.ndarray, GreedySelector]], weights: ClassWeights
) -> list[list[int]]:
    """Fills one text after the other, class by class; returns the sentences of each."""
    chosen: dict[int, list[int]] = {}
    for label, (texts, selector) in selectors.items():
        selector.restart(row_of(weights, label)[None])
        for text in range(len(texts)):
            while selector.add(text):
                pass
        chosen |= dict(zip(texts.tolist(), selector.chosen, strict=True))
    return [chosen[text] for text in range(len(chosen))]


def _scale_randomly(weights: ClassWeights, scale: float, rng: np.random.Generator) -> ClassWeights:
    """Returns the weights, each multiplied by a log-normal factor."""
    if isinstance(weights, csr_matrix):
        data = _scale_randomly(weights.data, scale, rng)
        return csr_matrix((data, weights.indices, weights.indptr), shape=weights.shape)
    scaled: np.ndarray = weights * np.exp(
        np.float32(scale) * rng.standard_normal(weights.shape, dtype=np.float32)
    )
    return scaled


@dataclass(frozen=True)
class TeachingDecoder(SentenceDecoder):
    """Writes each text from whole sentences of its cluster, with adaptive word weights.

    Proxy classifiers are trained on the texts written so far and evaluated on source rows. The negative
    gradient of their loss gives each word w a weight g(w) for each class
    (:class:`~dallme.decoders.extractive.proxies.ProxyLoss`). A linear classifier of the full data gives it
    the static weight a(w). A sentence s gains

        gain(s) = sum over its words w of (g(w) + a(w)) / (1 + u(w)), divided by its tokens,

    both scaled to a mean of 1, where u(w) counts how often the texts of this class have used w so far. Each
    text in turn gets one sentence; after every few sentences the proxies are trained again. A text gets
    sentences until it is half full even if none gains, so that its length does not reveal its class. If rows
    are short, the length is chosen on held-out rows (:func:`~dallme.decoders.holdout.select_max_tokens`). The
    choice of the data from which a known learner learns best is called machine teaching (Zhu 2015, "Machine
    Teaching: An Inverse Problem to Machine Learning and an Approach Toward Optimal Education").

    Prefer it to ``extractive`` for up to a thousand texts; above that, both use static weights.

    Attributes:
        candidates: As of :class:`SentenceDecoder`.
        min_words: As of :class:`SentenceDecoder`.
        max_words: As of :class:`SentenceDecoder`.
        language: As of :class:`SentenceDecoder`.
        separator: As of :class:`SentenceDecoder`.
        length: ``tried``: if rows are short, shorter texts are tried on held-out rows; ``longest``: texts are
            as long as is allowed, which is best for classifiers that count words.
    """

    argument: ClassVar[str] = "length"

    candidates: int = 10_000
    length: str = "tried"

    def __post_init__(self) -> None:
        """Checks the separator and the length."""
        super().__post_init__()
        if self.length not in LENGTHS:
            raise InputError(f"expected length to be one of {', '.join(LENGTHS)}, found {self.length!r}")

    def _decode(self, prototypes: Prototypes, context: Context, rng: np.random.Generator) -> DecodingResult:
        metadata: dict[str, Any] = {}
        if self.length == "tried" and len(prototypes) <= PROXY_TEXTS:
            write = partial(self._write, phase="trying text lengths")
            chosen = select_max_tokens(write, prototypes, context, rng)
            if chosen is not None:
                context = replace(context, max_tokens=chosen.tokens)
                metadata["length"] = chosen.as_dict()
        return DecodingResult(tuple(self._write(prototypes, context, rng)), metadata)

    def _steps(self, texts: int) -> int:
        return texts

    def _choose(
        self, material: Material, context: Context, rng: np.random.Generator, task: Task
    ) -> list[DecodedText]:
        candidates, labels, weights = material.candidates, material.labels, material.weights
        scale, half = max(float(weights.mean()), 1e-12), material.limit / 2
        if (
            len(np.unique(labels)) >= 2
            and len(labels) <= PROXY_TEXTS
            and np.prod(weights.shape) <= PROXY_WEIGHTS
        ):
            words = material.words
            truth = np.searchsorted(words.classes, context.vectors.labels[words.rows])
            loss = ProxyLoss(words.counts, truth, rng)
            prior = np.stack([row_of(weights, label) for label in range(weights.shape[0])]) / scale
            selector = GreedySelector(candidates, labels, prior, material.limit, half)
            _select_in_turns(selector, task, loss, labels)
            return self._join(material, selector.chosen, context)
        chosen: dict[int, list[int]] = {}
        for label, texts in rows_of_classes(labels).items():  # without proxies the classes are independent
            prior = row_of(weights, label)[None] / scale
            own = [candidates[text] for text in texts]
            selector = GreedySelector(own, np.zeros_like(texts), prior, material.limit, half)
            _select_in_turns(selector, task)
            chosen |= dict(zip(texts.tolist(), selector.chosen, strict=True))
        return self._join(material, [chosen[text] for text in range(len(labels))], context)


def _select_in_turns(
    selector: GreedySelector, task: Task, loss: ProxyLoss | None = None, labels: np.ndarray | None = None
) -> None:
    """Adds a sentence to each text in turn until no text takes one, updating the weights on the way.

    Args:
        selector: The texts.
        task: Progress, advanced by one a finished text.
        loss: Gives weights that are added to the initial ones; None uses the initial ones alone.
        labels: Position of the class of each text in `loss`.
    """
    count, prior = len(selector.candidates), selector.weights
    stride = max(_STRIDE, 8 * count // _UPDATES)
    pending, added = list(range(count)), 0
    while pending:
        for text in list(pending):
            if not selector.add(text):
                pending.remove(text)
                task.advance()
                continue
            added += 1
            if loss is not None and labels is not None and added >= count and added % stride == 0:
                gradient = loss.negative_gradient(selector.word_counts(), labels)
                selector.weights = gradient / max(float(np.abs(gradient).mean()), 1e-12) + prior
