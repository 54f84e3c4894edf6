"""The contract of a condenser: many vectors in, a few prototypes per class out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dallme.data import LabelledVectors, Prototypes
from dallme.errors import InputError
from dallme.progress import Progress, SilentProgress
from dallme.scale import Engine, LocalEngine
from dallme.validation import check_positive, check_seed

#: Rows per chunk of work; several smaller classes share a chunk.
CHUNK_ROWS = 4096


@dataclass(frozen=True, eq=False)
class Cluster:
    """A prototype of one class.

    Attributes:
        vector: float32 of shape (d,).
        members: Positions of its rows within the class, int64 of shape (k,), k at least 1.
        weight: Number of rows that it stands for.
        responsibilities: Share of each member that belongs to it, float32 of shape (k,), for soft
            clusterings.
    """

    vector: np.ndarray
    members: np.ndarray
    weight: float
    responsibilities: np.ndarray | None = None


@dataclass(frozen=True)
class Condenser(ABC):
    """Condenses each class to a few prototypes (section 3.2, "Synthetic Embedding Generation").

    A subclass is a frozen dataclass whose fields are its options, and implements :meth:`_condense_class`.
    """

    def condense(
        self,
        vectors: LabelledVectors,
        budget: Mapping[int, int],
        *,
        seed: int,
        progress: Progress | None = None,
        engine: Engine | None = None,
    ) -> Prototypes:
        """Condenses class by class.

        Args:
            vectors: The vectors with their classes.
            budget: Class id to number of prototypes.
            seed: Seed of every random choice.
            progress: Receiver of progress.
            engine: Engine that condenses the classes; None condenses them in this process.

        Returns:
            Prototypes in the order of the class ids, the heaviest of a class first. Every row is a member of
            exactly one prototype of its class, and the weights of a class add up to its rows.

        Raises:
            InputError: If a class has fewer rows than prototypes in the budget.
        """
        check_seed(seed)
        rows = {label: vectors.rows_of(label) for label in budget}
        for label, count in budget.items():
            available = len(rows[label])
            if check_positive(count, f"prototypes of class {label}") > available:
                raise InputError(
                    f"expected at least {count} rows in class {label}, found {available}; ask for fewer texts"
                )
        groups = _group_classes(budget, rows)
        chunks = (
            [(label, vectors.vectors[rows[label]], budget[label]) for label in group] for group in groups
        )
        work = _Condensing(self, seed)
        condensed: dict[int, list[Cluster]] = {}
        with (progress or SilentProgress()).task("clustering rows", total=len(budget)) as task:
            for _, clusters in (engine or LocalEngine()).map(work, chunks):
                condensed |= clusters
                task.advance(len(clusters))
        labels = [label for label in budget for _ in condensed[label]]
        return assemble(
            vectors.vectors,
            labels,
            [(rows[label], cluster) for label in budget for cluster in condensed[label]],
        )

    def recenter(self, vectors: np.ndarray) -> np.ndarray:
        """Returns the prototype of a cluster whose members have changed; by default their mean.

        Args:
            vectors: Vectors of the members, float32 of shape (k, d), those of the earlier cluster first and
                nearest to its prototype first.
        """
        return np.asarray(vectors.mean(axis=0, dtype=np.float64), dtype=np.float32)

    @abstractmethod
    def _condense_class(self, vectors: np.ndarray, count: int, rng: np.random.Generator) -> list[Cluster]:
        """Partitions the vectors of one class, of shape (k, d) with k >= count, into `count` clusters."""


@dataclass(frozen=True)
class _Condensing:
    """Condenses some classes, in this process or in a worker.

    Attributes:
        condenser: The condenser.
        seed: Seed of every random choice.
    """

    condenser: Condenser
    seed: int

    def __call__(self, classes: list[tuple[int, np.ndarray, int]]) -> dict[int, list[Cluster]]:
        """Returns the clusters of each class, the heaviest first, from its id, vectors and budget."""
        condensed = {}
        for label, vectors, count in classes:
            # One generator per class: a class condenses the same whatever the other classes.
            rng = np.random.default_rng([self.seed, label & 0xFFFFFFFF])
            clusters = self.condenser._condense_class(vectors, count, rng)
            condensed[label] = sorted(
                clusters, key=lambda cluster: (-cluster.weight, int(cluster.members.min()))
            )
        return condensed


def _group_classes(budget: Mapping[int, int], rows: Mapping[int, np.ndarray]) -> list[list[int]]:
    """Groups classes into chunks of work: a large class alone, small classes together."""
    groups: list[list[int]] = []
    size = CHUNK_ROWS
    for label in budget:
        if size >= CHUNK_ROWS:
            groups.append([])
            size = 0
        groups[-1].append(label)
        size += len(rows[label])
    return groups


def assemble(
    vectors: np.ndarray, labels: list[int], clusters: list[tuple[np.ndarray, Cluster]]
) -> Prototypes:
    """Combines the clusters of all classes, members sorted by their distance to the prototype.

    Args:
        vectors: Vectors of the source.
        labels: Class id of each cluster.
        clusters: Positions of the rows of the class, and the cluster.
    """
    members, spread, responsibilities = [], [], []
    for rows, cluster in clusters:
        distances = np.linalg.norm(vectors[rows[cluster.members]] - cluster.vector, axis=1)
        order = np.argsort(distances, kind="stable")
        members.append(rows[cluster.members[order]])
        spread.append(float(distances.mean()))
        if cluster.responsibilities is not None:
            responsibilities.append(cluster.responsibilities[order])
    return Prototypes(
        vectors=np.stack([cluster.vector for _, cluster in clusters]).astype(np.float32),
        labels=np.array(labels, dtype=np.int64),
        weights=np.array([cluster.weight for _, cluster in clusters], dtype=np.float64),
        members=tuple(members),
        spread=np.array(spread),
        responsibilities=tuple(responsibilities) if responsibilities else None,
    )
