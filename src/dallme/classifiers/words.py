"""Shared base of the networks over word vectors: tokenisation, training and prediction."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import chain, islice
from typing import Any, ClassVar

import numpy as np
import torch

from dallme.classifiers.base import FittedClassifier, SoftClassifier
from dallme.classifiers.training import (
    PAD_MULTIPLE,
    NeuralClassifier,
    pad,
    seeded,
    sorted_batches,
    train,
    training_targets,
)
from dallme.errors import InputError
from dallme.models.word_vectors import WordVectors, find_source, load_source
from dallme.text import clean

#: Ids with a vector of zeros: padding, and words without a vector.
PADDING, UNKNOWN = 0, 1

#: The tokenisation of GloVe's training texts: "don't" is "do" and "n't", "film's" is "film" and "'s".
_WORD = re.compile(r"\w+(?=n't\b)|n't\b|'(?:s|m|d|ll|re|ve)\b|\w+|[^\w\s]", re.IGNORECASE)
#: Maximum number of tokens per batch in prediction, padding included.
_PREDICT_TOKENS = 32_768


@dataclass(frozen=True, eq=False)
class EncodedTexts:
    """Texts as ids of words.

    Attributes:
        ids: Ids of each text, int64 of shape (words,), at least one.
        vectors: Vector of each id, float32 of shape (v, d): :data:`PADDING`, :data:`UNKNOWN`, then the words
            that occur.
    """

    ids: tuple[np.ndarray, ...]
    vectors: np.ndarray

    @cached_property
    def lengths(self) -> np.ndarray:
        """Number of words of each text, int64 of shape (n,)."""
        return np.array([len(ids) for ids in self.ids], dtype=np.int64)


def split_words(text: str, limit: int) -> Iterable[str]:
    """Splits a text without its markup into words and punctuation marks; returns the first `limit`."""
    return (match[0] for match in islice(_WORD.finditer(clean(text)), limit))


def encode(texts: Iterable[str], words: WordVectors, limit: int) -> EncodedTexts:
    """Encodes the first words of each text, looked up as written, then in lower case.

    An unknown word keeps its position, so that its neighbours do not become adjacent. A text without any word
    is one unknown word.
    """
    return _encode(tuple(texts), words, limit)


@lru_cache(maxsize=2)
def _encode(texts: tuple[str, ...], words: WordVectors, limit: int) -> EncodedTexts:
    # The last two sets are cached: all runs share one training set and one test set.
    tokens = [list(split_words(text, limit)) or [""] for text in texts]
    word_rows = np.fromiter(map(_Lookup(words.rows).__getitem__, chain.from_iterable(tokens)), dtype=np.int64)
    rows = np.unique(word_rows[word_rows >= 0])
    ids = np.where(word_rows >= 0, np.searchsorted(rows, word_rows) + 2, UNKNOWN)
    vectors = np.zeros((len(rows) + 2, words.vectors.shape[1]), dtype=np.float32)
    vectors[2:] = words.vectors[rows]
    return EncodedTexts(tuple(np.split(ids, np.cumsum([len(text) for text in tokens])[:-1])), vectors)


class _Lookup(dict[str, int]):
    """Cache of word to its row of the word vectors, -1 if it has none."""

    def __init__(self, rows: dict[str, int]) -> None:
        super().__init__()
        self._rows = rows

    def __missing__(self, word: str) -> int:
        row = self[word] = self._rows.get(word, self._rows.get(word.lower(), -1))
        return row


@lru_cache(maxsize=1)
def _load(source: str, changed: int) -> WordVectors:
    """Reads word vectors; `changed` is the modification time of the file, so that a new file is read."""
    return load_source(source)


def fixed_embedding(vectors: np.ndarray) -> torch.nn.Embedding:
    """Makes a frozen embedding layer of vectors, float32 of shape (v, d)."""
    layer: torch.nn.Embedding = torch.nn.Embedding.from_pretrained(torch.from_numpy(vectors))  # type: ignore[no-untyped-call]
    return layer


@dataclass(frozen=True, kw_only=True)
class WordClassifier(SoftClassifier, NeuralClassifier):
    """A network over frozen word vectors.

    A subclass adds the options of its network and implements :meth:`_network`.

    Attributes:
        vectors: Source of the word vectors, as in :func:`~dallme.models.word_vectors.find_source`.
        dropout: Dropout probability, in [0, 1).
        learning_rate: Learning rate; the default is the best of
            :data:`~dallme.classifiers.training.LEARNING_RATES` for few texts.
    """

    argument: ClassVar[str | None] = "vectors"

    vectors: str = "6B.50d"
    dropout: float = 0.5
    learning_rate: float = 5e-3

    def __post_init__(self) -> None:
        """Checks the options; nothing is read."""
        super().__post_init__()
        if not 0 <= self.dropout < 1:
            raise InputError(f"expected dropout as a share in [0, 1), found {self.dropout!r}")

    def find(self) -> None:
        """Looks for the word vectors without reading them."""
        find_source(self.vectors)

    def describe(self) -> dict[str, Any]:
        """Describes the classifier with the content of the word vectors in place of their source."""
        return super().describe() | {"vectors": self._words.content}

    @property
    def _words(self) -> WordVectors:
        return _load(self.vectors, find_source(self.vectors)[0].stat().st_mtime_ns)

    @abstractmethod
    def _network(self, vectors: np.ndarray, classes: int) -> torch.nn.Module:
        """Makes an untrained network of ids, int64 of shape (n, length), and optionally their embedding."""

    def _fit_soft(
        self, texts: list[str], labels: np.ndarray, probabilities: np.ndarray | None, seed: int
    ) -> FittedClassifier:
        words = self._words
        encoded = encode(texts, words, self.max_tokens)
        classes = np.unique(labels)
        device = self.torch_device
        targets = training_targets(labels, probabilities).to(device)

        def loss_of(rows: np.ndarray) -> torch.Tensor:
            length = -(-int(encoded.lengths[rows].max()) // PAD_MULTIPLE) * PAD_MULTIPLE
            ids = torch.from_numpy(pad([encoded.ids[row] for row in rows], length, PADDING)).to(device)
            return torch.nn.functional.cross_entropy(network(ids), targets[torch.from_numpy(rows).to(device)])

        with seeded(seed):
            network = self._network(encoded.vectors, len(classes)).to(device)
            train(self, network, loss_of, encoded.lengths, seed=seed)
        return FittedNetwork(self, words, network, classes)


@dataclass(frozen=True, eq=False)
class FittedNetwork(FittedClassifier):
    """A trained network.

    Attributes:
        classifier: Options of its training.
        words: The word vectors.
        network: The network, in evaluation mode.
        classes: Class ids in the order of its logits, int64 of shape (c,).
    """

    classifier: WordClassifier
    words: WordVectors
    network: torch.nn.Module
    classes: np.ndarray

    def _predict(self, texts: list[str]) -> np.ndarray:
        """Predicts with the vectors of all words of these texts, also of words that no training text has."""
        encoded = encode(texts, self.words, self.classifier.max_tokens)
        device = self.classifier.torch_device
        embedding = fixed_embedding(encoded.vectors).to(device)
        predicted = np.empty(len(texts), dtype=np.int64)
        with (
            torch.inference_mode(),
            torch.autocast(device.type, torch.bfloat16, enabled=self.classifier.uses_bfloat16),
        ):
            for rows, length in sorted_batches(encoded.lengths, _PREDICT_TOKENS):
                ids = torch.from_numpy(pad([encoded.ids[row] for row in rows], length, PADDING)).to(device)
                predicted[rows] = self.network(ids, embedding).argmax(dim=1).cpu().numpy()
        return np.asarray(self.classes[predicted])
