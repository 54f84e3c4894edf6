"""The canonical order of rows: one that depends on what the rows hold, not on how the source happens to list them."""

from __future__ import annotations

import hashlib

import numpy as np

from dallme.data import LabelledTexts
from dallme.store import text_keys


def canonical_order(texts: LabelledTexts, vectors: np.ndarray | None = None) -> np.ndarray:
    """Orders rows by the hash of their text, then by class, then by vector, then by row id.

    A shuffled source comes out in one order, so that what is drawn, added up or cut from its rows is the same. The order says
    nothing about the rows: neighbours in it are as good as drawn at random. Rows of the same text, class and vector differ
    in their row id alone; where that is their number in the source, a shuffle swaps them, and nothing else.

    Args:
        texts: n texts.
        vectors: Their vectors of shape (n, d), where rows of one text may have different ones.

    Returns:
        Positions in the order, int64 of shape (n,).
    """
    keys = text_keys(texts.texts)
    columns = [texts.labels, keys[:, 1], keys[:, 0]]  # the last counts first
    order = np.lexsort(columns)
    twins = np.flatnonzero(np.all([column[order[1:]] == column[order[:-1]] for column in columns], axis=0))
    if twins.size:
        rows = np.union1d(order[twins], order[twins + 1])
        order = np.lexsort([_row_ranks(texts.row_ids, rows), _vector_ranks(vectors, rows, len(texts)), *columns])
    return order


def in_order(texts: LabelledTexts, order: np.ndarray) -> LabelledTexts:
    """The same texts in another order, which know the digest of the order that they had; themselves if it is theirs."""
    if is_identity(order):
        return texts
    taken = texts.take(order)
    return LabelledTexts(
        taken.texts, taken.labels, taken.label_names, taken.row_ids, taken.source, texts.notes, texts.source_digest
    )


def is_identity(order: np.ndarray) -> bool:
    """Whether an order leaves everything where it is."""
    return bool((order == np.arange(len(order))).all())


def _row_ranks(row_ids: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The rank of the row ids at `rows` among themselves, 0 elsewhere; int64 of shape (n,)."""
    ranks = np.zeros(len(row_ids), dtype=np.int64)
    ranks[rows] = np.unique(row_ids[rows], return_inverse=True)[1]
    return ranks


def _vector_ranks(vectors: np.ndarray | None, rows: np.ndarray, count: int) -> np.ndarray:
    """The rank of the hashes of the vectors at `rows` among themselves, 0 elsewhere; int64 of shape (n,)."""
    ranks = np.zeros(count, dtype=np.int64)
    if vectors is not None:
        hashes = [hashlib.blake2b(np.ascontiguousarray(vectors[row]).data, digest_size=8).digest() for row in rows.tolist()]
        ranks[rows] = np.unique(np.frombuffer(b"".join(hashes), dtype="<u8"), return_inverse=True)[1]
    return ranks
