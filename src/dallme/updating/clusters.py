"""The clusters of an update: new rows join the nearest, and classes that have drifted are clustered anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.stats import ttest_ind

from dallme.condensers.base import Cluster, assemble
from dallme.condensers.partition import members_of, nearest
from dallme.data import LabelledVectors, Prototypes
from dallme.distiller import Distiller

#: Level of the test of drift, and the fewest old and new rows of a class that it is made with.
LEVEL, MIN_ROWS = 0.01, 30

#: Most old and new rows of a class in the test.
MAX_ROWS = 2000

#: Share of a cluster's members that may change before its text is written anew.
MAX_CHANGED = 0.05

#: Reasons for which a text is written anew, beside those of a class in :attr:`Drift.reason`.
MEMBERS, SOURCE, EQUAL = "members changed", "source row dropped", "equal to a new text"


@dataclass(frozen=True)
class Drift:
    """Comparison of the new rows of a class with the old ones.

    Attributes:
        rows: Rows of the class.
        new_rows: New rows among them.
        old_distance: Mean squared distance of old rows to the nearest cluster mean, their own row left out.
        new_distance: The same of new rows.
        p_value: One-sided p-value of Welch's t-test that new rows are farther away; None if it is not made.
        reason: Why the class was clustered anew; None if it was not.
    """

    rows: int
    new_rows: int
    old_distance: float | None = None
    new_distance: float | None = None
    p_value: float | None = None
    reason: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Returns the fields for JSON."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Regrouped:
    """The clusters of the next set.

    Attributes:
        prototypes: m prototypes.
        origins: Position in the earlier set of the text of each cluster, int64 of shape (m,); -1 for a new
            cluster.
        reasons: Why each text is written anew; None for one that stays.
        pending: Rows by which the members of each cluster differ from those that its text was written from.
        drift: Class id to the comparison of its rows.
    """

    prototypes: Prototypes
    origins: np.ndarray
    reasons: list[str | None]
    pending: np.ndarray
    drift: dict[int, Drift]


def regroup(
    distiller: Distiller,
    vectors: LabelledVectors,
    is_new: np.ndarray,
    budget: Mapping[int, int],
    old: Mapping[int, Sequence[tuple[int, np.ndarray]]],
    removed: np.ndarray,
    pending: np.ndarray,
) -> Regrouped:
    """Puts new rows into the clusters of their class, or clusters the class anew.

    Args:
        distiller: Its condenser and seed are used.
        vectors: Vectors of all rows.
        is_new: Whether each row is new, bool of shape (n,).
        budget: Class id to number of texts.
        old: Class id to the position of each earlier text and its remaining members, nearest first.
        removed: Rows that each earlier text's cluster has lost.
        pending: As of :class:`Regrouped`, by the earlier texts.
    """
    drift = {
        label: _measure(vectors, label, is_new, old.get(label, ()), count, distiller.seed)
        for label, count in budget.items()
    }
    anew = {label: count for label, count in budget.items() if drift[label].reason}
    parts: list[Regrouped] = []
    if anew:
        made = distiller.resolved_condenser.condense(
            vectors, anew, seed=distiller.seed, progress=distiller.progress, engine=distiller.resolved_engine
        )
        reasons = [drift[label].reason for label in made.labels.tolist()]
        nothing = np.zeros(len(made), dtype=np.int64)
        parts.append(Regrouped(made, nothing - 1, reasons, nothing, {}))
    parts += [
        _join(distiller, vectors, label, is_new, old[label], removed, pending)
        for label in budget
        if label not in anew
    ]
    labels = np.concatenate([part.prototypes.labels for part in parts])
    weights = np.concatenate([part.prototypes.weights for part in parts])
    order = np.lexsort((-weights, labels))  # stable: equal weights keep their order
    reasons = [reason for part in parts for reason in part.reasons]
    return Regrouped(
        take(_concatenate([part.prototypes for part in parts]), order),
        np.concatenate([part.origins for part in parts])[order],
        [reasons[position] for position in order],
        np.concatenate([part.pending for part in parts])[order],
        drift,
    )


def _join(
    distiller: Distiller,
    vectors: LabelledVectors,
    label: int,
    is_new: np.ndarray,
    old: Sequence[tuple[int, np.ndarray]],
    removed: np.ndarray,
    pending: np.ndarray,
) -> Regrouped:
    """Puts the new rows of a class into its clusters; the prototypes follow their members."""
    recenter = distiller.resolved_condenser.recenter
    origins = np.array([text for text, _ in old], dtype=np.int64)
    added = vectors.rows_of(label)
    added = added[is_new[added]]
    centers = np.stack([recenter(vectors.vectors[members]) for _, members in old])
    joining = members_of(nearest(vectors.vectors[added], centers), len(old))
    clusters = []
    for (_, members), positions in zip(old, joining, strict=True):
        rows = np.concatenate([members, added[positions]])
        cluster = Cluster(recenter(vectors.vectors[rows]), np.arange(len(rows)), float(len(rows)))
        clusters.append((rows, cluster))
    prototypes = assemble(vectors.vectors, [label] * len(old), clusters)
    changed = pending[origins] + removed[origins] + np.array([len(rows) for rows in joining])
    reasons = [MEMBERS if share > MAX_CHANGED else None for share in (changed / prototypes.weights).tolist()]
    return Regrouped(prototypes, origins, reasons, changed, {})


def _measure(
    vectors: LabelledVectors,
    label: int,
    is_new: np.ndarray,
    old: Sequence[tuple[int, np.ndarray]],
    count: int,
    seed: int,
) -> Drift:
    """Compares the new rows of a class with the old ones, and decides whether to cluster it anew.

    An old row is left out of the mean of its own cluster, since a mean lies nearer to its own rows than to
    others: without the row, the squared distance to a mean of m rows is (m / (m - 1))² times as large.
    """
    rows = vectors.rows_of(label)
    new = rows[is_new[rows]]
    sizes = np.array([len(members) for _, members in old], dtype=np.int64)
    if not sizes.sum():
        return Drift(len(rows), len(new), reason="new class")
    reason = None
    if len(old) != count:
        reason = f"{count} texts, before {len(old)}"
    elif not sizes.all():
        reason = "a cluster lost all rows"
    if min(len(new), len(rows) - len(new)) < MIN_ROWS:
        return Drift(len(rows), len(new), reason=reason)
    filled = [members for _, members in old if len(members)]
    own = np.repeat(np.arange(len(filled)), [len(members) for members in filled])
    means = np.stack([vectors.vectors[members].mean(axis=0, dtype=np.float64) for members in filled])
    rng = np.random.default_rng([seed, label & 0xFFFFFFFF])
    sample = np.sort(rng.permutation(len(own))[:MAX_ROWS])
    known = _squared_distances(vectors.vectors[np.concatenate(filled)[sample]], means)
    m = sizes[sizes > 0][own[sample]].astype(np.float64)
    position = (np.arange(len(sample)), own[sample])
    known[position] = np.where(m > 1, known[position] * (m / np.maximum(m - 1, 1)) ** 2, np.inf)
    before = known.min(axis=1)
    before = before[np.isfinite(before)]
    after = _squared_distances(vectors.vectors[np.sort(rng.permutation(new)[:MAX_ROWS])], means).min(axis=1)
    if len(before) < MIN_ROWS:
        return Drift(len(rows), len(new), reason=reason)
    p_value = float(ttest_ind(after, before, equal_var=False, alternative="greater").pvalue)
    p_value = p_value if np.isfinite(p_value) else 1.0  # all distances are equal
    if reason is None and p_value < LEVEL:
        reason = "drift"
    return Drift(len(rows), len(new), float(before.mean()), float(after.mean()), p_value, reason)


def _squared_distances(vectors: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Returns the squared Euclidean distances, float64 of shape (n, k)."""
    rows = vectors.astype(np.float64)
    squares = (rows**2).sum(axis=1)[:, None] + (means**2).sum(axis=1) - 2 * rows @ means.T
    return np.asarray(np.maximum(squares, 0))


def take(prototypes: Prototypes, positions: np.ndarray) -> Prototypes:
    """Returns some of the prototypes, without responsibilities, in the order of the positions."""
    return Prototypes(
        prototypes.vectors[positions],
        prototypes.labels[positions],
        prototypes.weights[positions],
        tuple(prototypes.members[position] for position in positions),
        prototypes.spread[positions],
    )


def _concatenate(parts: Sequence[Prototypes]) -> Prototypes:
    """Joins prototypes; responsibilities, which joined rows do not have, are left out."""
    arrays: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("vectors", "labels", "weights", "spread")
    }
    return Prototypes(**arrays, members=tuple(members for part in parts for members in part.members))
