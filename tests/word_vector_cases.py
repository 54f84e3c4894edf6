"""Four word vectors, files of them, and the model of sentence-transformers with them."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, WordEmbeddings
from sentence_transformers.sentence_transformer.modules.tokenizer import (
    WhitespaceTokenizer,
)

WORDS = {
    "film": [1.0, 0.5, -0.25],
    "dull": [-0.5, 2.0, 0.125],
    "paris": [0.0, -1.0, 3.0],
    "Paris": [4.0, 0.0, 0.0],
}


VECTORS = np.array(list(WORDS.values()), dtype=np.float32)


TEXT = "".join(f"{word} {' '.join(map(str, numbers))}\n" for word, numbers in WORDS.items())


BINARY = b"4 3\n" + b"".join(
    word.encode() + b" " + struct.pack("<3f", *numbers) for word, numbers in WORDS.items()
)


def write_file(path: Path, content: str | bytes) -> str:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def zip_with(*, version: int = 20, flags: int = 0, method: int = 0) -> bytes:
    """A zip archive whose headers both name a compression, true or not."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("glove.txt", TEXT)
    packed = bytearray(content.getvalue())
    for place in (packed.index(b"PK\x03\x04") + 4, packed.index(b"PK\x01\x02") + 6):
        packed[place : place + 6] = struct.pack("<HHH", version, flags, method)
    return bytes(packed)


def zipped(path: Path, **members: str) -> str:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "."), content)
    return str(path)


def library_model(words: list[str], vectors: np.ndarray, **settings: Any) -> SentenceTransformer:
    """The library's own model on the same vectors."""
    embeddings = WordEmbeddings(WhitespaceTokenizer(words, **settings), np.array(vectors))
    return SentenceTransformer(modules=[embeddings, Pooling(vectors.shape[1])], device="cpu")
