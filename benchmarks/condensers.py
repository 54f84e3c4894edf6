"""Compares ways to compute k-means, and measures the cost of the condensers.

Each measurement runs in a new process, whose peak memory is measured. The candidates of a case alternate,
seed by seed.
Run: python benchmarks/condensers.py [--vectors DIR], where DIR has ag_news_train.npy and imdb_train.npy
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from sklearn.cluster import KMeans, MiniBatchKMeans

from _common import data_folder, make_parser, peak_memory_gb, pick, write
from dallme.condensers.base import Condenser
from dallme.condensers.gaussian_mixture import GaussianMixture
from dallme.condensers.k_centroid import FAISS_ABOVE, KCentroid, Medoid
from dallme.condensers.partition import reproducible
from dallme.condensers.random import RandomRows
from dallme.data import Fingerprint, LabelledVectors, Prototypes
from dallme.readers import read

#: Case to data, rows, clusters and seeds. Synthetic rows are resampled rows of AG-News with noise,
#: normalized.
CASES = {
    "imdb, one class": ("imdb", 12_500, 10, 5),
    "ag_news, one class": ("ag_news", 4_500, 30, 5),
    "synthetic 25,000": ("synthetic", 25_000, 40, 3),
    "synthetic 100,000, k=100": ("synthetic", 100_000, 100, 2),
    "synthetic 100,000, k=1000": ("synthetic", 100_000, 1_000, 2),
}
SMOKE_CASES = {"ag_news, one class": ("ag_news", 16, 3, 1)}
#: Upper bound on rows × clusters for the condensers that are not candidates.
SMALL = 200_000
REFERENCE = "scikit-learn"


@dataclass(frozen=True)
class AllThreads(KCentroid):
    """scikit-learn's KMeans with its defaults: on all cores, which change the bytes of the result."""

    def _partition(self, vectors: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
        seed = int(rng.integers(2**31))
        return np.asarray(KMeans(count, n_init=1, random_state=seed).fit(vectors).labels_, dtype=np.int64)


@dataclass(frozen=True)
class MiniBatch(KCentroid):
    """MiniBatchKMeans, then ten iterations of Lloyd's algorithm."""

    def _partition(self, vectors: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
        seed = int(rng.integers(2**31))
        with reproducible():
            start = (
                MiniBatchKMeans(count, n_init=1, batch_size=4096, random_state=seed)
                .fit(vectors)
                .cluster_centers_
            )
            model = KMeans(count, init=start, n_init=1, max_iter=10).fit(vectors)
        return np.asarray(model.labels_, dtype=np.int64)


@dataclass(frozen=True)
class RandomStart(KCentroid):
    """faiss with its defaults: 25 iterations from rows drawn at random."""

    def _partition(self, vectors: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
        options = {"min_points_per_centroid": 1, "max_points_per_centroid": len(vectors)}
        kmeans = faiss.Kmeans(vectors.shape[1], count, seed=int(rng.integers(2**31)), **options)
        kmeans.train(vectors)
        return np.asarray(kmeans.assign(vectors)[1], dtype=np.int64)


CANDIDATES: dict[str, Condenser] = {
    REFERENCE: KCentroid("scikit-learn"),
    "scikit-learn, all threads": AllThreads(),
    "faiss": KCentroid("faiss"),
    "faiss, random start": RandomStart(),
    "mini-batch": MiniBatch(),
}
OTHERS: dict[str, Condenser] = {
    "medoid": Medoid(),
    "gaussian-mixture": GaussianMixture(),
    "random": RandomRows(),
}


def embedded(name: str, folder: Path) -> np.ndarray:
    """Returns vectors of a data set's training texts, from the folder or from the default embedder."""
    path = folder / f"{name}_train.npy"
    if not path.exists():
        from dallme.embedders.sentence_transformer import SentenceTransformerEmbedder

        np.save(path, SentenceTransformerEmbedder().embed(read(data_folder() / name / "train.parquet").texts))
    return np.asarray(np.load(path), dtype=np.float32)


def rows_of(data: str, rows: int, folder: Path) -> np.ndarray:
    """Returns the vectors of a case: the first `rows` of the first class, or synthetic ones."""
    name = "ag_news" if data == "synthetic" else data
    vectors = embedded(name, folder)
    if data != "synthetic":
        return vectors[read(data_folder() / name / "train.parquet").labels == 0][:rows]
    rng = np.random.default_rng(0)
    drawn = vectors[rng.integers(len(vectors), size=rows)]
    drawn += rng.standard_normal(drawn.shape, dtype=np.float32) * np.float32(0.5 / np.sqrt(drawn.shape[1]))
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def inertia(vectors: np.ndarray, prototypes: Prototypes) -> float:
    """Returns the sum of squared distances of the rows to their prototypes."""
    pairs = zip(prototypes.members, prototypes.vectors, strict=True)
    return sum(float(np.square(vectors[members] - vector).sum(dtype=np.float64)) for members, vector in pairs)


def measure(path: Path, name: str, count: int, seed: int) -> dict[str, Any]:
    """Condenses once; measures seconds, inertia, memory beyond that of loading, and the hash."""
    vectors = np.load(path)
    labelled = LabelledVectors(
        vectors, np.zeros(len(vectors), dtype=np.int64), Fingerprint("benchmark", "1", vectors.shape[1])
    )
    before, wall, processor = peak_memory_gb(), time.perf_counter(), time.process_time()
    prototypes = (CANDIDATES | OTHERS)[name].condense(labelled, {0: count}, seed=seed)
    return {
        "seconds": round(time.perf_counter() - wall, 3),
        "cpu_seconds": round(time.process_time() - processor, 3),
        "memory_gb": round(peak_memory_gb() - before, 3),
        "inertia": round(inertia(vectors, prototypes), 3),
        "sha256": sha256(prototypes.vectors.tobytes()).hexdigest()[:16],
    }


def in_process(path: Path, name: str, count: int, seed: int, threads: int | None = None) -> dict[str, Any]:
    """Runs :func:`measure` in a new process, with a number of threads if one is given."""
    command = [sys.executable, __file__, "--measure", str(path), name, str(count), str(seed)]
    environment = os.environ | (
        {"OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)} if threads else {}
    )
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def run_case(path: Path, rows: int, count: int, seeds: int) -> dict[str, Any]:
    """Measures one case: means over the seeds, and inertia relative to the reference with the same seeds."""
    others = OTHERS if rows * count <= SMALL else ()
    names = pick([*CANDIDATES, *others], [REFERENCE, "faiss"])
    if rows * count > FAISS_ABOVE:
        names.remove("scikit-learn, all threads")  # it takes minutes, and the smaller cases show it
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for seed in range(seeds):
        for name in names:
            runs[name].append(in_process(path, name, count, seed))
            print(name, seed, runs[name][-1], file=sys.stderr, flush=True)
    reference = np.mean([run["inertia"] for run in runs[REFERENCE]])
    table = {}
    for name, results in runs.items():
        means = {
            key: round(float(np.mean([run[key] for run in results])), 3)
            for key in ("seconds", "cpu_seconds", "inertia")
        }
        ratio = round(float(means["inertia"] / reference), 5)
        table[name] = means | {"inertia_ratio": ratio, "memory_gb": max(run["memory_gb"] for run in results)}
    compared = pick((REFERENCE, "faiss"), ()) if rows * count <= FAISS_ABOVE * 10 else ()
    for name in compared:
        hashes = {in_process(path, name, count, 0, threads)["sha256"] for threads in (1, 2, 8)}
        table[name]["same_bytes_with_1_2_8_threads"] = hashes == {runs[name][0]["sha256"]}
    return {
        "rows": rows,
        "clusters": count,
        "seeds": seeds,
        "vectors_gb": round(path.stat().st_size / 1e9, 3),
        "runs": table,
    }


def main() -> None:
    """Runs every case and writes ``benchmarks/condensers.json``."""
    parser = make_parser(__doc__)
    parser.add_argument("--vectors", type=Path, help="folder with ag_news_train.npy and imdb_train.npy")
    parser.add_argument(
        "--measure",
        nargs=4,
        metavar=("FILE", "NAME", "CLUSTERS", "SEED"),
        help="one measurement, for the runner",
    )
    options = parser.parse_args()
    if options.measure:
        path, name, count, seed = options.measure
        print(json.dumps(measure(Path(path), name, int(count), int(seed))))
        return
    started, load, results = time.perf_counter(), os.getloadavg()[0], {}
    with tempfile.TemporaryDirectory() as work:
        for case, (data, rows, count, seeds) in pick(CASES, SMOKE_CASES).items():
            path = Path(work) / "case.npy"
            np.save(path, rows_of(data, rows, options.vectors or Path(work)))
            results[case] = run_case(path, rows, count, seeds)
    payload = {
        "faiss_above": FAISS_ABOVE,
        "seconds": round(time.perf_counter() - started),
        "load_at_start": round(load, 2),
    }
    write("condensers", payload | {"cases": results})


if __name__ == "__main__":
    main()
