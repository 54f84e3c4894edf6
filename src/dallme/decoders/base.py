"""The contract of a decoder: prototypes in, one readable text for each out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from dallme.data import DecodedText, LabelledTexts, LabelledVectors, Prototypes
from dallme.embedders.base import Embedder
from dallme.errors import InputError
from dallme.progress import Progress, SilentProgress
from dallme.scale import Engine, LocalEngine
from dallme.validation import check_positive, check_seed

TokenCounter = Callable[[Sequence[str]], np.ndarray]
Value = TypeVar("Value")


class SourceCache:
    """Values computed from source texts, shared by several runs with one embedder."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, Hashable], Any] = {}

    def __len__(self) -> int:
        """Number of values."""
        return len(self._values)

    def get(self, source: LabelledTexts, name: Hashable, compute: Callable[[], Value]) -> Value:
        """Returns the value of that name for a source, computing it on first use.

        Args:
            source: The source texts.
            name: Name of the value, with all that it depends on besides the source and the embedder.
            compute: Computes the value.
        """
        key = (source.digest, name)
        if key not in self._values:
            self._values[key] = compute()
        value: Value = self._values[key]
        return value


@dataclass(frozen=True, eq=False)
class Context:
    """Everything besides the prototypes that a decoder may use.

    Attributes:
        source: The source texts.
        vectors: Their vectors, row by row.
        count_tokens: Counts the tokens of each text, special tokens included, with the embedder's tokenizer
            if there is one.
        max_tokens: Maximum number of tokens of a decoded text.
        embedder: The embedder, or None if the user gave ready vectors.
        progress: Receiver of progress and notes.
        engine: Engine for work that can be distributed.
        prompt: Task prompt that the vectors were made with.
        test: Test rows. Only the audit of written texts reads them; no decoder may learn from them.
        answers: Folder that caches the answers of a service; None caches nothing.
        cache: Values computed from the source, shared with other runs.
    """

    source: LabelledTexts
    vectors: LabelledVectors
    count_tokens: TokenCounter
    max_tokens: int = 128
    embedder: Embedder | None = None
    progress: Progress = field(default_factory=SilentProgress)
    engine: Engine = field(default_factory=LocalEngine)
    prompt: str | None = None
    test: LabelledTexts | None = None
    answers: Path | None = None
    cache: SourceCache = field(default_factory=SourceCache, repr=False)

    def __post_init__(self) -> None:
        """Checks that there are as many vectors as texts."""
        check_positive(self.max_tokens, "max_tokens")
        if len(self.source) != len(self.vectors):
            raise InputError(
                f"expected a vector for each text, found {len(self.vectors)} vectors "
                f"for {len(self.source)} texts"
            )

    def cached(self, name: Hashable, compute: Callable[[], Value]) -> Value:
        """Returns the cached value of that name for this source, as :meth:`SourceCache.get`."""
        return self.cache.get(self.source, name, compute)

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Embeds texts as the source was embedded; float32 of shape (n, d), of length 1.

        Raises:
            InputError: If there is no embedder, or it cannot embed a text.
        """
        if self.embedder is None:
            raise InputError("expected an embedder to embed texts with, found none: the vectors were given")
        return self.embedder.embed(texts, prompt=self.prompt)


@dataclass(frozen=True)
class DecodingResult:
    """The decoded texts and how they were made.

    Attributes:
        texts: One text for each prototype.
        metadata: Entries of the manifest's ``decoding``, ready for JSON; ``cost_usd`` is added to the cost of
            the run.
        decoder: Name of the decoder that wrote the texts, if it is not the one that was called.
    """

    texts: tuple[DecodedText, ...]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    decoder: str | None = None


@dataclass(frozen=True)
class Decoder(ABC):
    """Turns prototypes back into text (section 3.2, "Embedding-to-Text Translation").

    A subclass is a frozen dataclass whose fields are its options, and implements :meth:`_decode`.
    """

    def check(self, context: Context) -> None:  # noqa: B027 - most decoders can decode anything
        """Checks that this decoder can decode vectors of a source, without loading a model.

        Raises:
            DallmeError: If it cannot; one line says why.
        """

    def decode(self, prototypes: Prototypes, context: Context, *, seed: int) -> DecodingResult:
        """Decodes prototypes.

        Args:
            prototypes: m prototypes.
            context: The source and its limits.
            seed: Seed of every random choice.

        Returns:
            m texts without HTML, none blank, each of at most ``context.max_tokens`` tokens, no text twice in
            a class.

        Raises:
            InputError: If the prototypes and the source do not belong together.
            DallmeError: If this decoder cannot decode these vectors; see :meth:`check`.
        """
        check_seed(seed)
        dimension = context.vectors.vectors.shape[1]
        if prototypes.vectors.shape[1] != dimension:
            raise InputError(
                f"expected prototypes of {dimension} dimensions, as the source's vectors, "
                f"found {prototypes.vectors.shape[1]}; condense and decode with one embedder"
            )
        unknown = sorted(set(prototypes.labels.tolist()) - set(context.vectors.class_counts))
        if unknown:
            raise InputError(
                f"expected prototypes of the classes {list(context.vectors.class_counts)}, "
                f"found some of {unknown}"
            )
        self.check(context)
        result = self._decode(prototypes, context, np.random.default_rng(seed))
        self._check_texts(result.texts, prototypes, context)
        return result

    def _check_texts(self, texts: Sequence[DecodedText], prototypes: Prototypes, context: Context) -> None:
        """Checks the promises of :meth:`decode`, which a decoder from elsewhere may break."""
        name = type(self).__name__
        if len(texts) != len(prototypes):
            raise InputError(
                f"expected a text for each of {len(prototypes)} prototypes from {name}, found {len(texts)}"
            )
        blank = [row for row, text in enumerate(texts) if not text.text.strip()]
        if blank:
            raise InputError(
                f"expected texts with words from {name}, found a blank one for prototype {blank[0]}"
            )
        counts = context.count_tokens([text.text for text in texts])
        longest = int(np.argmax(counts))
        if counts[longest] > context.max_tokens:
            raise InputError(
                f"expected texts of at most {context.max_tokens} tokens from {name}, "
                f"found {counts[longest]} for prototype {longest}"
            )
        seen: set[tuple[int, str]] = set()
        for row, (label, text) in enumerate(zip(prototypes.labels.tolist(), texts, strict=True)):
            if (label, text.text) in seen:
                raise InputError(
                    f"expected different texts in each class from {name}, found one twice in class "
                    f"{context.source.label_names[label]!r}, the second for prototype {row}"
                )
            seen.add((label, text.text))

    @abstractmethod
    def _decode(self, prototypes: Prototypes, context: Context, rng: np.random.Generator) -> DecodingResult:
        """Decodes checked prototypes."""
