"""Vectors of a few fixed texts, stored beside a table: does another release of a library make others?"""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from dallme.embedders.base import Embedder, TextError
from dallme.embedders.cache.shard import make_folder, write_file
from dallme.embedders.cache.table import VectorTable
from dallme.errors import StoreError

#: File in the folder of a table: the releases whose vectors it holds, and those of :data:`TEXTS`.
FILE = "libraries.json"
#: Texts in which tokenizers differ: case, accents, scripts, numbers, signs, white space and length.
TEXTS = (
    "A fine film, isn't it?",
    "THE DIRECTOR'S CUT: 1,234.56 dollars (about 95%) in 2024-05-01!",
    "Crème brûlée, naïve façade, Straße, İstanbul, Ωμέγα",
    "电影很好看。映画はとても良かったです。영화가 좋았어요",
    "Фильм отличный; फ़िल्म अच्छी है; الفيلم جيد",
    "e-mail: someone@example.org, see https://example.org/a_b?c=d&e=f #tag @user",
    "so   much\n\nwhite\tspace 😀👍🏽 … “quotes” — and <b>markup</b>",
    "word " * 300,
)
#: Least cosine of two vectors of one text that count as the same; number formats alone differ by less.
LEAST_COSINE = 0.999


@dataclass(frozen=True, eq=False)
class Probe:
    """Content of :data:`FILE`.

    Attributes:
        libraries: Package to release (major and minor version), for each environment that made vectors.
        vectors: Vectors of :data:`TEXTS`, float32 of shape (k, d).
    """

    libraries: tuple[Mapping[str, str], ...]
    vectors: np.ndarray

    @classmethod
    def make(cls, embedder: Embedder, prompt: str | None) -> Probe:
        """Embeds the texts; one that the embedder cannot embed gets zeros."""
        try:
            vectors = embedder.embed(TEXTS, prompt=prompt)
        except TextError:
            vectors = np.zeros((len(TEXTS), embedder.fingerprint(prompt).dimension), dtype=np.float32)
            for row, text in enumerate(TEXTS):
                with contextlib.suppress(TextError):
                    vectors[row] = embedder.embed([text], prompt=prompt)[0]
        return cls((dict(embedder.libraries),), vectors)

    @classmethod
    def read(cls, table: VectorTable) -> Probe | None:
        """Reads the file of a table; None if it is missing, damaged or of other texts."""
        try:
            document = json.loads((table.folder / FILE).read_bytes())
            libraries = tuple(dict(each) for each in document["libraries"])
            flat = np.frombuffer(base64.b64decode(document["vectors"], validate=True), dtype="<f4")
            vectors = flat.reshape(len(TEXTS), table.fingerprint.dimension)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None
        return cls(libraries, vectors) if libraries and np.isfinite(vectors).all() else None

    def write(self, table: VectorTable) -> None:
        """Writes the file of a table; a store that cannot be written is left as it is."""
        content = {
            "libraries": list(self.libraries),
            "vectors": base64.b64encode(self.vectors.astype("<f4").tobytes()).decode(),
        }
        with contextlib.suppress(StoreError):
            make_folder(table.folder)
            write_file(table.folder / FILE, json.dumps(content, indent=2).encode() + b"\n")

    def agrees(self, other: Probe) -> bool:
        """Says whether each text has the same vector in both."""
        lengths = np.linalg.norm(self.vectors, axis=1) * np.linalg.norm(other.vectors, axis=1)
        cosines = np.einsum("ij,ij->i", self.vectors, other.vectors)
        both_zero = ~self.vectors.any(axis=1) & ~other.vectors.any(axis=1)
        return bool((both_zero | (cosines >= LEAST_COSINE * np.where(lengths == 0, 1, lengths))).all())

    def joined(self, other: Probe) -> Probe:
        """Returns this probe with the environments of another one added."""
        return replace(self, libraries=(*self.libraries, *other.libraries))
