"""The candidate sentences of a cluster, and texts joined out of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import CountVectorizer

from dallme.data import DecodedText
from dallme.decoders.base import Context, TokenCounter
from dallme.decoders.words import WordWeights, Worth, row_of
from dallme.progress import Task
from dallme.scale.base import in_order
from dallme.text import clean, sentences
from dallme.validation import check_positive

# Han and kana are written without spaces: each character counts as a word.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|\w+")


#: Source rows whose sentences make a piece of work: clusters of fewer are gathered several at a time.
PIECE_ROWS = 1024


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

    def join(self, chosen: list[int], context: Context) -> DecodedText:
        """Joins the chosen sentences, without the last ones should the whole have more tokens than its parts."""
        while chosen:
            text = " ".join(self.sentences[i] for i in chosen)
            if context.count_tokens([text])[0] <= context.max_tokens:
                return DecodedText(text, tuple(self.sentences[i] for i in chosen), tuple(self.rows[i] for i in chosen))
            chosen = chosen[:-1]
        return DecodedText("")


def gather_pools(
    members: Sequence[np.ndarray],
    labels: np.ndarray,
    weights: Worth,
    words: WordWeights,
    sieve: Sieve,
    context: Context,
    task: Task,
) -> list[Pool]:
    """Gathers the sentences of each cluster that are worth looking at.

    Args:
        members: Positions of the source rows of each of m clusters.
        labels: The row of `weights` that counts for each, int64 of shape (m,).
        weights: What each word is worth, of shape (classes, w).
        words: The vocabulary.
        sieve: Which sentences are looked at.
        context: The source, its tokens, and where the work is done.
        task: Told of each pool.
    """
    texts, groups = context.source.texts, _share_out(members, labels)
    clusters = ([(members[place], [texts[row] for row in members[place].tolist()]) for place in group] for group in groups)
    pieces = ((row_of(weights, int(labels[group[0]])), found) for group, found in zip(groups, clusters, strict=True))
    work = _Gathering(words.vectorizer, sieve, context.count_tokens, special_tokens(context))
    gathered: list[tuple[int, list[Pool]]] = []
    for place, pools in context.engine.map(work, pieces):
        gathered.append((place, pools))
        task.advance(len(pools))
    return [pool for pools in in_order(gathered) for pool in pools]


def _share_out(members: Sequence[np.ndarray], labels: np.ndarray) -> list[list[int]]:
    """Clusters that are gathered as one piece of work: neighbours of one class."""
    groups: list[list[int]] = []
    size = 0
    for place, rows in enumerate(members):
        if not groups or size >= PIECE_ROWS or labels[place] != labels[place - 1]:
            groups.append([])
            size = 0
        groups[-1].append(place)
        size += len(rows)
    return groups


@dataclass(frozen=True, eq=False)
class _Gathering:
    """Gathers the sentences of clusters, here or in a worker.

    Attributes:
        vectorizer: Turns sentences into word counts.
        sieve: Which sentences are looked at.
        count_tokens: Tokens of each sentence, special tokens included.
        special: Tokens that the tokenizer adds to every text.
    """

    vectorizer: CountVectorizer
    sieve: Sieve
    count_tokens: TokenCounter
    special: int

    def __call__(self, piece: tuple[np.ndarray, list[tuple[np.ndarray, list[str]]]]) -> list[Pool]:
        """The pools of clusters of one class, from what each word is worth and the positions and texts of their rows."""
        weights, clusters = piece
        return [self._pool(rows, texts, weights) for rows, texts in clusters]

    def _pool(self, rows: np.ndarray, texts: list[str], weights: np.ndarray) -> Pool:
        origin: dict[str, int] = {}
        for row, text in zip(rows.tolist(), texts, strict=True):
            for sentence in self.sieve.sentences(text):
                origin.setdefault(sentence, row)
        found = list(origin)
        counts = self.vectorizer.transform(found)
        if len(found) > self.sieve.candidates:
            occurs = counts.copy()
            occurs.data[:] = 1
            # Length in characters stands for tokens here, so that only what is kept goes through the tokenizer.
            promise = (occurs @ weights) / np.array([len(sentence) for sentence in found])
            kept = np.sort(np.argsort(-promise, kind="stable")[: self.sieve.candidates])
            found, counts = [found[i] for i in kept], counts[kept]
        tokens = self.count_tokens(found) - self.special if found else np.empty(0, dtype=np.int64)
        return Pool(found, [origin[sentence] for sentence in found], np.maximum(tokens, 1), counts)


def special_tokens(context: Context) -> int:
    """Tokens that the tokenizer adds to every text."""
    one, two = context.count_tokens([".", ". ."])
    return int(2 * one - two)
