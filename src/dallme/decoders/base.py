"""The contract of a decoder: prototypes in, one readable text for each out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from dallme.data import DecodedText, LabelledTexts, LabelledVectors, Prototypes
from dallme.embedders.base import Embedder
from dallme.errors import InputError
from dallme.progress import Progress, SilentProgress
from dallme.scale.base import Engine, LocalEngine
from dallme.validation import check_positive, check_seed

TokenCounter = Callable[[Sequence[str]], np.ndarray]
Made = TypeVar("Made")


@dataclass(frozen=True, eq=False)
class Context:
    """What a decoder may use besides the prototypes.

    Attributes:
        source: The source texts.
        vectors: Their vectors, row by row.
        count_tokens: Tokens of each text, special tokens included; the embedder's where there is one.
        max_tokens: Most tokens that a decoded text may have.
        embedder: The embedder, or None where the user handed over vectors.
        progress: Where to show progress.
        engine: Where work that can be shared out is done.
        prompt: Task prompt that the vectors were made with.
        test: Rows that the texts are to be tested on. No decoder may learn from them: the audit of written texts alone reads
            them.
        answers: Folder that keeps what a service answered, so that nothing is paid for twice; None keeps nothing.
        findings: What the decoder wants the manifest to tell, ready for JSON; ``cost_usd`` in it is added to the cost, and
            ``decoder`` is the name that the lineage tells, where another decoder wrote the texts.
        kept: What :meth:`once` has made so far, for one embedder.
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
    findings: dict[str, Any] = field(default_factory=dict)
    kept: dict[Any, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        """Checks that texts and vectors belong together."""
        check_positive(self.max_tokens, "max_tokens")
        if len(self.source) != len(self.vectors):
            raise InputError(
                f"expected a vector for each text, found {len(self.vectors)} vectors for {len(self.source)} texts"
            )

    def once(self, name: Hashable, make: Callable[[], Made]) -> Made:
        """What `make` makes out of the source; whoever is given the same :attr:`kept` later finds it made.

        Args:
            name: What it is, with all that it depends on besides the source and the embedder.
            make: Makes it.
        """
        key = (self.source.digest, name)
        if key not in self.kept:
            self.kept[key] = make()
        made: Made = self.kept[key]
        return made

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Embeds texts as the source was embedded; float32 of shape (n, d), of length 1.

        Raises:
            InputError: If there is no embedder, or it can make nothing of a text.
        """
        if self.embedder is None:
            raise InputError(
                "expected an embedder to embed texts with, found none: the vectors were handed over"
            )
        return self.embedder.embed(texts, prompt=self.prompt)


@dataclass(frozen=True)
class Decoder(ABC):
    """Turns prototypes back into text (section 3.2, "Embedding-to-Text Translation").

    A subclass is a frozen dataclass whose fields are its options, and writes :meth:`_decode`.
    """

    def decode(self, prototypes: Prototypes, context: Context, *, seed: int) -> list[DecodedText]:
        """Decodes prototypes.

        Args:
            prototypes: m prototypes.
            context: The source and its limits.
            seed: Seed of every random choice.

        Returns:
            m texts without HTML, none blank, each of at most ``context.max_tokens`` tokens; no text comes twice in a class.

        Raises:
            InputError: If the prototypes and the source do not belong together.
        """
        check_seed(seed)
        if prototypes.vectors.shape[1] != context.vectors.vectors.shape[1]:
            raise InputError(
                f"expected prototypes of {context.vectors.vectors.shape[1]} dimensions, as the source's vectors, "
                f"found {prototypes.vectors.shape[1]}; condense and decode with one embedder"
            )
        unknown = sorted(set(prototypes.labels.tolist()) - set(context.vectors.class_counts))
        if unknown:
            raise InputError(
                f"expected prototypes of the classes {list(context.vectors.class_counts)}, found some of {unknown}"
            )
        return self._decode(prototypes, context, np.random.default_rng(seed))

    @abstractmethod
    def _decode(
        self, prototypes: Prototypes, context: Context, rng: np.random.Generator
    ) -> list[DecodedText]:
        """Decodes checked prototypes."""
