"""Partitions of rows into clusters, without empty clusters and without an n × n matrix."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from dallme.condensers.base import Cluster

#: Maximum number of similarities in memory (16 MiB of float32).
_BLOCK = 1 << 22


@contextmanager
def reproducible() -> Iterator[None]:
    """Runs scikit-learn on one thread, without its warnings of convergence.

    Its k-means adds the sums of threads in the order in which they end. With three or more threads the same
    seed therefore gives different bytes each time.
    """
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


def nearest(vectors: np.ndarray, centers: np.ndarray) -> np.ndarray:
    """Finds for each row the nearest center (Euclidean), block by block.

    Args:
        vectors: float32 of shape (n, d).
        centers: float32 of shape (k, d).

    Returns:
        Positions in `centers`, int64 of shape (n,).
    """
    labels = np.empty(len(vectors), dtype=np.int64)
    # |x-c|^2 is least where x.c - |c|^2/2 is largest.
    half_squares = np.einsum("kd,kd->k", centers, centers) / 2
    step = max(1, _BLOCK // len(centers))
    for start in range(0, len(vectors), step):
        block = vectors[start : start + step]
        labels[start : start + step] = (block @ centers.T - half_squares).argmax(axis=1)
    return labels


def members_of(labels: np.ndarray, count: int) -> list[np.ndarray]:
    """Lists the rows of each of `count` clusters, in ascending order, from the cluster of each row."""
    ends = np.cumsum(np.bincount(labels, minlength=count))
    return np.split(np.argsort(labels, kind="stable"), ends[:-1])


def mean_of(vectors: np.ndarray) -> np.ndarray:
    """Averages rows in double precision; float32 of shape (d,)."""
    return np.asarray(vectors.mean(axis=0, dtype=np.float64), dtype=np.float32)


def fill_empty(vectors: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    """Fills each empty cluster with the row that is farthest from its cluster mean and not its only row.

    Clusters are empty, for example, if there are fewer distinct rows than clusters.

    Args:
        vectors: float32 of shape (n, d), n at least `count`.
        labels: Cluster of each row, int64 of shape (n,); not changed.
        count: Number of clusters.

    Returns:
        The cluster of each row, int64 of shape (n,); no cluster from 0 to ``count - 1`` is empty.
    """
    sizes = np.bincount(labels, minlength=count)
    empty = np.flatnonzero(sizes == 0).tolist()
    if not empty:
        return labels
    distances = np.empty(len(vectors))
    for members in members_of(labels, count):
        if len(members):
            distances[members] = np.linalg.norm(vectors[members] - mean_of(vectors[members]), axis=1)
    filled = labels.copy()
    for row in np.argsort(-distances, kind="stable"):
        if not empty:
            break
        if sizes[filled[row]] > 1:
            sizes[filled[row]] -= 1
            filled[row] = empty.pop(0)
    return filled


def mean_clusters(vectors: np.ndarray, labels: np.ndarray, count: int) -> list[Cluster]:
    """Makes clusters whose prototype is the mean of their members."""
    return [
        Cluster(mean_of(vectors[members]), members, float(len(members)))
        for members in members_of(labels, count)
    ]
