"""The real row nearest to each k-means centroid: a core-set (section 5.5 calls this alternative kNN)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from dallme.condensers.base import Cluster
from dallme.condensers.k_centroid import KCentroid


@dataclass(frozen=True)
class Medoid(KCentroid):
    """Condenses each class to one real row per k-means cluster, the member nearest to the centroid.

    The clusters are those of :class:`KCentroid` with the same seed; the prototype's vector is that of the
    row, bit by bit, and no row comes twice. In imbalanced-learn's words `medoid` is
    ``ClusterCentroids(voting="hard")`` and `k-centroid` is ``ClusterCentroids(voting="soft")``; there the
    nearest row is looked for in the whole class, here among the members. Prefer it where a prototype must be
    a text that exists.

    Attributes:
        backend: As of :class:`KCentroid`.
    """

    def _condense_class(self, vectors: np.ndarray, count: int, rng: np.random.Generator) -> list[Cluster]:
        return [_on_nearest_row(vectors, cluster) for cluster in super()._condense_class(vectors, count, rng)]


def _on_nearest_row(vectors: np.ndarray, cluster: Cluster) -> Cluster:
    """Moves a cluster's prototype to the nearest of its members; the first of them where several are as near."""
    distances = np.linalg.norm(vectors[cluster.members] - cluster.vector, axis=1)
    return replace(cluster, vector=vectors[cluster.members[distances.argmin()]])
