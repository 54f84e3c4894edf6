"""Measures `dallme update`: a set updated nine times against one distilled from all rows.

AG-News comes in ten slices, in two streams: `shuffled`, and `sorted`, in which the rows of a class are sorted
by their first principal component, so that its topics change from slice to slice. Cost is the number of texts
embedded; `hashing` starts with an empty store.
Run: python benchmarks/update.py [--store FOLDER] [--embedder hashing all-MiniLM-L6-v2]
"""

from __future__ import annotations

import tempfile
import time
from typing import Any

import numpy as np

from _common import data_folder, make_parser, pick, write

PER_CLASS, SLICES, SEEDS = pick(30, 2), pick(10, 3), pick(3, 1)


def first_component(vectors: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns the rank of each row, as a share, by the first principal component of its class."""
    ranks = np.empty(len(vectors))
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        centered = vectors[rows] - vectors[rows].mean(axis=0)
        _, axes = np.linalg.eigh(centered.T @ centered)
        ranks[rows[np.argsort(centered @ axes[:, -1], kind="stable")]] = np.arange(len(rows)) / len(rows)
    return ranks


def accuracy(texts: Any, test: Any) -> float:
    """Returns the mean accuracy of the three linear models."""
    import dallme

    return round(float(np.mean([score.accuracy for score in dallme.evaluate(texts, test)])), 4)


def stream(texts: Any, parts: list[np.ndarray], test: Any, embedder: str, store: str) -> dict[str, Any]:
    """Distils the first slice and updates the set with each of the others."""
    import dallme

    options: dict[str, Any] = {"store": store, "progress": False}
    slices = [texts.take(np.sort(part)) for part in parts]
    version = dallme.Distiller(per_class=PER_CLASS, embedder=embedder, **options).distill(slices[0])
    first, updates = accuracy(version, test), []
    for number in range(1, len(slices)):
        started = time.process_time()
        version = dallme.update(version, slices[number], old=slices[:number], **options)
        report = version.manifest["update"]
        updates.append(
            {
                "rows_new": report["rows"]["new"],
                "rows_after": report["rows"]["after"],
                "texts_embedded": report["rows"]["embedded"],
                "classes_clustered_anew": sum(
                    drift["reason"] == "drift" for drift in report["classes"].values()
                ),
                "texts_new": sum(text["before"] is None for text in report["texts"]),
                "cpu_seconds": round(time.process_time() - started, 1),
            }
        )
        print(embedder, updates[-1], flush=True)
    return {"first_slice": first, "updated": accuracy(version, test), "updates": updates}


def run(embedder: str, store: str) -> dict[str, Any]:
    """Measures both streams of one embedder."""
    import dallme
    from dallme.embedders.cache import CachedEmbedder

    folder = data_folder() / "ag_news"
    texts = dallme.read(folder / "train.parquet")
    test = dallme.read(folder / "test.parquet", like=texts)
    vectors = CachedEmbedder(embedder, store=store).embed(texts.texts)
    shuffled = np.random.default_rng(0).permutation(len(texts))
    ordered = np.argsort(first_component(vectors, texts.labels), kind="stable")
    streams = {}
    for name, order in (("shuffled", shuffled), ("sorted", ordered)):
        with tempfile.TemporaryDirectory() as empty:
            place = empty if embedder == "hashing" else store
            streams[name] = stream(texts, np.array_split(order, SLICES), test, embedder, place)
    everything = [
        accuracy(
            dallme.Distiller(
                per_class=PER_CLASS, embedder=embedder, seed=seed, store=store, progress=False
            ).distill(texts),
            test,
        )
        for seed in range(SEEDS)
    ]
    return {"rows": len(texts), "test_rows": len(test), "all_rows": everything, "streams": streams}


def main() -> None:
    """Runs the embedders in this process."""
    parser = make_parser(__doc__)
    parser.add_argument("--embedder", nargs="+", default=["hashing"])
    parser.add_argument("--store", help="folder of embeddings; by default a new one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = options.store or folder
        results = {name: run(name, folder if name == "hashing" else store) for name in options.embedder}
    write("update", {"per_class": PER_CLASS, "slices": SLICES, "embedders": results})


if __name__ == "__main__":
    main()
