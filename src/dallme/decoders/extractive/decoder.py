"""Sentences of the source, each chosen for what the classifiers trained on the others still get wrong."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from scipy.sparse import csr_matrix, vstack

from dallme.data import DecodedText, Prototypes, rows_of_classes
from dallme.decoders.base import Context, Decoder
from dallme.decoders.extractive.candidates import (
    CandidateSentences,
    SentenceFilter,
    gather_candidates,
    special_tokens,
)
from dallme.decoders.extractive.proxies import ProxyClassifiers
from dallme.decoders.extractive.weights import ClassWeights, Teachability, WordWeights, row_of
from dallme.decoders.holdout import select_max_tokens
from dallme.decoders.nearest import nearest_unused
from dallme.errors import InputError
from dallme.progress import Task
from dallme.validation import check_positive

#: With more texts than this, one draw is made: scoring a set trains classifiers on it, and large sets differ little.
SCORED_TEXTS = 1000


@dataclass(frozen=True)
class ExtractiveDecoder(Decoder):
    """Writes each text out of whole sentences of the rows of its cluster, by greedy coverage under a token limit.

    A linear TF-IDF classifier on the full data gives word w the weight a(w) for the class. A sentence s gains

        gain(s) = sum over its words w of max(a(w), 0) / (1 + u(w)), divided by its tokens,

    where u(w) counts how often the texts of this class have used w so far: the marginal gain, per token, of a concave
    coverage function, which greedy choice maximises well (Lin and Bilmes 2011, "A Class of Submodular Functions for Document
    Summarization"). The best sentence that still fits is taken until none fits. No sentence is used twice in a class,
    unless a cluster has no other left: its text is then that of the nearest row that is not taken.

    Several draws with randomly scaled weights are made, and the set is kept from which logistic regression and naive Bayes
    learn most about a sample of source rows.

    Prefer it to ``nearest`` where classifiers count words; the texts are dense, and read as a list of sentences.

    Attributes:
        draws: Sets that are made to choose from; 1 makes no choice.
        candidates: Sentences looked at for one text: those of the cluster with the best first gain.
        min_words: Shorter sentences are passed over.
        max_words: Longer sentences are passed over.
        scale: Standard deviation of the logarithm of the random scale of the weights.
        language: ISO 639-1 code, for finding the ends of sentences.
    """

    draws: int = 8
    candidates: int = 2000
    min_words: int = 4
    max_words: int = 40
    scale: float = 0.3
    language: str = "en"

    def _decode(
        self, prototypes: Prototypes, context: Context, rng: np.random.Generator
    ) -> list[DecodedText]:
        draws = check_positive(self.draws, "draws") if len(prototypes) <= SCORED_TEXTS else 1
        with context.progress.task("decode", total=1 + len(prototypes) + draws) as task:
            words = WordWeights.of(context, rng)
            useful = words.useful
            task.advance()
            sieve = SentenceFilter(self.candidates, self.min_words, self.max_words, self.language)
            places = np.searchsorted(words.classes, prototypes.labels)
            pools = gather_candidates(prototypes.members, places, useful, words, sieve, context, task)
            judge = Teachability(words, context.vectors.labels, rng) if draws > 1 else None
            best, best_score = [DecodedText("")], -1.0
            for draw in range(draws):
                scaled = _scaled(useful, self.scale, rng) if draw else useful
                drawn = self._draw(prototypes, pools, scaled, rows_of_classes(places), context)
                score = judge.score([decoded.text for decoded in drawn], prototypes.labels) if judge else 0.0
                if score > best_score:
                    best, best_score = drawn, score
                task.advance()
        return best

    def _draw(
        self,
        prototypes: Prototypes,
        pools: list[CandidateSentences],
        worth: ClassWeights,
        places: dict[int, np.ndarray],
        context: Context,
    ) -> list[DecodedText]:
        """Writes one text for each prototype, class by class; what a class has used counts for its later texts."""
        limit = context.max_tokens - special_tokens(context)
        decoded: dict[int, DecodedText] = {}
        for row, texts in places.items():
            weights = row_of(worth, row)
            used = np.zeros_like(weights)
            taken_sentences, taken_texts = set[str](), set[str]()
            for place in texts.tolist():
                chosen = _cover(pools[place], weights, used, limit, taken_sentences)
                text = pools[place].join(chosen, context)
                if not text.text or text.text in taken_texts:
                    label, vector = int(prototypes.labels[place]), prototypes.vectors[place]
                    text = nearest_unused(vector, label, taken_texts, context, self.language)
                taken_texts.add(text.text)
                taken_sentences.update(text.sentences)
                decoded[place] = text
        return [decoded[place] for place in range(len(pools))]


def _scaled(worth: ClassWeights, scale: float, rng: np.random.Generator) -> ClassWeights:
    """The same with each number scaled at random."""
    if isinstance(worth, csr_matrix):
        return csr_matrix((_scaled(worth.data, scale, rng), worth.indices, worth.indptr), shape=worth.shape)
    scaled: np.ndarray = worth * np.exp(
        np.float32(scale) * rng.standard_normal(worth.shape, dtype=np.float32)
    )
    return scaled


def _cover(
    pool: CandidateSentences, weights: np.ndarray, used: np.ndarray, limit: int, taken: set[str]
) -> list[int]:
    """Greedy choice of sentences from a pool; adds the words of each to `used`.

    Returns:
        Positions in the pool, in the order of choice.
    """
    free = np.array([sentence not in taken for sentence in pool.sentences], dtype=bool)
    chosen: list[int] = []
    while True:
        free &= pool.tokens <= limit
        if not free.any():
            return chosen
        gain = np.where(free, (pool.words @ (weights / (1 + used))) / pool.tokens, -1)
        best = int(np.argmax(gain))
        if gain[best] <= 0 and chosen:
            return chosen
        chosen.append(best)
        free[best] = False
        limit -= int(pool.tokens[best])
        used[pool.words[best].indices] += 1


#: With more texts than this the students are not asked: training them again and again would take too long.
TAUGHT_TEXTS = 1000

#: Nor are they with more classes times words than this, since their answer has as many numbers.
TAUGHT_NUMBERS = 50_000_000

#: How long the texts are.
LENGTHS = ("tried", "longest")

#: Sentences between two questions to the students, and the most questions while the texts are first written.
_STRIDE, _QUESTIONS = 4, 200


@dataclass(frozen=True)
class TeachingDecoder(Decoder):
    """Writes each text out of whole sentences of the rows of its cluster, as a teacher who watches the students.

    Logistic regression and naive Bayes are trained on the texts as they stand, and asked about source rows. What they get wrong
    gives each word w a worth g(w) for each class (:class:`~dallme.decoders.extractive.proxies.ProxyClassifiers`), beside its weight a(w) in a
    linear classifier on the full data. A sentence s gains

        gain(s) = sum over its words w of (g(w) + a(w)) / (1 + u(w)), divided by its tokens,

    both scaled to a mean of 1, where u(w) counts how often the texts of this class have used w so far. The best sentence
    that still fits is taken, for each text in turn; after every few sentences the students are trained and asked again. A text
    that nothing gains is filled to a half all the same, so that its length does not tell its class. Where rows are short, the
    length is tried first (:func:`~dallme.decoders.holdout.select_max_tokens`).

    With `rounds` each text is then taken out and written anew against what the others leave to learn, and the new one is kept if
    the students do no worse on rows that were held out; that has gained nothing so far and takes long. Choosing the data from
    which a known learner learns best is machine teaching (Zhu 2015, "Machine Teaching: An Inverse Problem to Machine Learning
    and an Approach Toward Optimal Education").

    Prefer it to ``extractive``, which fixes the worth of words once, unless there are many hundreds of texts.

    Attributes:
        rounds: How often each text is written anew, at least 0.
        candidates: Sentences looked at for one text: those of the cluster with the best first gain.
        min_words: Shorter sentences are passed over.
        max_words: Longer sentences are passed over.
        language: ISO 639-1 code, for finding the ends of sentences.
        length: ``tried``: where rows are short, shorter texts are tried on held-out rows; ``longest``: texts are as long as is
            allowed, which classifiers that count words learn most from.
    """

    argument: ClassVar[str] = "length"

    rounds: int = 0
    candidates: int = 10_000
    min_words: int = 4
    max_words: int = 40
    language: str = "en"
    length: str = "tried"

    def __post_init__(self) -> None:
        """Checks the length."""
        if self.length not in LENGTHS:
            raise InputError(f"expected length to be one of {', '.join(LENGTHS)}, found {self.length!r}")

    def _decode(
        self, prototypes: Prototypes, context: Context, rng: np.random.Generator
    ) -> list[DecodedText]:
        if self.length == "tried" and len(prototypes) <= TAUGHT_TEXTS:
            context = replace(context, max_tokens=select_max_tokens(self._write, prototypes, context, rng))
        return self._write(prototypes, context, rng)

    def _write(self, prototypes: Prototypes, context: Context, rng: np.random.Generator) -> list[DecodedText]:
        """Writes texts that are as long as the context allows."""
        rounds = check_positive(self.rounds, "rounds", least=0) if len(prototypes) <= TAUGHT_TEXTS else 0
        with context.progress.task("decode", total=1 + (2 + rounds) * len(prototypes)) as task:
            words = WordWeights.of(context, rng)
            useful = words.useful
            labels = np.searchsorted(words.classes, prototypes.labels)
            task.advance()
            sieve = SentenceFilter(self.candidates, self.min_words, self.max_words, self.language)
            pools = gather_candidates(prototypes.members, labels, useful, words, sieve, context, task)
            limit, scale = context.max_tokens - special_tokens(context), max(float(useful.mean()), 1e-12)
            if (
                len(np.unique(labels)) >= 2
                and len(labels) <= TAUGHT_TEXTS
                and np.prod(useful.shape) <= TAUGHT_NUMBERS
            ):
                students = ProxyClassifiers(
                    words.counts, np.searchsorted(words.classes, context.vectors.labels[words.rows]), rng
                )
                prior = np.stack([row_of(useful, place) for place in range(useful.shape[0])]) / scale
                desk = GreedySelector(pools, labels, prior, limit, students)
                desk.write(task)
                for _ in range(rounds):
                    for text in rng.permutation(len(pools)).tolist():
                        desk.rewrite(text)
                        task.advance()
                return self._join(prototypes, pools, desk.chosen, context)
            chosen: dict[int, list[int]] = {}
            for label, places in rows_of_classes(
                labels
            ).items():  # without students no class knows of another
                prior = row_of(useful, label)[None] / scale
                desk = GreedySelector(
                    [pools[place] for place in places], np.zeros_like(places), prior, limit, None
                )
                desk.write(task)
                chosen |= dict(zip(places.tolist(), desk.chosen, strict=True))
        return self._join(prototypes, pools, [chosen[place] for place in range(len(pools))], context)

    def _join(
        self,
        prototypes: Prototypes,
        pools: list[CandidateSentences],
        sentences: list[list[int]],
        context: Context,
    ) -> list[DecodedText]:
        """Joins the sentences of each text; the nearest row stands in for an empty text or one that its class has."""
        taken: dict[int, set[str]] = {int(label): set() for label in prototypes.labels}
        decoded = []
        for pool, chosen, label, vector in zip(
            pools, sentences, prototypes.labels.tolist(), prototypes.vectors, strict=True
        ):
            text = pool.join(chosen, context)
            if not text.text or text.text in taken[label]:
                text = nearest_unused(vector, label, taken[label], context, self.language)
            taken[label].add(text.text)
            decoded.append(text)
        return decoded


class GreedySelector:
    """The texts being written.

    Attributes:
        pools: Candidate sentences of each text.
        chosen: Positions in its pool of the sentences of each text, in the order of choice.
    """

    def __init__(
        self,
        pools: list[CandidateSentences],
        labels: np.ndarray,
        prior: np.ndarray,
        limit: int,
        students: ProxyClassifiers | None,
    ) -> None:
        self.pools = pools
        self.chosen: list[list[int]] = [[] for _ in pools]
        self._labels, self._students = labels, students
        self._worth = self._prior = prior
        self._used = np.zeros_like(prior)
        self._limit = limit
        self._free = [pool.tokens <= limit for pool in pools]
        self._left = np.full(len(pools), limit)
        # The word counts of each text, and which have to be counted anew.
        self._rows: list[csr_matrix] = [csr_matrix((1, prior.shape[1]), dtype=np.float32)] * len(pools)
        self._changed: set[int] = set()
        # Where the same sentence stands in other clusters of its class: it is used once in a class.
        self._places: dict[tuple[int, str], list[tuple[int, int]]] = {}
        for text, (pool, label) in enumerate(zip(pools, labels.tolist(), strict=True)):
            for position, sentence in enumerate(pool.sentences):
                self._places.setdefault((label, sentence), []).append((text, position))

    def write(self, task: Task) -> None:
        """Writes all texts, a sentence for each in turn, until nothing more fits; asks the students on the way."""
        stride = max(_STRIDE, 8 * len(self.pools) // _QUESTIONS)
        texts, written = list(range(len(self.pools))), 0
        while texts:
            for text in list(texts):
                if not self._add(text):
                    texts.remove(text)
                    task.advance()
                    continue
                written += 1
                if written >= len(self.pools) and written % stride == 0:
                    self._ask()

    def rewrite(self, text: int) -> None:
        """Writes a text anew against what the others leave to learn, and keeps it if the students do no worse."""
        assert self._students
        before, old = self._loss(), list(self.chosen[text])
        for position in old:
            self._remove(text, position)
        self._ask()
        written = 0
        while self._add(text):
            written += 1
            if written % _STRIDE == 0:
                self._ask()
        if self._loss() > before:  # infinite on both sides while a class has no words: the new one is as good
            for position in list(self.chosen[text]):
                self._remove(text, position)
            for position in old:
                self._put(text, position)

    def _counts(self) -> csr_matrix:
        """Word counts of the texts, of shape (m, w)."""
        for text in self._changed:
            self._rows[text] = csr_matrix(self.pools[text].counts[self.chosen[text]].sum(axis=0))
        self._changed.clear()
        return vstack(self._rows, format="csr", dtype=np.float32)

    def _loss(self) -> float:
        return self._students.loss(self._counts(), self._labels) if self._students else 0.0

    def _ask(self) -> None:
        """Learns from the students what each word is worth now."""
        if self._students:
            gradient = self._students.gradient(self._counts(), self._labels)
            self._worth = gradient / max(float(np.abs(gradient).mean()), 1e-12) + self._prior

    def _add(self, text: int) -> bool:
        """Adds the best sentence that fits; False if none does, or none gains and half the text is there already."""
        free = self._free[text] & (self.pools[text].tokens <= self._left[text])
        if not free.any():
            return False
        label, pool = self._labels[text], self.pools[text]
        gain = np.where(
            free, (pool.words @ (self._worth[label] / (1 + self._used[label]))) / pool.tokens, -np.inf
        )
        best = int(np.argmax(gain))
        if gain[best] <= 0 and self._left[text] <= self._limit / 2:
            return False
        self._put(text, best)
        return True

    def _put(self, text: int, position: int) -> None:
        self.chosen[text].append(position)
        self._mark(text, position, 1)

    def _remove(self, text: int, position: int) -> None:
        self.chosen[text].remove(position)
        self._mark(text, position, -1)

    def _mark(self, text: int, position: int, change: int) -> None:
        """Books a sentence as used (1) or unused (-1)."""
        pool, label = self.pools[text], int(self._labels[text])
        self._changed.add(text)
        self._left[text] -= change * pool.tokens[position]
        self._used[label, pool.words[position].indices] += change
        for other, place in self._places[label, pool.sentences[position]]:
            self._free[other][place] = change < 0 and self.pools[other].tokens[place] <= self._limit
