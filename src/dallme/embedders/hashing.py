"""A baseline without a model: hashed words under a fixed random projection."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b

import numpy as np

from dallme.data import Fingerprint
from dallme.embedders.base import Embedder
from dallme.validation import check_positive

_WORD = re.compile(r"\w+|[^\w\s]+")


@lru_cache(maxsize=100_000)
def _signs(word: str, dimension: int) -> np.ndarray:
    """Returns the random direction of a word: `dimension` signs from its hash, int8."""
    bits = b"".join(
        blake2b(word.encode(), digest_size=64, salt=block.to_bytes(8, "little")).digest()
        for block in range(-(-dimension // 512))
    )
    return np.unpackbits(np.frombuffer(bits, dtype=np.uint8))[:dimension].astype(np.int8) * 2 - 1


@dataclass(frozen=True)
class HashingEmbedder(Embedder):
    """Sums one random direction per word (random indexing), damped by the square root of its count.

    Texts that share words are near each other; nothing else is known about them. The embedder needs numpy
    alone and gives the same vectors on every machine. Use it in tests, and as a floor that a model must beat.

    Attributes:
        dimension: Length of a vector.
    """

    dimension: int = 256

    def __post_init__(self) -> None:
        """Checks the dimension."""
        check_positive(self.dimension, "dimension")

    @property
    def name(self) -> str:
        """``hashing``."""
        return "hashing"

    def fingerprint(self, prompt: str | None = None) -> Fingerprint:
        """Returns name, dimension and prompt."""
        return Fingerprint(
            self.name,
            weights="blake2b-signs-1",
            dimension=self.dimension,
            prompt=self.prefix(prompt) or None,
            pooling="sum",
        )

    def _embed(self, texts: list[str], prompt: str | None) -> np.ndarray:
        vectors = np.zeros((len(texts), self.dimension), dtype=np.float32)
        prefix = self.prefix(prompt)
        for row, text in enumerate(texts):
            for word, count in Counter(_WORD.findall(f"{prefix}{text}".lower())).items():
                vectors[row] += np.sqrt(np.float32(count)) * _signs(word, self.dimension)
        return vectors
