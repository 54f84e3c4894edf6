"""The contract of an embedder: texts in, vectors out."""

from __future__ import annotations

import contextlib
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np

from dallme.data import Fingerprint
from dallme.embedders.prompts import prefix_for
from dallme.errors import InputError, UnknownNameError
from dallme.progress import Progress
from dallme.validation import check_texts, check_vectors

_WORD_OR_SIGN = re.compile(r"\w+|[^\w\s]")

#: Treatment of a text without any known word: an error, or a vector of zeros.
UNKNOWN_WORDS = ("error", "zero")


def count_words(texts: Sequence[str]) -> np.ndarray:
    """Counts words and punctuation marks as tokens; int64 of shape (n,)."""
    return np.array([len(_WORD_OR_SIGN.findall(text)) for text in texts], dtype=np.int64)


@runtime_checkable
class Encoder(Protocol):
    """Any object that encodes strings; users pass one as an embedder."""

    def encode(self, texts: list[str]) -> Any:
        """Turns n strings into an array of shape (n, d)."""


class TextError(InputError):
    """A text that an embedder cannot embed.

    Attributes:
        row: Position of the text in the call, or the row identifier of the source.
        text: The text.
        problem: The problem, and what to do about it.
    """

    def __init__(self, row: Any, text: str, problem: str) -> None:
        """Stores the parts; the message shows the first 60 characters of the text."""
        start = text if len(text) <= 60 else f"{text[:60]}..."
        super().__init__(f"texts: row {row} ({start!r}) {problem}")
        self.row = row
        self.text = text
        self.problem = problem

    def at(self, row: Any) -> TextError:
        """Returns the same error with the row of the source."""
        return TextError(row, self.text, self.problem)


