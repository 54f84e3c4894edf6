"""Rows of one kind that all have a wrong label: a cluster that looks like another class to one who has not seen it.

A classifier that learned from a cluster of wrong labels repeats them, and so do the nearest neighbours of its rows. Each region
is therefore judged by a ridge regression, from the vectors to the classes, that has seen neither it nor what lies around it, for
one solution of the normal equations each. Two questions are asked of a region, as a scan statistic asks them (Kulldorff 1997, "A
spatial scan statistic"): do far more of its rows of a class look like another class than elsewhere, and have far more of its rows
that look like the other class this label than elsewhere? Borders between classes answer no to the first, wrong labels that are
strewn all over to the second.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix
from scipy.stats import binom

from dallme.condensers.k_centroid import KCentroid
from dallme.data import Fingerprint, LabelledVectors

#: Rows that are looked at, drawn at random; a cluster has the same share of them as of all.
LOOKED_AT = 25_000
#: Regions whose rows are judged by what the others say.
REGIONS = 100
#: Share of all vectors, those nearest to a region's middle, that are taken out with it: more than a cluster has.
TAKEN_OUT = 0.03
#: Sizes of the clusters that are looked for, as shares of all rows.
SIZES = (0.005, 0.01)
#: Share of all rows, of the class that a cluster looks like and nearest to it, that it is compared with.
COMPARED = 0.02
#: Fewest rows of a cluster, and of a class.
LEAST_ROWS = 8
#: Weight of the regression's penalty, in mean variances of a coordinate over all rows.
PENALTY = 0.3
#: Least share of a class's rows that is taken to look like another one by chance.
USUAL = 0.01
#: Least share of a region's rows that look like another class.
DISPUTED = 0.25
#: The chance that all is well with vectors of which something is reported, by the binomial distribution and before rows hang
#: together, as the rows of a topic do; the rate of false alarms is measured in benchmarks.
CHANCE = 1e-6
#: The chance that wrong labels are strewn all over where something is reported.
STREWN = 0.01

#: Distances held at once.
_BLOCK = 1 << 22


@dataclass(frozen=True)
class Mislabelled:
    """Rows that lie together and look like another class than the one that they have.

    Attributes:
        label: The class that they have.
        looks_like: The class that they look like.
        size: Rows of `label` in the region, of those that were looked at.
        disputed: How many of them look more like the other class than half of its own rows do, there and everywhere.
        expected: How many would, were they like the other rows of `label`.
        rows: Positions in the source of the rows of `label` in the region that look like the other class, nearest to its middle
            first.
    """

    label: int
    looks_like: int
    size: int
    disputed: int
    expected: float
    rows: tuple[int, ...]


def mislabelled(embedded: LabelledVectors) -> list[Mislabelled]:
    """Looks for clusters of wrong labels.

    Args:
        embedded: Vectors of n rows.

    Returns:
        What was found, the least likely first; nothing for vectors too few to tell.
    """
    rows = np.sort(np.random.default_rng(0).permutation(len(embedded))[:LOOKED_AT])
    _, place, counts = np.unique(embedded.labels[rows], return_inverse=True, return_counts=True)
    rows = rows[counts[place] >= LEAST_ROWS]
    ids, labels = np.unique(embedded.labels[rows], return_inverse=True)
    if len(ids) < 2 or SIZES[-1] * len(rows) < LEAST_ROWS:
        return []
    others = _Others(embedded.vectors[rows], labels)
    found = []
    for hit in _distinct(_scan(others.vectors, labels, others.scores())):
        label, looks_like, size = int(ids[hit.label]), int(ids[hit.other]), len(hit.region)
        members = tuple(_members(embedded, label, others, hit).tolist())
        if len(members) >= LEAST_ROWS:
            found.append(Mislabelled(label, looks_like, size, len(hit.disputed), hit.share * size, members))
    return found


class _Others:
    """What rows say of a region that they are not of, by ridge regression.

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
        """What is said of each row for each class, float32 of shape (n, classes)."""
        count = len(self.vectors)
        whole = LabelledVectors(
            self.vectors,
            np.zeros(count, dtype=np.int64),
            Fingerprint("source", "unknown", self.vectors.shape[1]),
        )
        regions = KCentroid(backend="faiss").condense(whole, {0: REGIONS}, seed=0)
        found = np.empty((count, self._classes.shape[0]), dtype=np.float32)
        for middle, rows in zip(regions.vectors, regions.members, strict=True):
            found[rows] = self.judge(middle, rows, self.vectors[rows])
        return found

    def judge(self, middle: np.ndarray, rows: np.ndarray, vectors: np.ndarray) -> np.ndarray:
        """Scores of vectors for each class by those who neither are among `rows` nor near the `middle`."""
        near = _nearest(_distances(middle[None], self.vectors), max(1, round(TAKEN_OUT * len(self.vectors))))[
            0
        ]
        out = np.union1d(rows, near)
        inputs = self._inputs(self.vectors[out])
        learned = np.linalg.solve(
            self._squares - inputs.T @ inputs, self._products - (self._classes[:, out] @ inputs).T
        )
        scores: np.ndarray = self._inputs(vectors) @ learned
        return scores

    def _inputs(self, vectors: np.ndarray) -> np.ndarray:
        """Centred vectors and a constant, float64 of shape (n, d + 1)."""
        return np.hstack([vectors - self._mean, np.ones((len(vectors), 1))])


