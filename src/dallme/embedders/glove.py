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
from dallme.embedders.base import Embedder, TextError
from dallme.errors import UnknownNameError
from dallme.models.word_vectors import WordVectors, find_source, load_source

#: What to do with a text of which no word is known.
UNKNOWN = ("error", "zero")

_LEFT_OUT, _UNKNOWN = -1, -2
#: Texts that are cut into words at once, and different words that are remembered.
_BATCH, _REMEMBERED = 512, 1_000_000


@dataclass(frozen=True)
class GloVeEmbedder(Embedder):
    """The mean of the vectors of a text's words, as sentence-transformers' ``average_word_embeddings`` models make it.

    A text is cut at white space. Each piece is looked up as it stands, then without the punctuation at its ends, then in
    lower case; the first that is known counts. Stop words are left out, and so are unknown words, which are counted.
    A prompt adds the same words to each text: it moves all vectors the same way and tells the model nothing, so that
    there is no reason to give one but to show just that.

    Reference: Pennington, Socher, Manning, "GloVe: Global Vectors for Word Representation", EMNLP 2014.

    Attributes:
        source: ``6B.50d`` (from a wheel), ``6B.300d`` (from the Hub), a file of GloVe's or word2vec's (``.txt``, ``.vec``,
            ``.bin``, also in ``.gz`` or ``.zip``), ``ARCHIVE.zip!FILE``, or a sentence-transformers folder or Hub id.
        unknown: What becomes of a text of which no word is known: an ``error``, or a vector of ``zero``.
    """

    argument: ClassVar[str] = "source"
    chunk: ClassVar[int] = 2048

    source: str = "6B.50d"
    unknown: str = "error"

    def __post_init__(self) -> None:
        """Checks the options; nothing is read."""
        if self.unknown not in UNKNOWN:
            raise UnknownNameError("value of unknown", self.unknown, UNKNOWN)

    @property
    def name(self) -> str:
        """``glove:`` and the source, of which a file or folder loses the folders above it."""
        path, mark, member = self.source.partition("!")
        local = os.path.expanduser(path)
        return f"glove:{os.path.basename(os.path.realpath(local)) if os.path.exists(local) else path}{mark}{member}"

    def find(self) -> None:
        """Looks for the source without reading it."""
        find_source(self.source)

    def fingerprint(self, prompt: str | None = None) -> Fingerprint:
        """Source, hash of the vectors and of how words are found, dimension and prompt."""
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
        """Counts the words of each text, stop words and unknown ones included; int64 of shape (n,)."""
        return np.array([len(text.split()) for text in texts], dtype=np.int64)

    @property
    def word_counts(self) -> tuple[int, int]:
        """How many known and how many unknown words the texts embedded so far had; stop words are neither."""
        known, unknown = self.tally.tolist()
        return known, unknown

    @property
    def notes(self) -> tuple[str, ...]:
        """Says how many words were unknown, if any was."""
        known, unknown = self.word_counts
        if not unknown:
            return ()
        share = unknown / (known + unknown)
        return (
            f"{self.name} does not know {unknown:,} of {known + unknown:,} words ({share:.1%}); they were left out",
        )

    def _embed(self, texts: list[str], prompt: str | None) -> np.ndarray:
        prefix = self.prefix(prompt)
        of_prefix = self._find_words([prefix])[1][0]
        vectors = np.empty((len(texts), self._words.vectors.shape[1]), dtype=np.float32)
        for start in range(0, len(texts), _BATCH):
            batch = [prefix + text for text in texts[start : start + _BATCH]]
            rows, counts, unknown = self._find_words(batch)
            empty = np.flatnonzero(counts <= of_prefix)  # the words of the prompt alone say nothing of a text
            if empty.size and self.unknown == "error":
                row = start + int(empty[0])
                raise TextError(
                    row,
                    texts[row],
                    f"has no word, stop words aside, that {self.name} knows; drop it, or ask for zeros with --unknown-words zero",
                )
            vectors[start : start + len(batch)] = self._mean(rows, counts)
            vectors[start + empty] = 0
            self.tally[:] += len(rows), unknown
        return vectors

    def _find_words(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray, int]:
        """Looks words up.

        Returns:
            The rows of the known words of all texts, one text after the other; how many of them each text has, of shape
            (n,); and how many words are unknown.
        """
        words = self._words
        pieces = [(text.lower() if words.lower_case else text).split() for text in texts]
        ends = np.cumsum([len(some) for some in pieces])
        found = np.fromiter(
            map(self._lookup.__getitem__, chain.from_iterable(pieces)), dtype=np.int64, count=ends[-1]
        )
        rows = found[found >= 0]
        counts = np.diff(np.concatenate([[0], np.cumsum(found >= 0)])[ends], prepend=0)
        if words.limit is not None:
            places = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
            rows, counts = rows[places < words.limit], np.minimum(counts, words.limit)
        return rows, counts, int((found == _UNKNOWN).sum())

    def _mean(self, rows: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """The mean of the vectors of each text's words, float32 of shape (n, d); zeros where there is none."""
        different, columns = np.unique(rows, return_inverse=True)
        bounds = np.concatenate([[0], np.cumsum(counts)])
        shape = (len(counts), len(different))
        chosen = csr_matrix((np.ones(len(rows), dtype=np.float32), columns, bounds), shape=shape)
        # Only the rows that occur are read from the file.
        return np.asarray(
            chosen @ self._words.vectors[different] / np.maximum(counts, 1)[:, None], dtype=np.float32
        )

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
    """Piece of a text to the row of its word, or why it has none; remembers what it was asked."""

    def __init__(self, words: WordVectors) -> None:
        super().__init__()
        self._words = words

    def __missing__(self, piece: str) -> int:
        row = self._find(piece)
        if len(self) < _REMEMBERED:
            self[piece] = row
        return row

    def _find(self, piece: str) -> int:
        bare = piece.strip(string.punctuation)
        for form in (piece, bare, bare.lower()):
            if not form or form in self._words.stop_words:
                return _LEFT_OUT
            row = self._words.rows.get(form)
            if row is not None:
                return row
        return _UNKNOWN
