"""Measures `dallme update`: a set updated nine times against one distilled from all rows.

AG-News comes in ten slices, in two streams: `shuffled`, and `sorted`, in which the rows of a class are sorted
by their first principal component, so that its topics change from slice to slice. Cost is the number of texts
embedded; `hashing` starts with an empty store.
Run: python benchmarks/update.py [--store FOLDER] [--embedder hashing all-MiniLM-L6-v2]
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from _common import SMOKE, data_folder, load, make_parser, pick, write

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


def run(embedder: str, store: str) -> Iterator[dict[str, Any]]:
    """Measures one embedder; yields all results after each step."""
    import dallme
    from dallme.embedders.cache import CachedEmbedder

    folder = data_folder() / "ag_news"
    texts = dallme.read(folder / "train.parquet")
    test = dallme.read(folder / "test.parquet", like=texts)
    vectors = CachedEmbedder(embedder, store=store).embed(texts.texts)
    orders = {
        "shuffled": np.random.default_rng(0).permutation(len(texts)),
        "sorted": np.argsort(first_component(vectors, texts.labels), kind="stable"),
    }
    results: dict[str, Any] = {"rows": len(texts), "test_rows": len(test), "all_rows": [], "streams": {}}
    for seed in range(SEEDS):
        distiller = dallme.Distiller(
            per_class=PER_CLASS, embedder=embedder, seed=seed, store=store, progress=False
        )
        results["all_rows"].append(accuracy(distiller.distill(texts), test))
        yield results
        for name, order in orders.items():
            if name not in results["streams"]:
                with tempfile.TemporaryDirectory() as empty:
                    place = empty if embedder == "hashing" else store
                    parts = np.array_split(order, SLICES)
                    results["streams"][name] = stream(texts, parts, test, embedder, place)
                yield results


def main() -> None:
    """Runs the embedders in this process; results are written after each step."""
    parser = make_parser(__doc__)
    parser.add_argument("--embedder", nargs="+", default=["hashing"])
    parser.add_argument("--store", help="folder of embeddings; by default a new one")
    options = parser.parse_args()
    results = load("update").get("embedders", {})
    with tempfile.TemporaryDirectory() as folder:
        for name in options.embedder:
            for measured in run(name, folder if name == "hashing" else options.store or folder):
                results[name] = measured
                if not SMOKE:
                    write("update", {"per_class": PER_CLASS, "slices": SLICES, "embedders": results})
    if SMOKE:
        write("update", {"per_class": PER_CLASS, "slices": SLICES, "embedders": results})


if __name__ == "__main__":
    main()
