"""The candidate sentences of a cluster, and texts joined out of them."""

from __future__ import annotations

import re
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
from dallme.progress import Task
from dallme.scale.base import in_order
from dallme.text import clean, sentences
from dallme.validation import check_positive

# Han and kana are written without spaces: each character counts as a word.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|\w+")


#: Source rows whose sentences make a piece of work: clusters of fewer are gathered several at a time.
PIECE_ROWS = 1024

#: Characters of a source up to which all its sentences are kept in memory for the next decoder or seed.
TABLE_CHARACTERS = 40_000_000


@dataclass(frozen=True)
class SentenceFilter:
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
class CandidateSentences:
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
    sieve: SentenceFilter,
    context: Context,
    task: Task,
) -> list[CandidateSentences]:
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
    special = special_tokens(context)
    if _is_worth_keeping(words, context):
        key = ("sentences", words.vectorizer, sieve.min_words, sieve.max_words, sieve.language)
        table = context.once(key, lambda: SentenceIndex.of(context.source.texts, sieve, words.vectorizer))
        found = []
        for rows, label in zip(members, labels.tolist(), strict=True):
            found.append(
                table.pool(rows, row_of(weights, label), sieve.candidates, context.count_tokens, special)
            )
            task.advance()
        return found
    texts, groups = context.source.texts, _share_out(members, labels)
    clusters = (
        [(members[place], [texts[row] for row in members[place].tolist()]) for place in group]
        for group in groups
    )
    pieces = (
        (row_of(weights, int(labels[group[0]])), found) for group, found in zip(groups, clusters, strict=True)
    )
    work = _Gathering(words.vectorizer, sieve, context.count_tokens, special)
    gathered: list[tuple[int, list[CandidateSentences]]] = []
    for place, pools in context.engine.map(work, pieces):
        gathered.append((place, pools))
        task.advance(len(pools))
    return [pool for pools in in_order(gathered) for pool in pools]


def _is_worth_keeping(words: WordWeights, context: Context) -> bool:
    """Whether all sentences are found here and fit into memory, and the next decoder will have the same vocabulary."""
    texts = context.source.texts
    return (
        not context.engine.remote
        and len(words.rows) == len(texts)
        and sum(map(len, texts)) <= TABLE_CHARACTERS
    )


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
    sieve: SentenceFilter
    count_tokens: TokenCounter
    special: int

    def __call__(
        self, piece: tuple[np.ndarray, list[tuple[np.ndarray, list[str]]]]
    ) -> list[CandidateSentences]:
        """The pools of clusters of one class, from what each word is worth and the positions and texts of their rows."""
        weights, clusters = piece
        return [self._pool(rows, texts, weights) for rows, texts in clusters]

    def _pool(self, rows: np.ndarray, texts: list[str], weights: np.ndarray) -> CandidateSentences:
        origin: dict[str, int] = {}
        for row, text in zip(rows.tolist(), texts, strict=True):
            for sentence in self.sieve.sentences(text):
                origin.setdefault(sentence, row)
        found = list(origin)
        counts = self.vectorizer.transform(found)
        kept = _promising(counts, [len(sentence) for sentence in found], weights, self.sieve.candidates)
        found = [found[i] for i in kept]
        tokens = self.count_tokens(found) - self.special if found else np.empty(0, dtype=np.int64)
        return CandidateSentences(
            found, [origin[sentence] for sentence in found], np.maximum(tokens, 1), counts[kept]
        )


def _promising(
    counts: csr_matrix, lengths: Sequence[int] | np.ndarray, weights: np.ndarray, most: int
) -> np.ndarray:
    """Positions of the sentences with the largest weight per character, at most so many, ascending.

    Length in characters stands for tokens here, so that only what is kept goes through the tokenizer.
    """
    if counts.shape[0] <= most:
        return np.arange(counts.shape[0])
    occurs = counts.copy()
    occurs.data[:] = 1
    promise = (occurs @ weights) / np.asarray(lengths)
    return np.sort(np.argsort(-promise, kind="stable")[:most])


@dataclass(frozen=True, eq=False)
class SentenceIndex:
    """The sentences of all rows of a source: found, and their words and tokens counted, once for all decoders and seeds.

    Attributes:
        sentences: k different sentences.
        places: The positions of the sentences of all rows, row after row, int64.
        ends: Where those of each row end in `places`, int64 of shape (n,).
        lengths: Characters of each sentence, int64 of shape (k,).
        counts: How often each word occurs in it, float32 of shape (k, w).
        tokens: Tokens of each, special tokens included, -1 where they are not counted yet; int64 of shape (k,).
    """

    sentences: list[str]
    places: np.ndarray
    ends: np.ndarray
    lengths: np.ndarray
    counts: csr_matrix
    tokens: np.ndarray

    @classmethod
    def of(cls, texts: Sequence[str], sieve: SentenceFilter, vectorizer: CountVectorizer) -> SentenceIndex:
        """Finds the sentences of the texts; tokens are counted when they are asked for."""
        known: dict[str, int] = {}
        places, ends = array("q"), array("q")
        for text in texts:
            places.extend(known.setdefault(sentence, len(known)) for sentence in sieve.sentences(text))
            ends.append(len(places))
        found = list(known)
        lengths = np.fromiter(map(len, found), dtype=np.int64, count=len(found))
        tokens = np.full(len(found), -1, dtype=np.int64)
        return cls(found, np.array(places), np.array(ends), lengths, vectorizer.transform(found), tokens)

    def pool(
        self, rows: np.ndarray, weights: np.ndarray, candidates: int, count_tokens: TokenCounter, special: int
    ) -> CandidateSentences:
        """The candidate sentences of the rows of one cluster, as :class:`_Gathering` finds them.

        Args:
            rows: Positions of the source rows, int64 of shape (n,).
            weights: What each word is worth, of shape (w,).
            candidates: Most sentences.
            count_tokens: Tokens of each sentence, special tokens included.
            special: Tokens that the tokenizer adds to every text.
        """
        starts, ends = np.concatenate([[0], self.ends[:-1]])[rows], self.ends[rows]
        parts = [self.places[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
        places, owners = np.concatenate([self.places[:0], *parts]), np.repeat(rows, ends - starts)
        first = np.sort(np.unique(places, return_index=True)[1])
        places, owners = places[first], owners[first]
        kept = _promising(self.counts[places], self.lengths[places], weights, candidates)
        places, owners = places[kept], owners[kept]
        unknown = places[self.tokens[places] < 0]
        if len(unknown):
            self.tokens[unknown] = count_tokens([self.sentences[place] for place in unknown.tolist()])
        sentences = [self.sentences[place] for place in places.tolist()]
        return CandidateSentences(
            sentences, owners.tolist(), np.maximum(self.tokens[places] - special, 1), self.counts[places]
        )


def special_tokens(context: Context) -> int:
    """Tokens that the tokenizer adds to every text."""
    one, two = context.count_tokens([".", ". ."])
    return int(2 * one - two)
