"""Embedding with a store: content-addressed vectors on disk, resumable and larger than memory."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from dallme.data import Fingerprint, LabelledTexts, LabelledVectors
from dallme.embedders import resolve
from dallme.embedders.base import Embedder, TextError
from dallme.embedders.cache.probe import Probe
from dallme.embedders.cache.shard import SHARD, list_files
from dallme.embedders.cache.table import DESCRIPTION, VectorTable
from dallme.errors import InputError
from dallme.files.atomic import sha256_of
from dallme.progress import Progress, SilentProgress
from dallme.scale import Engine, LocalEngine
from dallme.text import text_keys
from dallme.validation import check_positive, check_texts, check_vectors


class EmbeddingStore:
    """Vectors of texts on disk, one table per fingerprint of an embedder.

    A table is the folder ``<digest>`` with ``fingerprint.json`` and shards, ``*.arrow``.
    A shard is an Arrow IPC file with one key and one vector per row and a checksum in its metadata. It
    holds one batch, is written atomically and never changes. Processes on several machines with a common
    file system therefore read and write one store without locks, and none ever waits for another.
    """

    def __init__(self, folder: str | Path) -> None:
        """Stores the path; nothing is read or created."""
        self.folder = Path(folder)

    def table(
        self, fingerprint: Fingerprint, libraries: Mapping[str, str] | None = None, *, hold: bool = False
    ) -> VectorTable:
        """Opens the table of an embedder; it is empty if nothing was stored.

        Args:
            fingerprint: The embedder.
            libraries: Releases of its libraries, for the table of those alone.
            hold: Whether to mark the table as in use, so that nobody removes it.

        Raises:
            StoreError: If it cannot be read.
        """
        suffix = f"-{sha256_of([json.dumps(libraries, sort_keys=True)])[:8]}" if libraries else ""
        return VectorTable(self.folder / f"{fingerprint.digest}{suffix}", fingerprint, hold=hold)

    def has(self, fingerprint: Fingerprint) -> bool:
        """Says whether the store holds vectors of an embedder.

        Raises:
            StoreError: If the store cannot be read.
        """
        return bool(list_files(self.folder / fingerprint.digest, SHARD))

    def fingerprints(self) -> list[Fingerprint]:
        """Lists the fingerprints of all tables; folders without a valid description are skipped."""
        fingerprints = []
        for path in sorted(self.folder.glob(f"*/{DESCRIPTION}")):
            with contextlib.suppress(OSError, ValueError, TypeError):
                fingerprints.append(Fingerprint(**json.loads(path.read_text(encoding="utf-8"))))
        return fingerprints


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
    """Embeds each distinct text once, in chunks of texts of similar length.

    The chunks depend only on the set of texts, not on row order or on the content of the store. A chunk is
    stored as soon as it is embedded, batch by batch for an embedder with batches. An interrupted run loses at
    most the batches in progress, and a resumed run gives the same bytes as an uninterrupted one.

    Args:
        embedder: The embedder.
        texts: n strings.
        prompt: Task-specific prompt.
        store: Store of the vectors; None stores nothing. Vectors of unknown weights are never stored.
        progress: Where to show progress.
        chunk: Texts per call of the embedder; by default the embedder's own.
        engine: Engine that embeds the chunks; by default this process.

    Returns:
        float32 of shape (n, d), in the order of the texts.

    Raises:
        InputError: If a text is unusable or a vector is not finite.
        StoreError: If the store cannot be read or written.
    """
    texts = check_texts(texts)
    chunk = check_positive(embedder.chunk if chunk is None else chunk, "chunk")
    progress = progress or SilentProgress()
    embedder.report_to(progress)
    fingerprint = embedder.fingerprint(prompt)
    table = None
    if store and fingerprint.weights != "unknown":
        table = open_table(store, embedder, fingerprint, prompt, progress, hold=True)
    keys = text_keys(texts)
    order, starts = _group_equal(texts, keys)
    vectors = np.empty((len(texts), fingerprint.dimension), dtype=np.float32)
    done = np.zeros(len(texts), dtype=bool)
    if table is not None:
        done = table.lookup(keys)
        table.read(keys[done], out=vectors, rows=np.flatnonzero(done))
        for note in table.notes:
            progress.note(note)
    known_notes = embedder.notes
    engine = engine if engine is not None and embedder.picklable else LocalEngine()
    first_rows, counts = order[starts[:-1]], np.diff(starts)
    missing = np.flatnonzero(~done[first_rows])
    groups = np.split(missing, np.flatnonzero(np.diff(missing // chunk)) + 1) if missing.size else []
    chunks = (
        _Chunk(rows, keys[rows], [texts[row] for row in rows])
        for rows in (first_rows[group] for group in groups)
    )
    work = _EmbedChunk(embedder, prompt, fingerprint, embedder.libraries, None if engine.remote else table)
    if table is not None and missing.size and embedder.libraries and Probe.read(table) is None:
        Probe.make(embedder, prompt).write(table)
    with progress.task("embedding texts", total=len(first_rows)) as task:
        task.advance(len(first_rows) - len(missing))
        for number, (embedded, tally) in engine.map(work, chunks, accelerated=True):
            group = groups[number]
            if engine.remote and table is not None:
                table.append(keys[first_rows[group]], embedded)
            embedder.tally[:] += tally
            rows = order[starts[group[0]] : starts[group[-1] + 1]]
            vectors[rows[~done[rows]]] = np.repeat(embedded, counts[group], axis=0)
            task.advance(len(group))
    for note in embedder.notes:
        if note not in known_notes:
            progress.note(note)
    return vectors


def open_table(
    store: EmbeddingStore,
    embedder: Embedder,
    fingerprint: Fingerprint,
    prompt: str | None,
    progress: Progress,
    *,
    hold: bool = False,
) -> VectorTable:
    """Opens the table whose vectors the installed libraries make.

    After another release of a library, a few fixed texts are embedded. If their vectors are those stored
    beside the table, it is used. If not, the release gets a table of its own.

    Raises:
        StoreError: If the store cannot be read.
    """
    table, libraries = store.table(fingerprint, hold=hold), embedder.libraries
    before = Probe.read(table) if libraries else None
    if before is None or libraries in before.libraries:
        return table
    now = Probe.make(embedder, prompt)
    if before.agrees(now):
        before.joined(now).write(table)
        return table
    own = store.table(fingerprint, libraries, hold=hold)
    if not len(own):
        releases = ", ".join(f"{name} {release}" for name, release in libraries.items())
        progress.note(f"{embedder.name}: vectors differ from those stored before; new ones by {releases}")
    return own


@dataclass(frozen=True, eq=False)
class _Chunk:
    """Texts of one call of the embedder.

    Attributes:
        rows: Positions in the source, int64 of shape (k,).
        keys: Keys, of shape (k, 2).
        texts: k texts.
    """

    rows: np.ndarray
    keys: np.ndarray
    texts: list[str]


@dataclass(eq=False)
class _EmbedChunk:
    """Embeds one chunk after the other, in this process or in a worker.

    Attributes:
        embedder: The embedder.
        prompt: Task-specific prompt.
        fingerprint: Fingerprint of the embedder in the calling process.
        libraries: Releases of its libraries there.
        table: Table that stores each finished batch; None if the caller stores the chunk.
    """

    embedder: Embedder
    prompt: str | None
    fingerprint: Fingerprint
    libraries: Mapping[str, str]
    table: VectorTable | None

    def __call__(self, chunk: _Chunk) -> tuple[np.ndarray, np.ndarray]:
        """Returns vectors, float32 of shape (k, d), and the tally of this chunk; the embedder's is reset."""
        if self._fingerprint != self.fingerprint:
            raise InputError(
                f"expected the embedder {self.fingerprint} on every machine, found {self._fingerprint} "
                "on one; give each the same model, and the embedder one precision"
            )
        if self.embedder.libraries != self.libraries:
            raise InputError(
                f"expected {dict(self.libraries)} on every machine, found {dict(self.embedder.libraries)} on "
                "one; install the same releases"
            )
        before, tally = self.embedder.tally.copy(), self.embedder.tally
        embedded = np.empty((len(chunk.texts), self.fingerprint.dimension), dtype=np.float32)
        try:
            for rows, vectors in self.embedder.embed_batches(chunk.texts, prompt=self.prompt):
                embedded[rows] = check_vectors(vectors, rows=len(rows), dimension=self.fingerprint.dimension)
                if self.table is not None:
                    self.table.append(chunk.keys[rows], embedded[rows])
        except TextError as error:
            raise error.at(int(chunk.rows[error.row])) from None
        added = tally - before
        tally[:] = before
        return embedded, added

    @cached_property
    def _fingerprint(self) -> Fingerprint:
        """Fingerprint of the embedder in the process that embeds."""
        return self.embedder.fingerprint(self.prompt)


