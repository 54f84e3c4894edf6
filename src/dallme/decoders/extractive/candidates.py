"""The candidate sentences of each cluster, and texts joined from them."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import CountVectorizer

from dallme.data import DecodedText
from dallme.decoders.base import Context, TokenCounter
from dallme.decoders.extractive.weights import ClassWeights, WordWeights, row_of
from dallme.overlap import WORD
from dallme.progress import Task
from dallme.scale import in_order
from dallme.text import clean, sentences
from dallme.validation import check_positive

#: Source rows per chunk of work; several smaller clusters share a chunk.
PIECE_ROWS = 1024

#: Maximum number of characters of a source whose sentences are all cached for the next decoder or seed.
INDEX_CHARACTERS = 40_000_000


@dataclass(frozen=True)
class SentenceFilter:
    """Criteria for the candidate sentences of a cluster.

    Attributes:
        candidates: Maximum number of sentences of a cluster: those with the largest weight per character.
        min_words: Minimum number of words per sentence.
        max_words: Maximum number of words per sentence.
        language: ISO 639-1 code, for sentence boundaries.

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
        """Yields the sentences of a text that have a fitting length, or the whole text if none has."""
        cleaned, any_fits = clean(text), False
        for sentence in sentences(cleaned, self.language):
            if self.min_words <= sum(1 for _ in WORD.finditer(sentence)) <= self.max_words:
                any_fits = True
                yield sentence
        if cleaned and not any_fits:
            yield cleaned


@dataclass(frozen=True, eq=False)
class CandidateSentences:
    """The candidate sentences of one prototype.

    Attributes:
        sentences: k different sentences.
        rows: Position of the source row of each.
        tokens: Tokens of each, without special tokens, at least 1, int64 of shape (k,).
        counts: Word counts of each, float32 of shape (k, w).
    """

    sentences: list[str]
    rows: list[int]
    tokens: np.ndarray
    counts: csr_matrix

    @cached_property
    def words(self) -> csr_matrix:
        """Presence of each word, 0 or 1, float32 of shape (k, w)."""
        return _occurrences(self.counts)

    def join(self, chosen: list[int], context: Context, separator: str = " ") -> DecodedText:
        """Joins sentences; drops the last ones until the joined text fits the token limit."""
        while chosen:
            text = separator.join(self.sentences[i] for i in chosen)
            if context.count_tokens([text])[0] <= context.max_tokens:
                return DecodedText(
                    text, tuple(self.sentences[i] for i in chosen), tuple(self.rows[i] for i in chosen)
                )
            chosen = chosen[:-1]
        return DecodedText("")


def gather_candidates(
    members: Sequence[np.ndarray],
    labels: np.ndarray,
    weights: ClassWeights,
    words: WordWeights,
    sentence_filter: SentenceFilter,
    context: Context,
    task: Task,
) -> list[CandidateSentences]:
    """Gathers the candidate sentences of each cluster.

    Args:
        members: Positions of the source rows of each of m clusters.
        labels: Position of the class of each in `weights`, int64 of shape (m,).
        weights: Weight of each word for each class, of shape (classes, w).
        words: The vocabulary.
        sentence_filter: Criteria for candidates.
        context: The source, its tokens and the engine.
        task: Progress, advanced by one a cluster.
    """
    special = special_tokens(context)
    if _can_be_cached(words, context):
        options = sentence_filter
        key = ("sentences", words.vectorizer, options.min_words, options.max_words, options.language)
        index = context.cached(
            key, lambda: SentenceIndex.of(context.source.texts, sentence_filter, words.vectorizer)
        )
        gathered = []
        for rows, label in zip(members, labels.tolist(), strict=True):
            gathered.append(
                index.candidates(
                    rows, row_of(weights, label), sentence_filter.candidates, context.count_tokens, special
                )
            )
            task.advance()
        return gathered
    texts, groups = context.source.texts, _group_clusters(members, labels)
    pieces = (
        (
            row_of(weights, int(labels[group[0]])),
            [(members[cluster], [texts[row] for row in members[cluster].tolist()]) for cluster in group],
        )
        for group in groups
    )
    work = _Gathering(words.vectorizer, sentence_filter, context.count_tokens, special)
    parts: list[tuple[int, list[CandidateSentences]]] = []
    for position, candidates in context.engine.map(work, pieces):
        parts.append((position, candidates))
        task.advance(len(candidates))
    return [candidates for part in in_order(parts) for candidates in part]


def _can_be_cached(words: WordWeights, context: Context) -> bool:
    """Returns whether all sentences fit in memory and the next decoder will have the same vocabulary."""
    texts = context.source.texts
    return (
        not context.engine.remote
        and len(words.rows) == len(texts)
        and sum(map(len, texts)) <= INDEX_CHARACTERS
    )


def _group_clusters(members: Sequence[np.ndarray], labels: np.ndarray) -> list[list[int]]:
    """Groups neighbouring clusters of one class into chunks."""
    groups: list[list[int]] = []
    size = 0
    for cluster, rows in enumerate(members):
        if not groups or size >= PIECE_ROWS or labels[cluster] != labels[cluster - 1]:
            groups.append([])
            size = 0
        groups[-1].append(cluster)
        size += len(rows)
    return groups


