"""Herding: rows whose mean is the mean of the class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dallme.baselines.coreset import CoreSet


@dataclass(frozen=True)
class HerdingBaseline(CoreSet):
    """Takes, one after the other, the row that brings the mean of the chosen ones nearest to the mean of the class.

    With mu the mean of the class and s the sum of the t - 1 rows chosen so far, the next one is ::

        argmin_x || mu - (s + x) / t ||  =  argmin_x || x ||^2 - 2 x . (t mu - s)

    For vectors of length 1 that is Welling's rule, argmax_x x . w with w = t mu - s (Herding Dynamical Weights to Learn,
    2009; Chen, Welling & Smola, Super-Samples from Kernel Herding, 2010). O(n d) a row chosen.

    Strong with a handful of texts: the first is the most typical one, the next balance it. Weak where a class has several
    modes far apart: the mean says little of them, and rare ones are never seen.
    """

    def _choose(self, seen: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
        mean = seen.mean(axis=0, dtype=np.float64)
        total = np.zeros_like(mean)
        squares = np.einsum("ij,ij->i", seen, seen)
        chosen: list[int] = []
        for size in range(1, count + 1):
            costs = squares - 2 * (seen @ (size * mean - total).astype(seen.dtype))
            costs[chosen] = np.inf
            best = int(costs.argmin())
            chosen.append(best)
            total += seen[best]
        return np.array(chosen)
