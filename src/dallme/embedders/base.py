"""The contract of an embedder: texts in, vectors out."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np

from dallme.data import Fingerprint
from dallme.embedders.prompts import prefix_for
from dallme.errors import InputError
from dallme.validation import check_texts, check_vectors

_WORD_OR_SIGN = re.compile(r"\w+|[^\w\s]")


def count_words(texts: Sequence[str]) -> np.ndarray:
    """Counts words and punctuation marks, for embedders without a tokenizer; int64 of shape (n,)."""
    return np.array([len(_WORD_OR_SIGN.findall(text)) for text in texts], dtype=np.int64)


@runtime_checkable
class Encoder(Protocol):
    """What a user may hand over as an embedder: any object that encodes strings."""

    def encode(self, texts: list[str]) -> Any:
        """Turns n strings into an array of shape (n, d)."""


class TextError(InputError):
    """An embedder can make nothing of a text.

    Attributes:
        row: Position of the text among those that were handed over, or what the source calls its row.
        text: The text.
        problem: What is the matter with it and what to do.
    """

    def __init__(self, row: Any, text: str, problem: str) -> None:
        """Names the row and the first 60 characters of the text."""
        start = text if len(text) <= 60 else f"{text[:60]}..."
        super().__init__(f"texts: row {row} ({start!r}) {problem}")
        self.row = row
        self.text = text
        self.problem = problem

    def at(self, row: Any) -> TextError:
        """The same, naming the row of the source that the caller took the text from."""
        return TextError(row, self.text, self.problem)


class Embedder(ABC):
    """Turns texts into vectors of length 1 (section 3.2, "Text-to-Embedding Conversion").

    Subclasses write :meth:`_embed` and the properties; constructors only store, weights load on first use. One whose batches
    are worth keeping one by one, since each costs money, writes :meth:`_embed_batches` as well.

    Attributes:
        chunk: Texts that are handed over at once where a store keeps the vectors.
        spent_usd: What the calls so far have cost, in US dollars.
        argument: The option that ``NAME:ARGUMENT`` gives, or None if the name takes no argument.
        picklable: Whether other processes may embed as well; not where one process counts what is spent.
        paid: Whether texts may cost money, so that none is embedded that nobody asked for.
    """

    chunk: ClassVar[int] = 512
    picklable: ClassVar[bool] = True
    paid: ClassVar[bool] = False
    spent_usd: float = 0.0
    argument: ClassVar[str | None] = None

    @abstractmethod
    def fingerprint(self, prompt: str | None = None) -> Fingerprint:
        """Says everything that changes the vectors."""

    @abstractmethod
    def _embed(self, texts: list[str], prompt: str | None) -> Any:
        """Embeds checked texts; anything numpy turns into floats of shape (n, d), of any length."""

    def _embed_batches(self, texts: list[str], prompt: str | None) -> Iterator[tuple[np.ndarray, Any]]:
        """Embeds checked texts, giving positions and vectors of each batch as soon as it is done, in any order."""
        yield np.arange(len(texts)), self._embed(texts, prompt)

    def embed(self, texts: Sequence[str], *, prompt: str | None = None) -> np.ndarray:
        """Embeds texts.

        Args:
            texts: n strings, none of them blank.
            prompt: Task-specific prompt (section 3.2, 5.4): a text, or the name of a template of
                :mod:`dallme.embedders.prompts`. The embedder puts it where its model was trained to see one.

        Returns:
            L2-normalised vectors, float32 of shape (n, d), in the order of the texts.

        Raises:
            InputError: If there is no text or one is unusable, or if the model gives no finite vectors.
        """
        checked = check_texts(texts)
        return self._finish(self._embed(checked, prompt), len(checked))

    def embed_batches(
        self, texts: Sequence[str], *, prompt: str | None = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Embeds texts batch by batch, for callers who keep each batch as soon as it is done.

        Args:
            texts: n strings, none of them blank.
            prompt: As in :meth:`embed`.

        Yields:
            Positions, int64 of shape (b,), and their vectors, float32 of shape (b, d), in any order; each position once.

        Raises:
            InputError: As :meth:`embed`.
        """
        for rows, vectors in self._embed_batches(check_texts(texts), prompt):
            yield rows, self._finish(vectors, len(rows))

    def _finish(self, vectors: Any, rows: int) -> np.ndarray:
        """Checks what the model gave and scales it to length 1."""
        return normalize(check_vectors(vectors, rows=rows, what=f"vectors of {self.name}"))

    def prefix(self, prompt: str | None = None) -> str:
        """What is put before each text for a prompt; ``explain`` shows it."""
        return prefix_for(self.name, prompt)

    @property
    @abstractmethod
    def name(self) -> str:
        """Name of the model, as the user would write it."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know about the texts embedded so far, a line each."""
        return ()

    @property
    def tally(self) -> np.ndarray:
        """What :attr:`notes` are made of, to be added to where other processes embed; int64 of shape (k,), often empty."""
        return np.empty(0, dtype=np.int64)

    def __getstate__(self) -> dict[str, Any]:
        """What goes to another process: the options alone, since weights load on first use."""
        return {
            name: value
            for name, value in self.__dict__.items()
            if not isinstance(getattr(type(self), name, None), cached_property)
        }

    def find(self) -> None:  # noqa: B027 - most have nothing to look for
        """Looks for the model without loading it, so that one that is nowhere is noticed early.

        Raises:
            DallmeError: If it is nowhere.
        """

    @property
    def token_limit(self) -> int | None:
        """Tokens that are read of a text, special tokens included; None if all are."""
        return None

    def count_tokens(self, texts: Sequence[str]) -> np.ndarray:
        """Counts the tokens of each text with the model's own tokenizer, special tokens included.

        Returns:
            int64 of shape (n,).
        """
        return count_words(texts)


def normalize(vectors: np.ndarray) -> np.ndarray:
    """Scales each row to length 1; a row of zeros stays as it is.

    Returns:
        float32 of the same shape.
    """
    # In float64: the square of a very large or very small float32 does not fit a float32.
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))[:, None]
    return np.asarray(vectors / np.where(lengths == 0, 1, lengths), dtype=np.float32)


class EncoderEmbedder(Embedder):
    """An object of the user's that has `encode`."""

    def __init__(self, encoder: Encoder, name: str | None = None) -> None:
        """Keeps the encoder; `name` must change whenever its vectors would."""
        if not isinstance(encoder, Encoder):
            raise InputError(
                f"expected an embedder: a name or an object with encode(list of strings), found {type(encoder).__name__}"
            )
        self.encoder = encoder
        self._name = name or f"{type(encoder).__module__}.{type(encoder).__qualname__}"
        self._dimension: int | None = None

    @property
    def name(self) -> str:
        """The name given, or that of the encoder's class."""
        return self._name

    def fingerprint(self, prompt: str | None = None) -> Fingerprint:
        """Name and dimension; the weights of a user's object are not known, so its vectors are never stored."""
        if self._dimension is None:
            self._dimension = self.embed(["dimension"]).shape[1]
        return Fingerprint(
            self.name, weights="unknown", dimension=self._dimension, prompt=self.prefix(prompt) or None
        )

    def _embed(self, texts: list[str], prompt: str | None) -> Any:
        prefix = self.prefix(prompt)
        return self.encoder.encode([prefix + text for text in texts] if prefix else texts)
