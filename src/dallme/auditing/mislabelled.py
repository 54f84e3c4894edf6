"""Detection of mislabelled clusters: similar rows that look like another class than their label.

A classifier trained on a cluster of wrong labels repeats them. Each region is therefore scored by a ridge
regression from vectors to classes, trained without the region and its surroundings. Each region costs one
solution of the normal equations. A scan statistic (Kulldorff 1997, "A spatial scan statistic") then tests two
hypotheses. First, more rows of a class look like another class in the region than elsewhere, which rules out
borders between classes. Second, more rows that look like the other class have this label in the region than
elsewhere, which rules out labels that are wrong everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix
from scipy.stats import binom

from dallme.condensers.k_centroid import KCentroid
from dallme.data import Fingerprint, LabelledVectors

#: Size of the random sample of rows; a cluster has the same share of it as of all rows.
SAMPLE = 25_000
#: Regions; each is scored by a model of the others.
REGIONS = 100
#: Share of all vectors, nearest to a region's centre, that are excluded with it; larger than a cluster.
LEFT_OUT = 0.03
#: Sizes of clusters, as shares of all rows.
SIZES = (0.005, 0.01)
#: Share of all rows in the comparison group: the nearest rows of the class that a cluster looks like.
COMPARED = 0.02
#: Minimum number of rows of a cluster, and of a class.
LEAST_ROWS = 8
#: Ridge penalty, in units of the mean variance of a coordinate.
PENALTY = 0.3
#: Minimum rate at which rows of a class look like another one by chance.
USUAL = 0.01
#: Minimum share of a region's rows that look like another class.
DISPUTED = 0.25
#: Significance level of the first test over all regions. The rows of a topic are not independent, so the rate
#: of false alarms is higher; a benchmark measures it.
CHANCE = 1e-6
#: Significance level of the second test.
STREWN = 0.01

#: Distances in memory at once.
_BLOCK = 1 << 22


@dataclass(frozen=True)
class Mislabelled:
    """A cluster of rows that look like another class than their label.

    Attributes:
        label: Their class.
        looks_like: The class that they look like.
        size: Rows of `label` in the region, within the sample.
        disputed: Rows that look more like the other class than half of its own rows, there and everywhere.
        expected: Disputed rows at the rate of the class.
        rows: Positions in the source of the disputed rows of `label` in the region, nearest to its centre
            first.
    """

    label: int
    looks_like: int
    size: int
    disputed: int
    expected: float
    rows: tuple[int, ...]


def mislabelled(embedded: LabelledVectors) -> list[Mislabelled]:
    """Finds clusters of wrong labels.

    Args:
        embedded: Vectors of n rows.

    Returns:
        The clusters, the least likely first; none for too few vectors.
    """
    rows = np.sort(np.random.default_rng(0).permutation(len(embedded))[:SAMPLE])
    _, classes, counts = np.unique(embedded.labels[rows], return_inverse=True, return_counts=True)
    rows = rows[counts[classes] >= LEAST_ROWS]
    ids, labels = np.unique(embedded.labels[rows], return_inverse=True)
    if len(ids) < 2 or SIZES[-1] * len(rows) < LEAST_ROWS:
        return []
    scorer = _LeaveOutScorer(embedded.vectors[rows], labels)
    clusters = []
    for hit in _distinct(_scan(scorer.vectors, labels, scorer.scores())):
        label, looks_like, size = int(ids[hit.label]), int(ids[hit.other]), len(hit.region)
        members = tuple(_members(embedded, label, scorer, hit).tolist())
        if len(members) >= LEAST_ROWS:
            clusters.append(
                Mislabelled(label, looks_like, size, len(hit.disputed), hit.share * size, members)
            )
    return clusters


class _LeaveOutScorer:
    """Ridge regression that scores a region without its own rows.

    Attributes:
        vectors: float32 of shape (n, d).
        labels: Positions of classes, int64 of shape (n,).
    """

    def __init__(self, vectors: np.ndarray, labels: np.ndarray) -> None:
        self.vectors, self._mean = vectors, vectors.mean(axis=0, dtype=np.float64)
        self._classes = csr_matrix((np.ones(len(labels)), (labels, np.arange(len(labels)))))
        inputs = self._inputs(vectors)
        self._squares, self._products = inputs.T @ inputs, (self._classes @ inputs).T
        variance = (np.trace(self._squares) - len(inputs)) / vectors.shape[1]
        self._squares[np.diag_indices_from(self._squares)] += PENALTY * variance + 1e-9

    def scores(self) -> np.ndarray:
        """Scores each row for each class, float32 of shape (n, classes)."""
        count = len(self.vectors)
        whole = LabelledVectors(
            self.vectors,
            np.zeros(count, dtype=np.int64),
            Fingerprint("source", "unknown", self.vectors.shape[1]),
        )
        regions = KCentroid(backend="faiss").condense(whole, {0: REGIONS}, seed=0)
        scores = np.empty((count, self._classes.shape[0]), dtype=np.float32)
        for centre, rows in zip(regions.vectors, regions.members, strict=True):
            scores[rows] = self.score(centre, rows, self.vectors[rows])
        return scores

    def score(self, centre: np.ndarray, rows: np.ndarray, vectors: np.ndarray) -> np.ndarray:
        """Scores vectors for each class by a model without `rows` and the vectors near `centre`."""
        count = max(1, round(LEFT_OUT * len(self.vectors)))
        near = _nearest(_distances(centre[None], self.vectors), count)[0]
        out = np.union1d(rows, near)
        inputs = self._inputs(self.vectors[out])
        weights = np.linalg.solve(
            self._squares - inputs.T @ inputs, self._products - (self._classes[:, out] @ inputs).T
        )
        scores: np.ndarray = self._inputs(vectors) @ weights
        return scores

    def _inputs(self, vectors: np.ndarray) -> np.ndarray:
        """Centres vectors and appends a constant, float64 of shape (n, d + 1)."""
        return np.hstack([vectors - self._mean, np.ones((len(vectors), 1))])


@dataclass(frozen=True, eq=False)
class _Hit:
    """A region of rows of one class around a centre.

    Attributes:
        label: Position of their class.
        other: Position of the class that they look like.
        centre: float32 of shape (d,).
        radius: Largest of their :func:`_distances`.
        region: The rows.
        disputed: Rows that look like the other class.
        share: Share of all rows of their class that look like it.
        chance: Log p-value of the first test.
        strewn: Log p-value of the second test.
    """

    label: int
    other: int
    centre: np.ndarray
    radius: float
    region: np.ndarray
    disputed: np.ndarray
    share: float
    chance: float
    strewn: float


def _scan(vectors: np.ndarray, labels: np.ndarray, scores: np.ndarray) -> list[_Hit]:
    """Finds significant regions around the rows that look like another class."""
    hits: list[_Hit] = []
    tested = 0
    for label in range(scores.shape[1]):
        own = np.flatnonzero(labels == label)
        margins = scores[own] - scores[own, label][:, None]
        margins[:, label] = -np.inf
        looks = margins.argmax(axis=1)
        sizes = [size for size in _sizes(len(labels)) if size < len(own)]
        for other in np.unique(looks).tolist():
            theirs = np.flatnonzero(labels == other)
            typical = scores[theirs, other] - scores[theirs, label]
            pair = _Pair(label, other, own, theirs, margins[:, other], typical, float(np.median(typical)))
            centres = own[(looks == other) & (pair.margins > pair.usual)]
            if len(centres) >= LEAST_ROWS:
                tested += len(centres) * len(sizes)
                hits += pair.hits(vectors, centres, sizes)
    tests = np.log(max(tested, 1))
    return [
        hit for hit in hits if hit.chance + tests < np.log(CHANCE) and hit.strewn + tests < np.log(STREWN)
    ]


@dataclass(frozen=True, eq=False)
class _Pair:
    """Rows of a class, and rows of the other class that some of them look like.

    Attributes:
        label: Position of the class.
        other: Position of the other.
        own: Rows of the class.
        theirs: Rows of the other.
        margins: Score of each row of the class for the other, minus the score for its own.
        typical: The same difference for each row of the other class.
        usual: Median of `typical`.
    """

    label: int
    other: int
    own: np.ndarray
    theirs: np.ndarray
    margins: np.ndarray
    typical: np.ndarray
    usual: float

    def hits(self, vectors: np.ndarray, centres: np.ndarray, sizes: list[int]) -> Iterator[_Hit]:
        """Yields regions around the centres that pass the first test, uncorrected."""
        mine, others = float(np.mean(self.margins > self.usual)), float(np.mean(self.typical > self.usual))
        share = max(USUAL, mine)
        strewn = mine * len(self.own) / (mine * len(self.own) + others * len(self.theirs))
        near = min(len(self.theirs), max(LEAST_ROWS, round(COMPARED * len(vectors))))
        for part in _parts(centres, len(self.own) + len(self.theirs)):
            # All rows of a topic may look like one class, so the threshold is that of its own rows there.
            distances, other_distances = (
                _distances(vectors[part], vectors[rows]) for rows in (self.own, self.theirs)
            )
            least = np.maximum(np.median(self.typical[_nearest(other_distances, near)], axis=1), self.usual)
            for size in sizes:
                regions = _nearest(distances, size)
                disputed = self.margins[regions] > least[:, None]
                chances = binom.logsf(disputed.sum(axis=1) - 1, size, share)
                for index in np.flatnonzero((chances < np.log(CHANCE)) & (disputed.mean(axis=1) >= DISPUTED)):
                    region, radius = self.own[regions[index]], float(distances[index, regions[index]].max())
                    rows = region[disputed[index]]
                    alike = int(np.sum(self.typical[other_distances[index] <= radius] > least[index]))
                    second = float(binom.logsf(len(rows) - 1, len(rows) + alike, strewn))
                    centre, first = vectors[part[index]], float(chances[index])
                    yield _Hit(self.label, self.other, centre, radius, region, rows, share, first, second)


def _sizes(rows: int) -> list[int]:
    return sorted({max(LEAST_ROWS, round(share * rows)) for share in SIZES})


def _distinct(hits: list[_Hit]) -> list[_Hit]:
    """Keeps the least likely regions, and those that stay significant without the rows of these."""
    distinct: list[_Hit] = []
    covered = np.empty(0, dtype=np.int64)
    for hit in sorted(hits, key=lambda hit: hit.chance):
        rows, left = (np.setdiff1d(each, covered) for each in (hit.region, hit.disputed))
        enough = len(left) >= max(LEAST_ROWS, DISPUTED * len(rows))
        if enough and binom.logsf(len(left) - 1, len(rows), hit.share) + np.log(len(hits)) < np.log(CHANCE):
            distinct.append(hit)
            covered = np.union1d(covered, hit.region)
    return distinct


def _members(embedded: LabelledVectors, label: int, scorer: _LeaveOutScorer, hit: _Hit) -> np.ndarray:
    """Finds all disputed rows of a region, also outside the sample, nearest to the centre first."""
    own = embedded.rows_of(label)
    parts = [
        _distances(hit.centre[None], embedded.vectors[part])[0]
        for part in _parts(own, embedded.vectors.shape[1])
    ]
    distances = np.concatenate(parts)
    inside = np.flatnonzero(distances <= hit.radius)
    inside = inside[np.argsort(distances[inside], kind="stable")]
    scores = scorer.score(hit.centre, hit.region, embedded.vectors[own[inside]])
    rows: np.ndarray = own[inside[scores[:, hit.other] > scores[:, hit.label]]]
    return rows


def _distances(centres: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Computes squared Euclidean distances minus the square of each centre, of shape (centres, vectors)."""
    distances: np.ndarray = np.einsum("nd,nd->n", vectors, vectors) - 2 * centres @ vectors.T
    return distances


def _nearest(distances: np.ndarray, count: int) -> np.ndarray:
    """Returns the positions of the least distances of each line, of shape (lines, count), unordered."""
    return np.argpartition(distances, count - 1, axis=1)[:, :count]


def _parts(rows: np.ndarray, width: int) -> Iterator[np.ndarray]:
    """Splits rows into parts, to bound the memory for `width` numbers of each row."""
    step = max(1, _BLOCK // width)
    return (rows[start : start + step] for start in range(0, len(rows), step))