def _group_equal(texts: Sequence[str], keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Orders texts by length, then key; equal texts become adjacent.

    Returns:
        Rows in that order, of shape (n,), and the start of each of the u distinct texts, of shape (u + 1,).
        The last start is n.
    """
    lengths = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
    order = np.lexsort((keys[:, 1], keys[:, 0], lengths))
    changes = (keys[order[1:]] != keys[order[:-1]]).any(axis=1)
    return order, np.concatenate([[0], np.flatnonzero(changes) + 1, [len(texts)]])


@dataclass(frozen=True)
class CachedEmbedder:
    """An embedder, its prompt and the store that caches its vectors.

    The embedder is looked up on first use, so that a run with ready vectors never needs it.

    Attributes:
        embedder: A name, a Hub id, a folder, an embedder, or any object with ``encode(list of strings)``.
        prompt: Task-specific prompt put before each text (section 5.4).
        store: Folder of the cached vectors; None caches nothing.
        progress: Receiver of progress and notes.
        engine: Engine that embeds; None embeds in this process.

    Example:
        >>> CachedEmbedder("hashing").embed(["a fine film"]).shape
        (1, 256)
    """

    embedder: Any
    prompt: str | None = None
    store: str | Path | None = None
    progress: Progress = field(default_factory=SilentProgress, compare=False)
    engine: Engine | None = field(default=None, compare=False)

    @cached_property
    def model(self) -> Embedder:
        """The embedder itself."""
        model = resolve(self.embedder)
        model.report_to(self.progress)
        return model

    def fingerprint(self) -> Fingerprint:
        """Returns everything that changes the vectors."""
        return self.model.fingerprint(self.prompt)

    def cache_key(self) -> str | None:
        """Returns the digest of the fingerprint; None for an embedder whose weights are not known."""
        fingerprint = self.fingerprint()
        return None if fingerprint.weights == "unknown" else fingerprint.digest

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Embeds texts that the store does not hold, and reads the others; float32 of shape (n, d)."""
        store = None if self.store is None else EmbeddingStore(self.store)
        return embed_with_store(
            self.model, texts, prompt=self.prompt, store=store, progress=self.progress, engine=self.engine
        )

    def embed_source(self, source: LabelledTexts) -> LabelledVectors:
        """Embeds labelled texts.

        Raises:
            TextError: If the embedder cannot embed a text; the error names the row as the source does.
        """
        try:
            vectors = self.embed(source.texts)
        except TextError as error:
            raise error.at(source.row_ids[[error.row]].tolist()[0]) from None
        return LabelledVectors(vectors, source.labels, self.fingerprint())