class Embedder(ABC):
    """Turns texts into vectors of length 1 (section 3.2, "Text-to-Embedding Conversion").

    Subclasses implement :meth:`_embed` and the properties. Constructors only store options; weights load on
    first use. An embedder that pays for each batch implements :meth:`_embed_batches` as well.

    Attributes:
        chunk: Texts per call when vectors go to a store.
        spent_usd: Cost of the calls so far, in US dollars.
        argument: Option that ``NAME:ARGUMENT`` sets; None if the name takes no argument.
        picklable: Whether other processes may embed too; False where one process counts the cost.
        paid: Whether texts may cost money; such an embedder is never used unless the user names it.
    """

    chunk: ClassVar[int] = 512
    picklable: ClassVar[bool] = True
    paid: ClassVar[bool] = False
    spent_usd: float = 0.0
    argument: ClassVar[str | None] = None

    @property
    @abstractmethod
    def name(self) -> str:
        """Name of the model, as the user would write it."""

    @abstractmethod
    def fingerprint(self, prompt: str | None = None) -> Fingerprint:
        """Describes everything that changes the vectors."""

    @abstractmethod
    def _embed(self, texts: list[str], prompt: str | None) -> Any:
        """Embeds checked texts; returns floats of shape (n, d), normalised or not."""

    def _embed_batches(self, texts: list[str], prompt: str | None) -> Iterator[tuple[np.ndarray, Any]]:
        """Embeds checked texts; yields positions and vectors of each finished batch, in any order."""
        yield np.arange(len(texts)), self._embed(texts, prompt)

    def embed(self, texts: Sequence[str], *, prompt: str | None = None) -> np.ndarray:
        """Embeds texts.

        Args:
            texts: n strings, none of them blank.
            prompt: Task-specific prompt (sections 3.2 and 5.4): a text, or the name of a template of
                :mod:`dallme.embedders.prompts`. The embedder inserts it where the model expects it.

        Returns:
            L2-normalised vectors, float32 of shape (n, d), in the order of the texts.

        Raises:
            InputError: If there is no text, a text is unusable, or a vector is not finite.
        """
        checked = check_texts(texts)
        return self._finish(self._embed(checked, prompt), len(checked))

    def embed_batches(
        self, texts: Sequence[str], *, prompt: str | None = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Embeds texts and yields each batch as soon as it is finished.

        Args:
            texts: n strings, none of them blank.
            prompt: As in :meth:`embed`.

        Yields:
            Positions, int64 of shape (b,), and vectors, float32 of shape (b, d). Each position occurs once;
            batches come in any order.

        Raises:
            InputError: As :meth:`embed`.
        """
        for rows, vectors in self._embed_batches(check_texts(texts), prompt):
            yield rows, self._finish(vectors, len(rows))

    def _finish(self, vectors: Any, rows: int) -> np.ndarray:
        """Checks the model's output and scales each vector to length 1."""
        return normalize(check_vectors(vectors, rows=rows, what=f"vectors of {self.name}"))

    def prefix(self, prompt: str | None = None) -> str:
        """Returns the string that precedes each text."""
        return prefix_for(self.name, prompt)

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks for the user about the texts embedded so far, one line each."""
        return ()

    @property
    def tally(self) -> np.ndarray:
        """Mutable counts behind :attr:`notes`, int64 of shape (k,); those of workers are added."""
        return np.empty(0, dtype=np.int64)

    def __getstate__(self) -> dict[str, Any]:
        """Returns the options alone: weights load again in the other process."""
        return {
            name: value
            for name, value in self.__dict__.items()
            if not isinstance(getattr(type(self), name, None), cached_property)
        }

    def find(self) -> None:  # noqa: B027 - most embedders have no files
        """Locates the model without loading it.

        Raises:
            DallmeError: If it is not found.
        """

    def report_to(self, progress: Progress) -> None:  # noqa: B027 - most embedders never wait
        """Sends notes about long pauses of a service to `progress`."""

    @property
    def libraries(self) -> Mapping[str, str]:
        """Packages whose version can change a vector, with their releases (major and minor version)."""
        return {}

    @property
    def earlier_weights(self) -> str | None:
        """The `weights` of this model in fingerprints of version 0.1, if they were others."""
        return None

    @property
    def token_limit(self) -> int | None:
        """Tokens read per text, special tokens included; None if there is no limit."""
        return None

    def count_tokens(self, texts: Sequence[str]) -> np.ndarray:
        """Counts the tokens of each text, special tokens included; int64 of shape (n,)."""
        return count_words(texts)


def check_unknown(unknown: str) -> None:
    """Checks the option `unknown` of embedders that average known words.

    Raises:
        UnknownNameError: If it is none of :data:`UNKNOWN_WORDS`.
    """
    if unknown not in UNKNOWN_WORDS:
        raise UnknownNameError("value of unknown", unknown, UNKNOWN_WORDS)


def release_of(*packages: str) -> dict[str, str]:
    """Returns the major and minor version of installed packages; a patch release keeps its vectors."""
    releases = {}
    for package in packages:
        with contextlib.suppress(PackageNotFoundError):
            releases[package] = ".".join(version(package).split(".")[:2])
    return releases


def normalize(vectors: np.ndarray) -> np.ndarray:
    """Scales each row to length 1; a row of zeros stays as it is.

    Returns:
        float32 of the same shape.
    """
    # In float64: the square of a very large or very small float32 does not fit a float32.
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))[:, None]
    return np.asarray(vectors / np.where(lengths == 0, 1, lengths), dtype=np.float32)


class EncoderEmbedder(Embedder):
    """Wraps a user's object with an `encode` method."""

    def __init__(self, encoder: Encoder, name: str | None = None) -> None:
        """Stores the encoder; `name` must change whenever the encoder's vectors would."""
        if isinstance(encoder, type):
            raise InputError(
                f"expected an embedder object, found the class {encoder.__name__}; "
                f"give an instance of it: {encoder.__name__}(...)"
            )
        if not isinstance(encoder, Encoder):
            raise InputError(
                "expected an embedder: a name or an object with encode(list of strings), "
                f"found {type(encoder).__name__}"
            )
        self.encoder = encoder
        self._name = name or f"{type(encoder).__module__}.{type(encoder).__qualname__}"
        self._dimension: int | None = None

    @property
    def name(self) -> str:
        """The given name, or that of the encoder's class."""
        return self._name

    def fingerprint(self, prompt: str | None = None) -> Fingerprint:
        """Returns name and dimension; vectors are never stored, because the weights are unknown."""
        if self._dimension is None:
            self._dimension = self.embed(["dimension"]).shape[1]
        return Fingerprint(
            self.name, weights="unknown", dimension=self._dimension, prompt=self.prefix(prompt) or None
        )

    def prefix(self, prompt: str | None = None) -> str:
        """Returns the prefix of a prompt; the name of the encoder's class never adds one."""
        return prefix_for("", prompt)

    def _embed(self, texts: list[str], prompt: str | None) -> Any:
        prefix = self.prefix(prompt)
        vectors = self.encoder.encode([prefix + text for text in texts] if prefix else texts)
        if isinstance(vectors, (list, tuple)) and vectors and hasattr(vectors[0], "detach"):
            vectors = [vector.detach().cpu() for vector in vectors]
        # Tensors of torch that need a gradient, or lie on a GPU, do not turn into arrays by themselves.
        return vectors.detach().cpu() if hasattr(vectors, "detach") else vectors
