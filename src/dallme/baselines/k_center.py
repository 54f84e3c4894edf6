"""k-center: rows such that no other row is far from all of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dallme.baselines.coreset import CoreSet


@dataclass(frozen=True)
class KCenterBaseline(CoreSet):
    """Starts at the row nearest to the mean of the class, then takes the row farthest from all chosen ones.

    It makes the largest distance of a row to its nearest chosen one small, ::

        max_i min_{j in S} || x_i - x_j ||

    at most twice the smallest that is possible (Gonzalez, 1985; Sener & Savarese, Active Learning for Convolutional Neural
    Networks: A Core-Set Approach, 2018). O(n d) a row chosen.

    Strong where every corner of a class must be seen and the budget is large enough to reach them. Weak with few texts and
    with noise: what is farthest is often an outlier or has a wrong label.
    """

    def _choose(self, seen: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
        mean = seen.mean(axis=0, dtype=np.float64).astype(seen.dtype)
        squares = np.einsum("ij,ij->i", seen, seen)
        chosen = [int((squares - 2 * (seen @ mean)).argmin())]
        nearest = np.full(len(seen), np.inf, dtype=seen.dtype)  # squared distance to the nearest chosen row
        while len(chosen) < count:
            last = chosen[-1]
            np.minimum(nearest, squares - 2 * (seen @ seen[last]) + squares[last], out=nearest)
            nearest[last] = -np.inf
            chosen.append(int(nearest.argmax()))
        return np.array(chosen)
