"""GloVe and other word vectors: the mean of the words of a text."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import ClassVar

import numpy as np
from scipy.sparse import csr_matrix

from dallme.data import Fingerprint
from dallme.embedders.base import Embedder, TextError
from dallme.embedders.glove_files import WordVectors, find_source, load_source
from dallme.errors import UnknownNameError

#: What to do with a text of which no word is known.
UNKNOWN = ("error", "zero")

_LEFT_OUT, _UNKNOWN = -1, -2
#: Texts that are cut into words at once, and different words that are remembered.
_BATCH, _REMEMBERED = 1024, 1_000_000


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
        local = Path(path).expanduser()
        return f"glove:{local.resolve().name if local.exists() else path}{mark}{member}"

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
        known, unknown = self._tally.tolist()
        return known, unknown

    @property
    def notes(self) -> tuple[str, ...]:
        """Says how many words were unknown, if any was."""
        known, unknown = self.word_counts
        if not unknown:
            return ()
        share = unknown / (known + unknown)
        return (f"{self.name} does not know {unknown:,} of {known + unknown:,} words ({share:.1%}); they were left out",)

    def _embed(self, texts: list[str], prompt: str | None) -> np.ndarray:
        prefix = self.prefix(prompt)
        # Texts that have no more known words than the prompt itself.
        few = int(self._find_words([prefix])[1][0])
        vectors = np.empty((len(texts), self._words.vectors.shape[1]), dtype=np.float32)
        for start in range(0, len(texts), _BATCH):
            batch = [prefix + text for text in texts[start : start + _BATCH]]
            rows, counts = self._find_words(batch)
            for row in np.flatnonzero(counts <= few):
                if self.unknown == "error":
                    raise TextError(
                        start + int(row),
                        texts[start + row],
                        f"has no word that {self.name} knows, stop words aside; leave it out, or ask for a vector of zeros: "
                        "unknown='zero'",
                    )
            vectors[start : start + len(batch)] = self._mean(rows, counts, counts > few)
        return vectors

    def _find_words(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """The rows of the known words of all texts, one text after the other, and their number in each, of shape (n,)."""
        words = self._words
        pieces = [(text.lower() if words.lower_case else text).split() for text in texts]
        lengths = np.array([len(some) for some in pieces])
        found = np.fromiter(map(self._lookup.__getitem__, chain.from_iterable(pieces)), dtype=np.int64, count=lengths.sum())
        texts_of = np.repeat(np.arange(len(texts)), lengths)
        ...
