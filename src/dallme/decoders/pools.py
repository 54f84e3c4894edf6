"""The candidate sentences of a cluster, and texts joined out of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import csr_matrix

from dallme.data import DecodedText
from dallme.decoders.base import Context
from dallme.decoders.words import WordWeights
from dallme.text import clean, sentences
from dallme.validation import check_positive

# Han and kana are written without spaces: each character counts as a word.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|\w+")


@dataclass(frozen=True)
class Sieve:
    """Which sentences of a cluster are looked at.

    Attributes:
        candidates: Most sentences of a cluster: those of the largest weight per character.
        min_words: Shorter sentences are passed over.
        max_words: Longer sentences are passed over.
        language: ISO 639-1 code, for finding the ends of sentences.

    Raises:
        InputError: If a number is not a whole one of at least 1, or `max_words` is less than `min_words`.
    """

    candidates: int
    min_words: int
    max_words: int
    language: str

    def __post_init__(self) -> None:
        """Checks the numbers."""
        check_positive(self.candidates, "candidates")
        check_positive(self.max_words, "max_words", least=check_positive(self.min_words, "min_words"))

    def sentences(self, text: str) -> Iterator[str]:
        """The sentences of a text that have a fitting length; the whole text if there is none."""
        cleaned, any_fits = clean(text), False
        for sentence in sentences(cleaned, self.language):
            if self.min_words <= sum(1 for _ in _WORD.finditer(sentence)) <= self.max_words:
                any_fits = True
                yield sentence
        if cleaned and not any_fits:
            yield cleaned


@dataclass(frozen=True, eq=False)
class Pool:
    """The candidate sentences of one prototype.

    Attributes:
        sentences: k different sentences.
        rows: Position of the source row of each.
        tokens: Tokens of each, without special tokens, at least 1, int64 of shape (k,).
        counts: How often each word occurs in it, float32 of shape (k, w).
    """

    sentences: list[str]
    rows: list[int]
    tokens: np.ndarray
    counts: csr_matrix

    @cached_property
    def words(self) -> csr_matrix:
        """Whether a word occurs, 0 or 1, float32 of shape (k, w)."""
        occurs = self.counts.copy()
        occurs.data[:] = 1
        return occurs

    @classmethod
    def gather(cls, members: np.ndarray, weights: np.ndarray, words: WordWeights, sieve: Sieve, context: Context) -> Pool:
        """Gathers the sentences of a cluster that are worth looking at.

        Args:
            members: Positions of the source rows of the cluster.
            weights: What each word is worth, of shape (w,).
            words: The vocabulary.
            sieve: Which sentences are looked at.
            context: The source, and its tokens.
        """
        origin: dict[str, int] = {}
        for row in members.tolist():
            for sentence in sieve.sentences(context.source.texts[row]):
                origin.setdefault(sentence, row)
        found = list(origin)
        counts = words.vectorizer.transform(found)
        if len(found) > sieve.candidates:
            occurs = counts.copy()
            occurs.data[:] = 1
            # Length in characters stands for tokens here, so that only what is kept goes through the tokenizer.
            promise = (occurs @ weights) / np.array([len(sentence) for sentence in found])
            kept = np.sort(np.argsort(-promise, kind="stable")[: sieve.candidates])
            found, counts = [found[i] for i in kept], counts[kept]
        tokens = context.count_tokens(found) - special_tokens(context) if found else np.empty(0, dtype=np.int64)
        return cls(found, [origin[sentence] for sentence in found], np.maximum(tokens, 1), counts)

    def join(self, chosen: list[int], context: Context) -> DecodedText:
        """Joins the chosen sentences, without the last ones should the whole have more tokens than its parts."""
        while chosen:
            text = " ".join(self.sentences[i] for i in chosen)
            if context.count_tokens([text])[0] <= context.max_tokens:
                return DecodedText(text, tuple(self.sentences[i] for i in chosen), tuple(self.rows[i] for i in chosen))
            chosen = chosen[:-1]
        return DecodedText("")


def special_tokens(context: Context) -> int:
    """Tokens that the tokenizer adds to every text."""
    one, two = context.count_tokens([".", ". ."])
    return int(2 * one - two)
