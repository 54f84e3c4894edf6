"""Uncertainty: the rows that a linear probe is least sure of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dallme.baselines.coreset import RankedCoreSet, probe_probabilities


@dataclass(frozen=True)
class LeastConfidenceBaseline(RankedCoreSet):
    """Takes the rows whose most probable class is least probable.

    The score of a row is 1 - max_c p(c | x), with p of logistic regression on the vectors of all rows (Lewis & Gale, A
    Sequential Algorithm for Training Text Classifiers, 1994; Coleman et al., Selection via Proxy, 2020).

    Strong with large budgets on clean data, where the rows between the classes decide. Weak with few texts: the rows on the
    border are those that are least like their class, and often those with wrong labels.
    """

    def _look(self, vectors: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return np.asarray(-probe_probabilities(vectors, labels).max(axis=1))


@dataclass(frozen=True)
class MarginBaseline(RankedCoreSet):
    """Takes the rows whose two most probable classes are nearest to each other.

    The score of a row is p(second | x) - p(first | x), with p of logistic regression on the vectors of all rows (Scheffer,
    Decomain & Wrobel, Active Hidden Markov Models for Information Extraction, 2001). With two classes the choice is that of
    `least-confidence`; with more it looks only at the border between two, however the rest is shared out.

    Strong and weak where `least-confidence` is.
    """

    def _look(self, vectors: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        highest = np.sort(probe_probabilities(vectors, labels), axis=1)[:, -2:]
        return np.asarray(highest[:, 0] - highest[:, 1])
