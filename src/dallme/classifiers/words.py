"""What the networks over word vectors share: texts as rows of word vectors, training and prediction."""

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

from dallme.classifiers.base import FittedClassifier
from dallme.classifiers.training import PAD_MULTIPLE, NeuralClassifier, pad, seeded, sorted_batches, train
from dallme.errors import InputError
from dallme.models.word_vectors import WordVectors, find_source, load_source
from dallme.text import clean

#: Ids with a vector of zeros: what fills up a batch, and every word without a vector.
PADDING, UNKNOWN = 0, 1

#: As the texts that GloVe was trained on were cut: "don't" is "do" and "n't", "film's" is "film" and "'s".
_WORD = re.compile(r"\w+(?=n't\b)|n't\b|'(?:s|m|d|ll|re|ve)\b|\w+|[^\w\s]", re.IGNORECASE)
#: Tokens of a batch in prediction.
_PREDICT_TOKENS = 32_768


@dataclass(frozen=True, eq=False)
class EncodedTexts:
    """Texts as ids of words.

    Attributes:
        ids: The ids of each text, int64 of shape (words,), at least one.
        vectors: The vector of each id, float32 of shape (v, d): those of the words that occur, after :data:`PADDING` and
            :data:`UNKNOWN`.
    """

    ids: tuple[np.ndarray, ...]
    vectors: np.ndarray

    @cached_property
    def lengths(self) -> np.ndarray:
        """Words of each text, int64 of shape (n,)."""
        return np.array([len(ids) for ids in self.ids], dtype=np.int64)


def split_words(text: str, limit: int) -> Iterable[str]:
    """The first words of a text, without markup; each punctuation mark is a word of its own."""
    return (found[0] for found in islice(_WORD.finditer(clean(text)), limit))


def encode(texts: Iterable[str], words: WordVectors, limit: int) -> EncodedTexts:
    """Looks up the first words of each text, as they are written and then in lower case.

    An unknown word keeps its place, so that the words around it do not come to stand side by side. A text without a word
    is one unknown word.
    """
    return _encode(tuple(texts), words, limit)


@lru_cache(maxsize=2)
def _encode(texts: tuple[str, ...], words: WordVectors, limit: int) -> EncodedTexts:
    # The last two sets are kept: all runs are trained on the same texts and judged on the same test set.
    pieces = [list(split_words(text, limit)) or [""] for text in texts]
    found = np.fromiter(map(_Lookup(words.rows).__getitem__, chain.from_iterable(pieces)), dtype=np.int64)
    rows = np.unique(found[found >= 0])
    ids = np.where(found >= 0, np.searchsorted(rows, found) + 2, UNKNOWN)
    vectors = np.zeros((len(rows) + 2, words.vectors.shape[1]), dtype=np.float32)
    vectors[2:] = words.vectors[rows]
    return EncodedTexts(tuple(np.split(ids, np.cumsum([len(some) for some in pieces])[:-1])), vectors)


class _Lookup(dict[str, int]):
    """Word to its row of the word vectors, -1 if it has none; remembers what it was asked."""

    def __init__(self, rows: dict[str, int]) -> None:
        super().__init__()
        self._rows = rows

    def __missing__(self, word: str) -> int:
        row = self[word] = self._rows.get(word, self._rows.get(word.lower(), -1))
        return row


@lru_cache(maxsize=1)
def _load(source: str, changed: int) -> WordVectors:
    """Reads word vectors, anew if the file has `changed`."""
    return load_source(source)


def fixed_embedding(vectors: np.ndarray) -> torch.nn.Embedding:
    """The vectors, float32 of shape (v, d), as a layer that is not trained."""
    layer: torch.nn.Embedding = torch.nn.Embedding.from_pretrained(torch.from_numpy(vectors))  # type: ignore[no-untyped-call]
    return layer


@dataclass(frozen=True, kw_only=True)
class WordClassifier(NeuralClassifier):
    """A network over word vectors that are not trained.

    A subclass adds the options of its network and writes :meth:`_network`.

    Attributes:
        vectors: Where the word vectors are from, as in :func:`~dallme.models.word_vectors.find_source`.
        dropout: Share of the values that is dropped in training, in [0, 1).
        learning_rate: The default is the best of :data:`~dallme.classifiers.training.LEARNING_RATES` for few texts.
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
        """The content of the word vectors in place of where they are from."""
        return super().describe() | {"vectors": self._words.content}

    @property
    def _words(self) -> WordVectors:
        return _load(self.vectors, find_source(self.vectors)[0].stat().st_mtime_ns)

    @abstractmethod
    def _network(self, vectors: np.ndarray, classes: int) -> torch.nn.Module:
        """The network with fresh parameters; it takes ids, int64 of shape (n, length), and optionally their embedding."""

    def _fit(self, texts: list[str], labels: np.ndarray, seed: int) -> FittedClassifier:
        words = self._words
        encoded = encode(texts, words, self.max_tokens)
        classes, positions = np.unique(labels, return_inverse=True)
        device = self.torch_device
        targets = torch.from_numpy(positions).to(device)

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
        classifier: How it was trained.
        words: The word vectors.
        network: The network, in evaluation mode.
        classes: The class ids in the order of its scores, int64 of shape (c,).
    """

    classifier: WordClassifier
    words: WordVectors
    network: torch.nn.Module
    classes: np.ndarray

    def _predict(self, texts: list[str]) -> np.ndarray:
        """Predicts with the vectors of the words of these texts, also of those that no training text has."""
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
