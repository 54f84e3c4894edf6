"""A shard: one Arrow IPC file of keys and vectors that is written atomically and never changed."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import numpy as np
import pyarrow as pa

from dallme.errors import StoreError
from dallme.files.atomic import atomic_write, checksum, sync_folder
from dallme.text import KEY_BYTES

#: Ending of a shard.
SHARD = ".arrow"

_CHECKSUM = b"crc32"


def write_file(path: Path, content: bytes | pa.Buffer) -> None:
    """Writes a file of the store atomically and durably.

    Raises:
        StoreError: If it cannot be written; no part of it remains.
    """
    try:
        atomic_write(path, content, tidy=False)  # a table removes stale files once, not per write
    except OSError as error:
        raise StoreError(
            f"cannot write to the embedding store {path.parent}: {error.strerror or error}; "
            "make room or choose another folder"
        ) from None


def make_folder(folder: Path) -> None:
    """Creates a folder and its parents durably.

    Raises:
        StoreError: If it cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"cannot make the embedding store {folder}: {error.strerror}; choose another folder"
        ) from None
    for parent in (folder.parent, folder.parent.parent):
        with contextlib.suppress(OSError):  # folders above the store may belong to another user
            sync_folder(parent)


def list_files(folder: Path, ending: str) -> list[Path]:
    """Lists the files of a folder with an ending, by name; a missing folder has none.

    Raises:
        StoreError: If the folder cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            return sorted(Path(entry.path) for entry in entries if entry.name.endswith(ending))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StoreError(
            f"cannot read the embedding store {folder}: {error.strerror}; choose another folder"
        ) from None


class DamagedShardError(Exception):
    """A shard whose content is damaged."""


@dataclass(frozen=True, eq=False)
class Shard:
    """Content of a shard, memory-mapped.

    Attributes:
        keys: uint64 of shape (n, 2).
        vectors: float32 of shape (n, d).
        checksum: Expected CRC-32 of keys and vectors.
    """

    keys: np.ndarray
    vectors: np.ndarray
    checksum: int

    def verify(self) -> None:
        """Reads all bytes once.

        Raises:
            DamagedShardError: If the checksum differs.
        """
        if _checksum(self.keys, self.vectors) != self.checksum:
            raise DamagedShardError("wrong checksum")


def write_shard(folder: Path, keys: np.ndarray, vectors: np.ndarray) -> Path:
    """Writes a shard under a new name and returns its path.

    Args:
        folder: Folder of the table.
        keys: uint64 of shape (n, 2), contiguous, n at least 1.
        vectors: float32 of shape (n, d), contiguous.

    Raises:
        StoreError: If it cannot be written.
    """
    dimension = vectors.shape[1]
    schema = _schema(dimension).with_metadata({_CHECKSUM: str(_checksum(keys, vectors))})
    columns = [
        pa.Array.from_buffers(pa.binary(KEY_BYTES), len(keys), [None, pa.py_buffer(keys)]),
        pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), dimension),
    ]
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, schema) as writer:
        writer.write_batch(pa.record_batch(columns, schema=schema))
    path = folder / f"{uuid4().hex}{SHARD}"
    write_file(path, sink.getvalue())
    return path


def open_shard(path: Path, dimension: int) -> Shard:
    """Opens a shard without reading its vectors.

    Raises:
        DamagedShardError: If it is not a complete Arrow file with the columns of a shard.
        FileNotFoundError: If it does not exist.
        StoreError: If it cannot be read.
    """
    try:
        with pa.memory_map(str(path)) as source:
            return _parse(source, dimension)
    except (FileNotFoundError, DamagedShardError):
        raise
    except OSError as error:
        raise StoreError(
            f"cannot read {path}: {error.strerror or error}; check the permissions of the embedding store"
        ) from None


def _parse(source: pa.MemoryMappedFile, dimension: int) -> Shard:
    try:
        reader = pa.ipc.open_file(source)
        if not reader.schema.equals(_schema(dimension)) or reader.num_record_batches != 1:
            raise DamagedShardError("other columns than those of a shard")
        batch = reader.get_batch(0)
        rows = batch.num_rows
        keys = np.frombuffer(batch.column(0).buffers()[1], "<u8", rows * 2).reshape(rows, 2)
        flat = np.frombuffer(batch.column(1).buffers()[-1], "<f4", rows * dimension)
        return Shard(keys, flat.reshape(rows, dimension), int(reader.schema.metadata[_CHECKSUM]))
    except (
        pa.ArrowException,
        OSError,
        ValueError,
        KeyError,
        TypeError,
    ) as error:  # a damaged file raises any
        raise DamagedShardError(str(error)) from None


def _schema(dimension: int) -> pa.Schema:
    return pa.schema([("key", pa.binary(KEY_BYTES)), ("vector", pa.list_(pa.float32(), dimension))])


def _checksum(keys: np.ndarray, vectors: np.ndarray) -> int:
    return int(checksum(keys.data, vectors.data), 16)
