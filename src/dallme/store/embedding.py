"""Embedding with a store behind it: what is there is read, what is missing is embedded and written as it is made."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dallme.embedders.base import Embedder
from dallme.progress import Progress, SilentProgress
from dallme.store.keys import text_keys
from dallme.store.table import EmbeddingStore
from dallme.validation import check_positive, check_texts, check_vectors


def embed_with_store(
    embedder: Embedder,
    texts: Sequence[str],
    *,
    prompt: str | None = None,
    store: EmbeddingStore | None = None,
    progress: Progress | None = None,
    chunk: int = 512,
) -> np.ndarray:
    """Embeds each different text once, in chunks of texts of similar length.

    The chunks depend on the set of texts only, not on the order of the rows or on what the store holds. A chunk is
    written at once, so that an interrupted run loses at most one, and a resumed run gives the same bytes as one that was
    never interrupted.

    Args:
        embedder: What embeds.
        texts: n strings.
        prompt: Task-specific prompt that is put before each text.
        store: Where vectors are kept; None keeps them nowhere. Those of an embedder whose weights are not known are
            not kept either.
        progress: Where to show progress.
        chunk: Texts that are embedded and written at once.

    Returns:
        float32 of shape (n, d), in the order of the texts.

    Raises:
        InputError: If a text is unusable or the embedder gives no finite vectors.
        StoreError: If the store cannot be read or written.
    """
    texts = check_texts(texts)
    check_positive(chunk, "chunk")
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
    with progress.task("embed", total=len(starts) - 1) as task:
        for begin in range(0, len(starts) - 1, chunk):
            bounds = starts[begin : begin + chunk + 1]
            firsts = order[bounds[:-1]]
            missing = ~done[firsts]
            if missing.any():
                new = firsts[missing]
                made = embedder.embed([texts[row] for row in new], prompt=prompt)
                made = check_vectors(made, rows=len(new), dimension=fingerprint.dimension)
                if table is not None:
                    table.append(keys[new], made)
                rows = order[bounds[0] : bounds[-1]]
                vectors[rows[~done[rows]]] = np.repeat(made, np.diff(bounds)[missing], axis=0)
            task.advance(len(firsts))
    return vectors


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
