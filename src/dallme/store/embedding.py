"""Embedding with a store behind it: what is there is read, what is missing is embedded and written as it is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dallme.data import Fingerprint
from dallme.embedders.base import Embedder, TextError
from dallme.errors import InputError
from dallme.progress import Progress, SilentProgress
from dallme.scale.base import Engine, LocalEngine
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
    engine: Engine | None = None,
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
        engine: Where the chunks are embedded; by default here.

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
    engine = engine if engine is not None and embedder.travels else LocalEngine()
    firsts, sizes = order[starts[:-1]], np.diff(starts)
    missing = np.flatnonzero(~done[firsts])
    groups = np.split(missing, np.flatnonzero(np.diff(missing // chunk)) + 1) if missing.size else []
    pieces = (_Piece(rows, keys[rows], [texts[row] for row in rows]) for rows in (firsts[group] for group in groups))
    work = _Embedding(embedder, prompt, fingerprint, None if engine.remote else table)
    with progress.task("embed", total=len(firsts)) as task:
        task.advance(len(firsts) - len(missing))
        for place, (made, counted) in engine.map(work, pieces, accelerated=True):
            group = groups[place]
            if engine.remote and table is not None:
                table.append(keys[firsts[group]], made)
            embedder.tally[:] += counted
            rows = order[starts[group[0]] : starts[group[-1] + 1]]
            vectors[rows[~done[rows]]] = np.repeat(made, sizes[group], axis=0)
            task.advance(len(group))
    for note in embedder.notes:
        if note not in told:
            progress.note(note)
    return vectors


@dataclass(frozen=True, eq=False)
class _Piece:
    """Texts that are embedded at once.

    Attributes:
        rows: Their positions in the source, int64 of shape (k,).
        keys: Their keys, of shape (k, 2).
        texts: k texts.
    """

    rows: np.ndarray
    keys: np.ndarray
    texts: list[str]


@dataclass(eq=False)
class _Embedding:
    """Embeds one piece after the other, here or in a worker.

    Attributes:
        embedder: What embeds.
        prompt: Task-specific prompt that is put before each text.
        fingerprint: What the embedder is here.
        table: Where each batch is kept as soon as it is done; None leaves that to who asked.
    """

    embedder: Embedder
    prompt: str | None
    fingerprint: Fingerprint
    table: VectorTable | None

    def __call__(self, piece: _Piece) -> tuple[np.ndarray, np.ndarray]:
        """The vectors, float32 of shape (k, d), and what the embedder counted meanwhile, which its tally no longer has."""
        if not self._same:
            raise InputError(
                f"expected the embedder {self.fingerprint} on every machine, found "
                f"{self.embedder.fingerprint(self.prompt)} on one; give each the same model, and the embedder one precision"
            )
        before, tally = self.embedder.tally.copy(), self.embedder.tally
        made = np.empty((len(piece.texts), self.fingerprint.dimension), dtype=np.float32)
        try:
            for places, vectors in self.embedder.embed_batches(piece.texts, prompt=self.prompt):
                made[places] = check_vectors(vectors, rows=len(places), dimension=self.fingerprint.dimension)
                if self.table is not None:
                    self.table.append(piece.keys[places], made[places])
        except TextError as error:
            raise error.at(int(piece.rows[error.row])) from None
        counted = tally - before
        tally[:] = before
        return made, counted

    @cached_property
    def _same(self) -> bool:
        """Whether the embedder is the same as where the work comes from."""
        return self.embedder.fingerprint(self.prompt) == self.fingerprint


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
