"""Sentences of the source, chosen so that a few of them cover the words that tell the classes apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from dallme.data import DecodedText, Prototypes, rows_of_classes
from dallme.decoders.base import Context, Decoder
from dallme.decoders.nearest import nearest_unused
from dallme.decoders.pools import Pool, Sieve, gather_pools, special_tokens
from dallme.decoders.words import Teachability, WordWeights, Worth, row_of
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

    def _decode(self, prototypes: Prototypes, context: Context, rng: np.random.Generator) -> list[DecodedText]:
        draws = check_positive(self.draws, "draws") if len(prototypes) <= SCORED_TEXTS else 1
        with context.progress.task("decode", total=1 + len(prototypes) + draws) as task:
            words = WordWeights.of(context, rng)
            useful = words.useful
            task.advance()
            sieve = Sieve(self.candidates, self.min_words, self.max_words, self.language)
            places = np.searchsorted(words.classes, prototypes.labels)
            pools = gather_pools(prototypes.members, places, useful, words, sieve, context, task)
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
        self, prototypes: Prototypes, pools: list[Pool], worth: Worth, places: dict[int, np.ndarray], context: Context
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


def _scaled(worth: Worth, scale: float, rng: np.random.Generator) -> Worth:
    """The same with each number scaled at random."""
    if isinstance(worth, csr_matrix):
        return csr_matrix((_scaled(worth.data, scale, rng), worth.indices, worth.indptr), shape=worth.shape)
    scaled: np.ndarray = worth * np.exp(np.float32(scale) * rng.standard_normal(worth.shape, dtype=np.float32))
    return scaled


def _cover(pool: Pool, weights: np.ndarray, used: np.ndarray, limit: int, taken: set[str]) -> list[int]:
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
