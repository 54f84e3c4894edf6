"""A million short texts through the hashing embedder into the store, out of it again, and to k-means: time and peak memory.

Run: python benchmarks/million.py [--rows 1000000]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from typing import Any

import numpy as np

from _common import peak_memory_gb, write
from dallme.condensers.k_centroid import KCentroid
from dallme.data import LabelledVectors
from dallme.embedders.hashing import HashingEmbedder
from dallme.store import EmbeddingStore, embed_with_store

WORDS = 5_000
CLASSES = 4
PER_CLASS = 25


def make_texts(rows: int) -> tuple[list[str], np.ndarray]:
    """Texts of eight words, all different; each class prefers its own part of the words."""
    rng = np.random.default_rng(0)
    labels = rng.integers(CLASSES, size=rows)
    words = (rng.zipf(1.3, size=(rows, 7)) * CLASSES + labels[:, None]) % WORDS
    return [f"t{row} " + " ".join(f"w{word}" for word in line) for row, line in enumerate(words.tolist())], labels


def main() -> None:
    """Measures each stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    rows = parser.parse_args().rows
    texts, labels = make_texts(rows)
    embedder = HashingEmbedder()
    stages: dict[str, Any] = {"texts": {"peak_memory_gb": peak_memory_gb()}}

    def stage(name: str, started: float) -> None:
        stages[name] = {"seconds": round(time.perf_counter() - started, 2), "peak_memory_gb": peak_memory_gb()}
        print(name, stages[name], flush=True)

    with tempfile.TemporaryDirectory() as folder:
        store = EmbeddingStore(folder)
        started = time.perf_counter()
        embed_with_store(embedder, texts, store=store)
        stage("embed into the store", started)
        started = time.perf_counter()
        vectors = embed_with_store(embedder, texts, store=store)
        stage("read from the store", started)
        started = time.perf_counter()
        labelled = LabelledVectors(vectors, labels, embedder.fingerprint())
        prototypes = KCentroid().condense(labelled, dict.fromkeys(range(CLASSES), PER_CLASS), seed=0)
        stage("condense", started)
    write("million", {"rows": rows, "dimension": embedder.dimension, "prototypes": len(prototypes), "stages": stages})


if __name__ == "__main__":
    main()
