"""The real row nearest to each k-means centroid: a core-set (kNN in section 5.5)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from dallme.condensers.base import Cluster
from dallme.condensers.k_centroid import KCentroid


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


def _on_nearest_row(vectors: np.ndarray, cluster: Cluster) -> Cluster:
    """Moves the prototype of a cluster to its nearest member, the first of equally near ones."""
    distances = np.linalg.norm(vectors[cluster.members] - cluster.vector, axis=1)
    return replace(cluster, vector=vectors[cluster.members[distances.argmin()]])
