"""Embedding with a store behind it: what is there is read, what is missing is embedded and written as it is made."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from dallme.atomic import remove_stale
from dallme.data import Fingerprint
from dallme.embedders.base import Embedder, TextError
from dallme.embedders.cache.keys import KeyIndex, check_keys
from dallme.embedders.cache.shard import (
    SHARD,
    DamagedShardError,
    Shard,
    list_files,
    make_folder,
    open_shard,
    write_file,
    write_shard,
)
from dallme.errors import InputError, StoreError
from dallme.progress import Progress, SilentProgress
from dallme.scale.base import Engine, LocalEngine
from dallme.text import text_keys
from dallme.validation import check_positive, check_texts, check_vectors

#: Bytes of a shard that compaction makes.
COMPACT_BYTES = 64 * 2**20


class EmbeddingStore:
    """Vectors of texts on disk, a table for each fingerprint of an embedder.

    The folder holds ``<digest of the fingerprint>/fingerprint.json`` and beside it the shards, ``*.arrow``: Arrow IPC
    files with a key and a vector a row and a checksum in their metadata. A shard is one batch of vectors. It appears
    whole or not at all and never changes, which is why processes, also on several machines with a common file system,
    read and write one store without locks.
    """

    def __init__(self, folder: str | Path) -> None:
        """Keeps the folder; nothing is read or made."""
        self.folder = Path(folder)

    def table(self, fingerprint: Fingerprint) -> VectorTable:
        """Opens the table of an embedder; it is empty where nothing was stored.

        Raises:
            StoreError: If it cannot be read.
        """
        return VectorTable(self.folder / fingerprint.digest, fingerprint)

    def has(self, fingerprint: Fingerprint) -> bool:
        """Says whether vectors of an embedder were stored.

        Raises:
            StoreError: If the store cannot be read.
        """
        return bool(list_files(self.folder / fingerprint.digest, SHARD))


class VectorTable:
    """The vectors of one fingerprint, as they were when the table was opened, and those appended since.

    Opening reads the keys only. A shard is checked before anything that it holds is promised; a damaged one is renamed to
    ``*.damaged``, and its keys count as missing, so that their texts are embedded again.

    Attributes:
        folder: Where the shards are.
        fingerprint: What made the vectors.
        notes: What the user should know, such as damaged shards; a line each.
    """

    def __init__(self, folder: Path, fingerprint: Fingerprint) -> None:
        self.folder = folder
        self.fingerprint = fingerprint
        self.notes: list[str] = []
        self._verified: set[Path] = set()
        self._damaged: set[Path] = set()
        self._prepared = False
        self.refresh()

    def __len__(self) -> int:
        """Number of different keys."""
        return len(self._index)

    def refresh(self) -> None:
        """Looks at the folder anew, for what other processes did.

        Raises:
            StoreError: If the folder cannot be read.
        """
        self._index = KeyIndex()
        self._shards: list[Path] = []
        for path in list_files(self.folder, SHARD):
            if path not in self._damaged and (shard := self._open(path)) is not None:
                self._add(path, shard.keys)

    def lookup(self, keys: np.ndarray) -> np.ndarray:
        """Says which keys :meth:`read` will give vectors for.

        Args:
            keys: As :func:`~dallme.text.text_keys` makes them, of shape (n, 2).

        Returns:
            bool of shape (n,).

        Raises:
            StoreError: If the store cannot be read.
        """
        shards, _ = self._locate(check_keys(keys))
        return np.asarray(shards >= 0)

    def read(
        self, keys: np.ndarray, out: np.ndarray | None = None, rows: np.ndarray | None = None
    ) -> np.ndarray:
        """Reads vectors.

        Args:
            keys: n keys, of shape (n, 2).
            out: Where to put them, if not in a new array: float32 of shape (m, d), in memory or mapped.
            rows: The row of `out` for each key, of shape (n,); by default the first n.

        Returns:
            `out`, or float32 of shape (n, d) in the order of the keys.

        Raises:
            StoreError: If a key is missing, or the store cannot be read.
        """
        keys = check_keys(keys)
        if out is None:
            out = np.empty((len(keys), self.fingerprint.dimension), dtype=np.float32)
        rows = np.arange(len(keys)) if rows is None else rows
        while not self._gather(keys, out, rows):
            self.refresh()
        return out

    def append(self, keys: np.ndarray, vectors: np.ndarray) -> None:
        """Writes one batch; when this returns it is safe from a kill and a power cut.

        Args:
            keys: n keys, of shape (n, 2).
            vectors: float32 of shape (n, d).

        Raises:
            InputError: If shapes are wrong or a value is not finite.
            StoreError: If it cannot be written (a full disk, a read-only folder); nothing of it is left then.
        """
        keys = check_keys(keys)
        vectors = check_vectors(vectors, rows=len(keys), dimension=self.fingerprint.dimension)
        if not len(keys):
            return
        self._prepare()
        path = write_shard(self.folder, keys, vectors)
        self._verified.add(path)
        self._add(path, keys)

    def compact(self) -> None:
        """Joins small shards to ones of about 64 MB and drops duplicates.

        Opening takes about 0.2 ms a shard, so this is worth while from some ten thousand shards on.
        The new shard is written before the old ones go; a kill in between leaves duplicates, which do no harm.
        Other processes may read, append and compact meanwhile.

        Raises:
            StoreError: If the store cannot be read or written.
        """
        self.refresh()
        group: list[int] = []
        size = 0
        for number, path in enumerate(self._shards):
            with contextlib.suppress(FileNotFoundError):
                if (bytes_ := path.stat().st_size) < COMPACT_BYTES // 2:
                    group.append(number)
                    size += bytes_
            if size >= COMPACT_BYTES:
                self._join(group)
                group, size = [], 0
        self._join(group)
        self.refresh()

    def _join(self, group: list[int]) -> None:
        """Writes the shards of a group as one and removes them; leaves them as they are if one is damaged or gone."""
        if len(group) < 2:
            return
        paths = [self._shards[number] for number in group]
        shards = [shard for path in paths if self._sound(path) and (shard := self._open(path)) is not None]
        if len(shards) < len(paths):
            return
        rows = [self._rows_found(number, shard.keys) for number, shard in zip(group, shards, strict=True)]
        keys = np.concatenate([shard.keys[kept] for shard, kept in zip(shards, rows, strict=True)])
        if len(keys):
            vectors = np.concatenate([shard.vectors[kept] for shard, kept in zip(shards, rows, strict=True)])
            self._verified.add(write_shard(self.folder, keys, vectors))
        for path in paths:
            with contextlib.suppress(OSError):  # what stays is a duplicate
                path.unlink()

    def _rows_found(self, number: int, keys: np.ndarray) -> np.ndarray:
        """The rows of a shard that the index leads to; the others are duplicates."""
        shards, rows = self._index.find(keys)
        return np.flatnonzero((shards == number) & (rows == np.arange(len(keys))))

    def _add(self, path: Path, keys: np.ndarray) -> None:
        self._index.add(keys, len(self._shards))
        self._shards.append(path)

    def _locate(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The shard and row of each key, as :meth:`KeyIndex.find`, in shards that are sound."""
        while True:
            shards, rows = self._index.find(keys)
            sound = [self._sound(self._shards[number]) for number in np.unique(shards[shards >= 0])]
            if all(sound):
                return shards, rows
            self.refresh()

    def _gather(self, keys: np.ndarray, out: np.ndarray, rows: np.ndarray) -> bool:
        """Copies vectors shard by shard; False if another process took a shard away meanwhile."""
        shards, places = self._locate(keys)
        if missing := int((shards < 0).sum()):
            raise StoreError(
                f"expected {len(keys)} vectors in {self.folder}, found {len(keys) - missing}; embed the others first"
            )
        order = np.argsort(shards, kind="stable")
        for group in np.split(order, np.flatnonzero(np.diff(shards[order])) + 1):
            if group.size:
                shard = self._open(self._shards[shards[group[0]]])
                if shard is None:
                    return False
                out[rows[group]] = shard.vectors[places[group]]
        return True

    def _sound(self, path: Path) -> bool:
        """Whether a shard is there and holds what was written to it; reads it the first time."""
        if path in self._verified:
            return True
        shard = self._open(path)
        if shard is None:
            return False
        try:
            shard.verify()
        except DamagedShardError as error:
            self._set_aside(path, error)
            return False
        self._verified.add(path)
        return True

    def _open(self, path: Path) -> Shard | None:
        """Opens a shard; None if it is damaged, or if another process joined it to others."""
        try:
            return open_shard(path, self.fingerprint.dimension)
        except FileNotFoundError:
            return None
        except DamagedShardError as error:
            self._set_aside(path, error)
            return None

    def _set_aside(self, path: Path, error: DamagedShardError) -> None:
        self._damaged.add(path)
        self._verified.discard(path)
        with contextlib.suppress(OSError):  # a read-only store is read without the shard
            path.rename(path.with_suffix(".damaged"))
        self.notes.append(
            f"embedding store: {path} is damaged ({error}) and was set aside; its texts are embedded again"
        )

    def _prepare(self) -> None:
        """Makes the folder and its fingerprint, anew if that is damaged, and clears what killed processes left."""
        if self._prepared:
            return
        make_folder(self.folder)
        remove_stale(self.folder)
        description = self.folder / "fingerprint.json"
        content = json.dumps(asdict(self.fingerprint), indent=2, sort_keys=True).encode() + b"\n"
        if not (description.is_file() and description.read_bytes() == content):
            write_file(description, content)
        self._prepared = True


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
    engine = engine if engine is not None and embedder.picklable else LocalEngine()
    firsts, sizes = order[starts[:-1]], np.diff(starts)
    missing = np.flatnonzero(~done[firsts])
    groups = np.split(missing, np.flatnonzero(np.diff(missing // chunk)) + 1) if missing.size else []
    chunks = (
        _Chunk(rows, keys[rows], [texts[row] for row in rows]) for rows in (firsts[group] for group in groups)
    )
    work = _Embedding(embedder, prompt, fingerprint, None if engine.remote else table)
    with progress.task("embed", total=len(firsts)) as task:
        task.advance(len(firsts) - len(missing))
        for place, (made, counted) in engine.map(work, chunks, accelerated=True):
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
class _Chunk:
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
    """Embeds one chunk after the other, here or in a worker.

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

    def __call__(self, chunk: _Chunk) -> tuple[np.ndarray, np.ndarray]:
        """The vectors, float32 of shape (k, d), and what the embedder counted meanwhile, which its tally no longer has."""
        if not self._same:
            raise InputError(
                f"expected the embedder {self.fingerprint} on every machine, found "
                f"{self.embedder.fingerprint(self.prompt)} on one; give each the same model, and the embedder one precision"
            )
        before, tally = self.embedder.tally.copy(), self.embedder.tally
        made = np.empty((len(chunk.texts), self.fingerprint.dimension), dtype=np.float32)
        try:
            for places, vectors in self.embedder.embed_batches(chunk.texts, prompt=self.prompt):
                made[places] = check_vectors(vectors, rows=len(places), dimension=self.fingerprint.dimension)
                if self.table is not None:
                    self.table.append(chunk.keys[places], made[places])
        except TextError as error:
            raise error.at(int(chunk.rows[error.row])) from None
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