@dataclass(frozen=True, eq=False)
class _Gathering:
    """Gathers the candidates of clusters of one class, in this process or in a worker.

    Attributes:
        vectorizer: Turns sentences into word counts.
        sentence_filter: Criteria for candidates.
        count_tokens: Counts the tokens of each sentence, special tokens included.
        special: Tokens that the tokenizer adds to every text.
    """

    vectorizer: CountVectorizer
    sentence_filter: SentenceFilter
    count_tokens: TokenCounter
    special: int

    def __call__(
        self, piece: tuple[np.ndarray, list[tuple[np.ndarray, list[str]]]]
    ) -> list[CandidateSentences]:
        """Gathers candidates, given the word weights of the class and the rows and texts of each cluster."""
        weights, clusters = piece
        return [self._gather(rows, texts, weights) for rows, texts in clusters]

    def _gather(self, rows: np.ndarray, texts: list[str], weights: np.ndarray) -> CandidateSentences:
        origins: dict[str, int] = {}
        for row, text in zip(rows.tolist(), texts, strict=True):
            for sentence in self.sentence_filter.sentences(text):
                origins.setdefault(sentence, row)
        all_sentences = list(origins)
        counts = self.vectorizer.transform(all_sentences)
        best = _best_per_character(
            counts, list(map(len, all_sentences)), weights, self.sentence_filter.candidates
        )
        chosen = [all_sentences[i] for i in best]
        tokens = self.count_tokens(chosen) - self.special if chosen else np.empty(0, dtype=np.int64)
        return CandidateSentences(
            chosen, [origins[sentence] for sentence in chosen], np.maximum(tokens, 1), counts[best]
        )


def _occurrences(counts: csr_matrix) -> csr_matrix:
    """Returns 1 where a count is above 0."""
    occurs = counts.copy()
    occurs.data[:] = 1
    return occurs


def _best_per_character(
    counts: csr_matrix, lengths: Sequence[int] | np.ndarray, weights: np.ndarray, most: int
) -> np.ndarray:
    """Returns the positions of the sentences with the largest weight per character, ascending.

    Characters approximate tokens, so that only the candidates need the tokenizer.
    """
    if counts.shape[0] <= most:
        return np.arange(counts.shape[0])
    density = (_occurrences(counts) @ weights) / np.asarray(lengths)
    return np.sort(np.argsort(-density, kind="stable")[:most])


@dataclass(frozen=True, eq=False)
class SentenceIndex:
    """The sentences of all rows of a source, with their word and token counts.

    Attributes:
        sentences: k different sentences.
        positions: Positions in `sentences` of the sentences of all rows, row after row, int64.
        ends: End of each row in `positions`, int64 of shape (n,).
        lengths: Characters of each sentence, int64 of shape (k,).
        counts: Word counts of each sentence, float32 of shape (k, w).
        tokens: Tokens of each, special tokens included, -1 before they are counted; int64 of shape (k,).
    """

    sentences: list[str]
    positions: np.ndarray
    ends: np.ndarray
    lengths: np.ndarray
    counts: csr_matrix
    tokens: np.ndarray

    @classmethod
    def of(
        cls, texts: Sequence[str], sentence_filter: SentenceFilter, vectorizer: CountVectorizer
    ) -> SentenceIndex:
        """Splits the texts into sentences; tokens are counted on first use."""
        known: dict[str, int] = {}
        positions, ends = array("q"), array("q")
        for text in texts:
            positions.extend(
                known.setdefault(sentence, len(known)) for sentence in sentence_filter.sentences(text)
            )
            ends.append(len(positions))
        unique = list(known)
        lengths = np.fromiter(map(len, unique), dtype=np.int64, count=len(unique))
        tokens = np.full(len(unique), -1, dtype=np.int64)
        return cls(unique, np.array(positions), np.array(ends), lengths, vectorizer.transform(unique), tokens)

    def candidates(
        self, rows: np.ndarray, weights: np.ndarray, most: int, count_tokens: TokenCounter, special: int
    ) -> CandidateSentences:
        """Returns the candidate sentences of a cluster, the same as :class:`_Gathering`.

        Args:
            rows: Positions of the source rows, int64 of shape (n,).
            weights: Weight of each word, of shape (w,).
            most: Maximum number of sentences.
            count_tokens: Counts the tokens of each sentence, special tokens included.
            special: Tokens that the tokenizer adds to every text.
        """
        starts, ends = np.concatenate([[0], self.ends[:-1]])[rows], self.ends[rows]
        parts = [self.positions[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
        positions, owners = np.concatenate([self.positions[:0], *parts]), np.repeat(rows, ends - starts)
        first = np.sort(np.unique(positions, return_index=True)[1])
        positions, owners = positions[first], owners[first]
        best = _best_per_character(self.counts[positions], self.lengths[positions], weights, most)
        positions, owners = positions[best], owners[best]
        uncounted = positions[self.tokens[positions] < 0]
        if len(uncounted):
            self.tokens[uncounted] = count_tokens([self.sentences[i] for i in uncounted.tolist()])
        return CandidateSentences(
            [self.sentences[i] for i in positions.tolist()],
            owners.tolist(),
            np.maximum(self.tokens[positions] - special, 1),
            self.counts[positions],
        )


def special_tokens(context: Context) -> int:
    """Returns the number of tokens that the tokenizer adds to every text."""
    one, two = context.count_tokens([".", ". ."])
    return int(2 * one - two)
