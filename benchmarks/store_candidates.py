"""Candidates of ``store.py``: four ways to store keys and vectors on disk."""

# ruff: noqa: D102 - the methods are described once, in Storage
from __future__ import annotations

import sqlite3
import zlib
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from dallme.data import Fingerprint
from dallme.embedders.cache import EmbeddingStore
from dallme.embedders.cache.table import KeyIndex

DIMENSION = 384
BATCH = 512


class Storage(Protocol):
    """Interface of a candidate; the constructor opens or creates its files."""

    def __init__(self, folder: Path) -> None: ...

    def write(self, keys: np.ndarray, vectors: np.ndarray) -> None:
        """Writes a batch; it is safe when this returns."""

    def lookup(self, keys: np.ndarray) -> np.ndarray:
        """Says which keys are there."""

    def read(self, keys: np.ndarray) -> np.ndarray:
        """Reads vectors in the order of the keys."""

    def compact(self) -> None:
        """Does what there is to do against many small pieces."""

    def close(self) -> None:
        """Ends writing."""


class ArrowShards:
    """One Arrow IPC file a batch: the store that dallme ships."""

    def __init__(self, folder: Path) -> None:
        self.table = EmbeddingStore(folder).table(
            Fingerprint("benchmark", weights="none", dimension=DIMENSION)
        )

    def write(self, keys: np.ndarray, vectors: np.ndarray) -> None:
        self.table.append(keys, vectors)

    def lookup(self, keys: np.ndarray) -> np.ndarray:
        return self.table.lookup(keys)

    def read(self, keys: np.ndarray) -> np.ndarray:
        return self.table.read(keys)

    def compact(self) -> None:
        self.table.compact()

    def close(self) -> None:
        pass


class LanceDB:
    """A LanceDB table; its keys are read on open and looked up in memory, which is faster than scans."""

    def __init__(self, folder: Path) -> None:
        import lancedb
        import pyarrow as pa

        self.pa = pa
        self.schema = pa.schema([("key", pa.binary(16)), ("vector", pa.list_(pa.float32(), DIMENSION))])
        database = lancedb.connect(folder)
        self.table = database.create_table("vectors", schema=self.schema, exist_ok=True)
        self.index = KeyIndex()
        self.index.add(self._keys(self.table.search().select(["key"]).limit(None).to_arrow()), 0)

    def _keys(self, batch: Any) -> np.ndarray:
        column = batch.column("key")
        chunks = column.chunks if hasattr(column, "chunks") else [column]
        parts = [np.frombuffer(c.buffers()[1], "<u8")[c.offset * 2 : (c.offset + len(c)) * 2] for c in chunks]
        return np.concatenate([np.empty(0, "<u8"), *parts]).reshape(-1, 2)

    def write(self, keys: np.ndarray, vectors: np.ndarray) -> None:
        columns = [
            self.pa.Array.from_buffers(self.pa.binary(16), len(keys), [None, self.pa.py_buffer(keys)]),
            self.pa.FixedSizeListArray.from_arrays(self.pa.array(vectors.reshape(-1)), DIMENSION),
        ]
        self.table.add(self.pa.Table.from_arrays(columns, schema=self.schema))

    def lookup(self, keys: np.ndarray) -> np.ndarray:
        return self.index.find(keys)[1] >= 0

    def read(self, keys: np.ndarray) -> np.ndarray:
        if len(keys) < len(self.index) // 4:
            batches = (
                self.table.take_offsets(self.index.find(keys)[1].tolist())
                .select(["key", "vector"])
                .to_arrow()
                .to_batches()
            )
        else:
            batches = self.table.search().select(["key", "vector"]).limit(None).to_batches(8192)
        return scatter(
            keys,
            (
                (self._keys(b), b.column("vector").flatten().to_numpy().reshape(-1, DIMENSION))
                for b in batches
            ),
        )

    def compact(self) -> None:
        from datetime import timedelta

        self.table.optimize(cleanup_older_than=timedelta(0))

    def close(self) -> None:
        pass


