"""Rows drawn at random: the baseline of the other condensers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dallme.condensers.base import Cluster, Condenser
from dallme.condensers.partition import members_of, nearest


@dataclass(frozen=True)
class RandomRows(Condenser):
    """Condenses each class to rows drawn uniformly without replacement.

    Every row of the class is a member of the drawn row nearest to it; a drawn row is a member of itself.
    """

    def _condense_class(self, vectors: np.ndarray, count: int, rng: np.random.Generator) -> list[Cluster]:
        drawn = rng.choice(len(vectors), size=count, replace=False)
        labels = nearest(vectors, vectors[drawn])
        labels[drawn] = np.arange(count)  # a drawn row may equal another one
        return [
            Cluster(vectors[row], members, float(len(members)))
            for row, members in zip(drawn, members_of(labels, count), strict=True)
        ]

    def recenter(self, vectors: np.ndarray) -> np.ndarray:
        """Returns the drawn row, which is the nearest; if it is gone, the next one."""
        return np.asarray(vectors[0])
