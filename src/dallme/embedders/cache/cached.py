"""An embedder that reads stored vectors and embeds only new texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from dallme.data import Fingerprint, LabelledTexts, LabelledVectors
from dallme.embedders.base import Embedder, TextError
from dallme.embedders.cache.store import EmbeddingStore, embed_with_store
from dallme.embedders.resolve import resolve
from dallme.progress import Progress, SilentProgress
from dallme.scale.base import Engine


@dataclass(frozen=True)
class CachedEmbedder:
    """An embedder, its prompt and the store that caches its vectors.

    The embedder is looked up on first use, so that a run with ready vectors never needs it.

    Attributes:
        embedder: A name, a Hub id, a folder, an embedder, or any object with ``encode(list of strings)``.
        prompt: Task-specific prompt put before each text (section 5.4).
        store: Folder of the cached vectors; None caches nothing.
        progress: Receiver of progress and notes.
        engine: Engine that embeds; None embeds in this process.

    Example:
        >>> CachedEmbedder("hashing").embed(["a fine film"]).shape
        (1, 256)
    """

    embedder: Any
    prompt: str | None = None
    store: str | Path | None = None
    progress: Progress = field(default_factory=SilentProgress, compare=False)
    engine: Engine | None = field(default=None, compare=False)

    @cached_property
    def model(self) -> Embedder:
        """The embedder itself."""
        model = resolve(self.embedder)
        model.report_to(self.progress)
        return model

    def fingerprint(self) -> Fingerprint:
        """Returns everything that changes the vectors."""
        return self.model.fingerprint(self.prompt)

    def cache_key(self) -> str | None:
        """Returns the digest of the fingerprint; None for an embedder whose weights are not known."""
        fingerprint = self.fingerprint()
        return None if fingerprint.weights == "unknown" else fingerprint.digest

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Embeds texts that the store does not hold, and reads the others; float32 of shape (n, d)."""
        store = None if self.store is None else EmbeddingStore(self.store)
        return embed_with_store(
            self.model, texts, prompt=self.prompt, store=store, progress=self.progress, engine=self.engine
        )

    def embed_source(self, source: LabelledTexts) -> LabelledVectors:
        """Embeds labelled texts.

        Raises:
            TextError: If the embedder cannot embed a text; the error names the row as the source does.
        """
        try:
            vectors = self.embed(source.texts)
        except TextError as error:
            raise error.at(source.row_ids[[error.row]].tolist()[0]) from None
        return LabelledVectors(vectors, source.labels, self.fingerprint())