@dataclass(frozen=True, eq=False)
class _Hit:
    """Rows of a class around a middle.

    Attributes:
        label: Position of their class.
        other: Position of the class that they look like.
        middle: float32 of shape (d,).
        radius: Largest of their :func:`_distances`.
        region: The rows.
        disputed: Those that look like the other class.
        share: The share of all rows of their class that do.
        chance: Logarithm of the chance of so many.
        strewn: Logarithm of the chance of so many among the rows in the region that look like the other class, whatever their
            label.
    """

    label: int
    other: int
    middle: np.ndarray
    radius: float
    region: np.ndarray
    disputed: np.ndarray
    share: float
    chance: float
    strewn: float


def _scan(vectors: np.ndarray, labels: np.ndarray, scores: np.ndarray) -> list[_Hit]:
    """What is no chance among the regions around each row that looks like another class."""
    found: list[_Hit] = []
    looked_at = 0
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
            middles = own[(looks == other) & (pair.margins > pair.usual)]
            if len(middles) >= LEAST_ROWS:
                looked_at += len(middles) * len(sizes)
                found += pair.hits(vectors, middles, sizes)
    tests = np.log(max(looked_at, 1))
    return [
        hit for hit in found if hit.chance + tests < np.log(CHANCE) and hit.strewn + tests < np.log(STREWN)
    ]


@dataclass(frozen=True, eq=False)
class _Pair:
    """Rows of a class, and those of another that some of them may be of.

    Attributes:
        label: Position of the class.
        other: Position of the other.
        own: Rows of the class.
        theirs: Rows of the other.
        margins: By how much each row of the class looks more like the other.
        typical: By how much each row of the other does.
        usual: The median of these.
    """

    label: int
    other: int
    own: np.ndarray
    theirs: np.ndarray
    margins: np.ndarray
    typical: np.ndarray
    usual: float

    def hits(self, vectors: np.ndarray, middles: np.ndarray, sizes: list[int]) -> Iterator[_Hit]:
        """Regions around the middles that are no chance by the first question, were no other looked at."""
        mine, others = float(np.mean(self.margins > self.usual)), float(np.mean(self.typical > self.usual))
        share, strewn = (
            max(USUAL, mine),
            mine * len(self.own) / (mine * len(self.own) + others * len(self.theirs)),
        )
        near = min(len(self.theirs), max(LEAST_ROWS, round(COMPARED * len(vectors))))
        for part in _parts(middles, len(self.own) + len(self.theirs)):
            # In a region of a topic that goes with a class all rows look somewhat like it: they are held against its own there.
            distances, apart = (_distances(vectors[part], vectors[rows]) for rows in (self.own, self.theirs))
            least = np.maximum(np.median(self.typical[_nearest(apart, near)], axis=1), self.usual)
            for size in sizes:
                regions = _nearest(distances, size)
                disputed = self.margins[regions] > least[:, None]
                chances = binom.logsf(disputed.sum(axis=1) - 1, size, share)
                for place in np.flatnonzero((chances < np.log(CHANCE)) & (disputed.mean(axis=1) >= DISPUTED)):
                    region, radius = self.own[regions[place]], float(distances[place, regions[place]].max())
                    said = region[disputed[place]]
                    alike = int(np.sum(self.typical[apart[place] <= radius] > least[place]))
                    again = float(binom.logsf(len(said) - 1, len(said) + alike, strewn))
                    yield _Hit(
                        self.label,
                        self.other,
                        vectors[part[place]],
                        radius,
                        region,
                        said,
                        share,
                        float(chances[place]),
                        again,
                    )


def _sizes(rows: int) -> list[int]:
    return sorted({max(LEAST_ROWS, round(share * rows)) for share in SIZES})


def _distinct(found: list[_Hit]) -> list[_Hit]:
    """The least likely, and those that the regions of these leave as unlikely."""
    kept: list[_Hit] = []
    told = np.empty(0, dtype=np.int64)
    for hit in sorted(found, key=lambda one: one.chance):
        rows, left = (np.setdiff1d(each, told) for each in (hit.region, hit.disputed))
        enough = len(left) >= max(LEAST_ROWS, DISPUTED * len(rows))
        if enough and binom.logsf(len(left) - 1, len(rows), hit.share) + np.log(len(found)) < np.log(CHANCE):
            kept.append(hit)
            told = np.union1d(told, hit.region)
    return kept


def _members(embedded: LabelledVectors, label: int, others: _Others, hit: _Hit) -> np.ndarray:
    """All rows of the region that look like the other class, whether they were looked at or not, nearest to the middle first."""
    own = embedded.rows_of(label)
    parts = [
        _distances(hit.middle[None], embedded.vectors[part])[0]
        for part in _parts(own, embedded.vectors.shape[1])
    ]
    distances = np.concatenate(parts)
    inside = np.flatnonzero(distances <= hit.radius)
    inside = inside[np.argsort(distances[inside], kind="stable")]
    scores = others.judge(hit.middle, hit.region, embedded.vectors[own[inside]])
    found: np.ndarray = own[inside[scores[:, hit.other] > scores[:, hit.label]]]
    return found


def _distances(middles: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances, of shape (middles, vectors), each without the square of the middle."""
    found: np.ndarray = np.einsum("nd,nd->n", vectors, vectors) - 2 * middles @ vectors.T
    return found


def _nearest(distances: np.ndarray, count: int) -> np.ndarray:
    """Positions of the least distances of each line, of shape (lines, count), in no order."""
    return np.argpartition(distances, count - 1, axis=1)[:, :count]


def _parts(rows: np.ndarray, width: int) -> Iterator[np.ndarray]:
    """Some rows at a time, so that what has `width` numbers for each stays small."""
    step = max(1, _BLOCK // width)
    return (rows[start : start + step] for start in range(0, len(rows), step))
