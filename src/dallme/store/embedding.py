"""Embedding with a store behind it: what is there is read, what is missing is embedded and written as it is made."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dallme.embedders.base import Embedder, TextError
from dallme.progress import Progress, SilentProgress
from dallme.store.keys import text_keys
from dallme.store.table import EmbeddingStore, VectorTable
from dallme.validation import check_positive, check_texts, check_vectors


def embed_with_store(
    embedder: Embedder,
    texts: Sequence[str],
    *,
    prompt: str | None = None,
    store: EmbeddingStore | None = None,
    progress: Progress | None = None,
    chunk: int | None = None,
) -> np.ndarray:
    """Embeds each different text once, in chunks of texts of similar length.

    The chunks depend on the set of texts only, not on the order of the rows or on what the store holds. A chunk is
    written as it is made, in one batch or in those of an embedder that makes several, so that an interrupted run loses at
    most what was under way, and a resumed run gives the same bytes as one that was never interrupted.

    Args:
        embedder: What embeds.
        texts: n strings.
        prompt: Task-specific prompt that is put before each text.
        store: Where vectors are kept; None keeps them nowhere. Those of an embedder whose weights are not known are
            not kept either.
        progress: Where to show progress.
        chunk: Texts that are handed to the embedder at once; by default as many as it likes.

    Returns:
        float32 of shape (n, d), in the order of the texts.

    Raises:
        InputError: If a text is unusable or the embedder gives no finite vectors.
        StoreError: If the store cannot be read or written.
    """
    texts = check_texts(texts)
    chunk = check_positive(embedder.chunk if chunk is None else chunk, "chunk")
    progress = progress or SilentProgress()
    fingerprint = embedder.fingerprint(prompt)
    table = store.table(fingerprint) if store and fingerprint.weights != "unknown" else None
    keys = text_keys(texts)
    order, starts = _plan(texts, keys)
    vectors = np.empty((len(texts), fingerprint.dimension), dtype=np.float32)
    done = np.zeros(len(texts), dtype=bool)
    if table is not None:
        done = table.lookup(keys)
        table.read(keys[done], out=vectors, rows=np.flatnonzero(done))
        for note in table.notes:
            progress.note(note)
    told = embedder.notes
    with progress.task("embed", total=len(starts) - 1) as task:
        for begin in range(0, len(starts) - 1, chunk):
            bounds = starts[begin : begin + chunk + 1]
            firsts = order[bounds[:-1]]
            missing = ~done[firsts]
            if missing.any():
                made = _embed_chunk(embedder, texts, firsts[missing], prompt, keys, table)
                rows = order[bounds[0] : bounds[-1]]
                vectors[rows[~done[rows]]] = np.repeat(made, np.diff(bounds)[missing], axis=0)
            task.advance(len(firsts))
    for note in embedder.notes:
        if note not in told:
            progress.note(note)
    return vectors


def _embed_chunk(
    embedder: Embedder, texts: Sequence[str], rows: np.ndarray, prompt: str | None, keys: np.ndarray, table: VectorTable | None
) -> np.ndarray:
    """Embeds the texts at `rows`, keeping each batch as soon as it is done; float32 of shape (rows, d)."""
    dimension = embedder.fingerprint(prompt).dimension
    made = np.empty((len(rows), dimension), dtype=np.float32)
    try:
        for places, vectors in embedder.embed_batches([texts[row] for row in rows], prompt=prompt):
            made[places] = check_vectors(vectors, rows=len(places), dimension=dimension)
            if table is not None:
                table.append(keys[rows[places]], made[places])
    except TextError as error:
        raise error.at(int(rows[error.row])) from None
    return made


def _plan(texts: Sequence[str], keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Orders texts by length, then key, which puts equal texts side by side.

    Returns:
        The rows in that order, of shape (n,), and where in it each of the u different texts starts, of shape (u + 1,)
        with n at the end.
    """
    lengths = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
    order = np.lexsort((keys[:, 1], keys[:, 0], lengths))
    changes = (keys[order[1:]] != keys[order[:-1]]).any(axis=1)
    return order, np.concatenate([[0], np.flatnonzero(changes) + 1, [len(texts)]])