class SQLiteRows:
    """SQLite in WAL mode, one row a vector, synced at each commit."""

    TABLE = "CREATE TABLE IF NOT EXISTS v (key BLOB PRIMARY KEY, vector BLOB)"

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.db = sqlite3.connect(folder / "store.sqlite")
        self.db.execute("PRAGMA journal_mode=WAL")
        self.db.execute("PRAGMA synchronous=FULL")
        self.db.execute(self.TABLE)

    def write(self, keys: np.ndarray, vectors: np.ndarray) -> None:
        with self.db:
            pairs = ((key.tobytes(), vector.tobytes()) for key, vector in zip(keys, vectors, strict=True))
            self.db.executemany("INSERT OR IGNORE INTO v VALUES (?, ?)", pairs)

    def lookup(self, keys: np.ndarray) -> np.ndarray:
        query = "SELECT 1 FROM v WHERE key = ?"
        return np.array([self.db.execute(query, (key.tobytes(),)).fetchone() is not None for key in keys])

    def read(self, keys: np.ndarray) -> np.ndarray:
        if len(keys) <= 100_000:
            query = "SELECT vector FROM v WHERE key = ?"
            return np.stack(
                [np.frombuffer(self.db.execute(query, (k.tobytes(),)).fetchone()[0], "<f4") for k in keys]
            )
        cursor = self.db.execute("SELECT key, vector FROM v")
        blocks = iter(lambda: cursor.fetchmany(BATCH), [])
        return scatter(
            keys, ((decode(b"".join(k for k, _ in b)), vectors_of(b"".join(v for _, v in b))) for b in blocks)
        )

    def compact(self) -> None:
        self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        self.db.close()


class SQLiteBatches(SQLiteRows):
    """SQLite in WAL mode, one row a batch with its checksum; keys are read on open and found in memory."""

    TABLE = "CREATE TABLE IF NOT EXISTS v (id INTEGER PRIMARY KEY, keys BLOB, vectors BLOB, crc INTEGER)"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.index = KeyIndex()
        self.bad: set[int] = set()
        for number, keys in self.db.execute("SELECT id, keys FROM v"):
            self.index.add(decode(keys), number)

    def write(self, keys: np.ndarray, vectors: np.ndarray) -> None:
        with self.db:
            blobs = keys.tobytes(), vectors.tobytes()
            self.db.execute(
                "INSERT INTO v (keys, vectors, crc) VALUES (?, ?, ?)",
                (*blobs, zlib.crc32(blobs[1], zlib.crc32(blobs[0]))),
            )

    def lookup(self, keys: np.ndarray) -> np.ndarray:
        shards, _ = self.index.find(keys)
        for number in np.setdiff1d(np.unique(shards[shards >= 0]), list(self.bad)):
            row = self.db.execute("SELECT keys, vectors, crc FROM v WHERE id = ?", (int(number),)).fetchone()
            if zlib.crc32(row[1], zlib.crc32(row[0])) != row[2]:
                self.bad.add(int(number))
        return (shards >= 0) & ~np.isin(shards, list(self.bad))

    def read(self, keys: np.ndarray) -> np.ndarray:
        shards, rows = self.index.find(keys)
        out = np.empty((len(keys), DIMENSION), dtype=np.float32)
        order = np.argsort(shards, kind="stable")
        for group in np.split(order, np.flatnonzero(np.diff(shards[order])) + 1):
            (blob,) = self.db.execute(
                "SELECT vectors FROM v WHERE id = ?", (int(shards[group[0]]),)
            ).fetchone()
            out[group] = vectors_of(blob)[rows[group]]
        return out


def decode(keys: bytes) -> np.ndarray:
    """Keys out of a blob."""
    return np.frombuffer(keys, "<u8").reshape(-1, 2)


def vectors_of(blob: bytes) -> np.ndarray:
    """Vectors out of a blob."""
    return np.frombuffer(blob, "<f4").reshape(-1, DIMENSION)


def scatter(keys: np.ndarray, blocks: Any) -> np.ndarray:
    """Puts scanned blocks of keys and vectors into the order of the keys asked for."""
    index = KeyIndex()
    index.add(keys, 0)
    out = np.empty((len(keys), DIMENSION), dtype=np.float32)
    for found, vectors in blocks:
        rows = index.find(found)[1]
        out[rows[rows >= 0]] = vectors[rows >= 0]
    return out


CANDIDATES = {c.__name__: c for c in (LanceDB, ArrowShards, SQLiteRows, SQLiteBatches)}
