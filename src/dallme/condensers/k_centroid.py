"""k-means per class: the centroids are the prototypes (section 3.2, Appendix B.2)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import faiss
import numpy as np
from sklearn.cluster import KMeans, kmeans_plusplus

from dallme.condensers.base import Cluster, Condenser
from dallme.condensers.partition import fill_empty, mean_clusters, reproducible
from dallme.errors import UnknownNameError

BACKENDS = ("auto", "scikit-learn", "faiss")

#: Rows × clusters above which ``auto`` uses faiss; scikit-learn takes a second or two up to here
#: (benchmarks/condensers.json).
FAISS_ABOVE = 1_000_000

#: Iterations of faiss; twice as many lowered the inertia by less than a thousandth.
_ITERATIONS = 25

#: Rows per cluster for the k-means++ start of faiss; on all rows it would cost more than the iterations.
_START_ROWS = 10


@dataclass(frozen=True)
class KCentroid(Condenser):
    """Condenses each class to the centroids of its k-means clusters, the paper's generator.

    k-means searches for the partition of the rows x into clusters C_1 ... C_k with the least inertia::

        sum over j of the sum over x in C_j of |x - mean(C_j)|^2

    A prototype is the mean of its members and is not scaled to length 1, as in Appendix B.2. The more its
    members differ, the shorter it is. Prefer `medoid` if prototypes must be real rows.

    The same seed gives the same bytes, whatever the number of threads.

    Attributes:
        backend: ``scikit-learn``: its KMeans with one k-means++ start, as in the paper. ``faiss``: two to
            four times faster on large classes, inertia within one percent, a third of the memory. ``auto``:
            scikit-learn up to :data:`FAISS_ABOVE` rows × clusters.

    Example:
        >>> KCentroid().condense(vectors, {0: 10, 1: 10}, seed=0)  # doctest: +SKIP
    """

    backend: str = "auto"

    def __post_init__(self) -> None:
        """Checks the backend's name."""
        if self.backend not in BACKENDS:
            raise UnknownNameError("backend", self.backend, BACKENDS)

    def _condense_class(self, vectors: np.ndarray, count: int, rng: np.random.Generator) -> list[Cluster]:
        return mean_clusters(vectors, fill_empty(vectors, self._partition(vectors, count, rng), count), count)

    def _partition(self, vectors: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
        """Finds the cluster of each row, int64 of shape (n,); some clusters may be empty."""
        seed = int(rng.integers(2**31))
        if count == len(vectors):
            return np.arange(count)
        backend = self.backend
        if backend == "auto":
            backend = "faiss" if len(vectors) * count > FAISS_ABOVE else "scikit-learn"
        if backend == "faiss":
            return _faiss(vectors, count, seed)
        with reproducible():
            labels = KMeans(count, n_init=1, random_state=seed).fit(vectors).labels_
        return np.asarray(labels, dtype=np.int64)


def _faiss(vectors: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Lloyd's algorithm of faiss over all rows, from k-means++ on a sample of them."""
    sample = np.random.default_rng(seed).permutation(len(vectors))[: max(2_000, _START_ROWS * count)]
    with reproducible():
        start, _ = kmeans_plusplus(vectors[sample], count, random_state=seed)
    kmeans = faiss.Kmeans(
        vectors.shape[1],
        count,
        niter=_ITERATIONS,
        seed=seed,
        min_points_per_centroid=1,
        max_points_per_centroid=len(vectors),
    )
    kmeans.train(vectors, init_centroids=start)
    _, labels = kmeans.assign(vectors)
    return np.asarray(labels, dtype=np.int64)


@dataclass(frozen=True)
class Medoid(KCentroid):
    """Condenses each class to one real row per k-means cluster, the member nearest to the centroid.

    The clusters are those of :class:`KCentroid` with the same seed. The prototype's vector is exactly that of
    the row, and no row occurs twice. In imbalanced-learn `medoid` is ``ClusterCentroids(voting="hard")`` and
    `k-centroid` is ``ClusterCentroids(voting="soft")``; it searches the whole class for the nearest row, this
    one the members. Prefer it if a prototype must be an existing text.

    Attributes:
        backend: As of :class:`KCentroid`.
    """

    def _condense_class(self, vectors: np.ndarray, count: int, rng: np.random.Generator) -> list[Cluster]:
        return [_on_nearest_row(vectors, cluster) for cluster in super()._condense_class(vectors, count, rng)]

    def recenter(self, vectors: np.ndarray) -> np.ndarray:
        """Returns the member nearest to the mean of all."""
        cluster = Cluster(super().recenter(vectors), np.arange(len(vectors)), float(len(vectors)))
        return _on_nearest_row(vectors, cluster).vector


def _on_nearest_row(vectors: np.ndarray, cluster: Cluster) -> Cluster:
    """Moves the prototype of a cluster to its nearest member, the first of equally near ones."""
    distances = np.linalg.norm(vectors[cluster.members] - cluster.vector, axis=1)
    return replace(cluster, vector=vectors[cluster.members[distances.argmin()]])
