"""The vectors of one embedder on disk: shards, and an index from the keys of texts to rows."""

from __future__ import annotations

import contextlib
import json
import os
import weakref
from dataclasses import asdict
from pathlib import Path

import numpy as np

from dallme.data import Fingerprint
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
from dallme.files.atomic import folder_lock, in_use, remove_stale
from dallme.validation import check_vectors

#: Size in bytes of a shard after compaction.
COMPACT_BYTES = 64 * 2**20

#: Format version of this release, and its file in the folder of the store; a store without one has version 1.
FORMAT_VERSION, FORMAT = 1, "format.json"

#: File in the folder of a table that describes the embedder.
DESCRIPTION = "fingerprint.json"


def check_format_version(folder: Path) -> None:
    """Checks that this release can read a store.

    Raises:
        StoreError: If a newer release wrote it, or its version cannot be read.
    """
    path = folder / FORMAT
    try:
        version = json.loads(path.read_bytes())["version"]
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise StoreError(
            f"cannot read the embedding store {folder}: {error.strerror}; choose another folder"
        ) from None
    except (ValueError, KeyError, TypeError, RecursionError):
        version = None
    if isinstance(version, bool) or not isinstance(version, int) or not 1 <= version <= FORMAT_VERSION:
        raise StoreError(
            f"expected an embedding store of format {FORMAT_VERSION} or lower in {str(folder)!r}, found "
            f"{version!r}; update dallme, or choose another folder with --store"
        )


def check_keys(keys: np.ndarray) -> np.ndarray:
    """Returns keys of :func:`~dallme.text.text_keys`, contiguous.

    Raises:
        InputError: If shape or type differ.
    """
    if keys.ndim != 2 or keys.shape[1] != 2 or keys.dtype != np.uint64:
        raise InputError(
            "expected keys as uint64 of shape (n, 2), from text_keys, "
            f"found {keys.dtype} of shape {keys.shape}"
        )
    return np.ascontiguousarray(keys, dtype="<u8")


class KeyIndex:
    """Finds shard and row of a key by binary search; 24 bytes of memory per key.

    A key that was added twice leads to its first row.
    """

    def __init__(self) -> None:
        self._keys = np.empty((0, 2), dtype="<u8")
        self._shards = np.empty(0, dtype=np.int32)
        self._rows = np.empty(0, dtype=np.int32)
        self._added: list[tuple[np.ndarray, int]] = []

    def __len__(self) -> int:
        """Number of distinct keys."""
        self._merge()
        return len(self._keys)

    def add(self, keys: np.ndarray, shard: int) -> None:
        """Adds the keys of a shard, in the order of its rows; they are sorted at the next look-up."""
        self._added.append((keys.copy(), shard))

    def find(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Looks up keys.

        Returns:
            Shard and row of each key, both int32 of shape (n,); -1 for a missing key.
        """
        self._merge()
        high, low = keys[:, 0], keys[:, 1]
        positions = np.searchsorted(self._keys[:, 0], high)
        searching = np.arange(len(keys))
        shards = np.full(len(keys), -1, dtype=np.int32)
        rows = np.full(len(keys), -1, dtype=np.int32)
        # Keys with an equal first half are adjacent; a second pass is needed only if there are such.
        while searching.size:
            searching = searching[positions[searching] < len(self._keys)]
            searching = searching[self._keys[positions[searching], 0] == high[searching]]
            same = self._keys[positions[searching], 1] == low[searching]
            matches = searching[same]
            shards[matches] = self._shards[positions[matches]]
            rows[matches] = self._rows[positions[matches]]
            searching = searching[~same]
            positions[searching] += 1
        return shards, rows

    def _merge(self) -> None:
        """Sorts the keys added since the last look-up into the index."""
        if not self._added:
            return
        added, self._added = self._added, []
        keys = np.concatenate([self._keys, *(keys for keys, _ in added)])
        numbers = [np.full(len(keys), shard, np.int32) for keys, shard in added]
        shards = np.concatenate([self._shards, *numbers])
        rows = np.concatenate([self._rows, *(np.arange(len(keys), dtype=np.int32) for keys, _ in added)])
        order = np.lexsort((keys[:, 1], keys[:, 0]))  # stable: the first added of equal keys stays first
        keys = keys[order]
        first = np.ones(len(keys), dtype=bool)
        first[1:] = (keys[1:] != keys[:-1]).any(axis=1)
        self._keys, self._shards, self._rows = keys[first], shards[order[first]], rows[order[first]]


class VectorTable:
    """Vectors of one fingerprint: those on disk when the table was opened, and those appended since.

    Opening reads keys only. Each shard is verified before its keys count as present. A damaged shard is
    renamed to ``*.damaged``; its keys count as missing, and their texts are embedded again.

    Attributes:
        folder: Folder of the shards.
        fingerprint: Description of the embedder.
        notes: Remarks for the user, such as damaged shards, one line each.
    """

    def __init__(self, folder: Path, fingerprint: Fingerprint, *, hold: bool = False) -> None:
        """Opens a table; with `hold` it is marked as in use until this object is gone."""
        self.folder = folder
        self.fingerprint = fingerprint
        self.notes: list[str] = []
        self._verified: set[Path] = set()
        self._damaged: set[Path] = set()
        self._prepared = False
        self._hold = hold
        check_format_version(folder.parent)
        self._mark()
        self.refresh()

    def __len__(self) -> int:
        """Number of distinct keys."""
        return len(self._index)

    def refresh(self) -> None:
        """Reads the folder again, to see the changes of other processes.

        Raises:
            StoreError: If the folder cannot be read.
        """
        self._index = KeyIndex()
        self._shards: list[Path] = []
        for path in list_files(self.folder, SHARD):
            if path not in self._damaged and (shard := self._open(path)) is not None:
                self._add(path, shard.keys)

    def lookup(self, keys: np.ndarray) -> np.ndarray:
        """Says which keys have vectors that :meth:`read` returns.

        Args:
            keys: Keys of :func:`~dallme.text.text_keys`, of shape (n, 2).

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
            out: Array to fill, float32 of shape (m, d), in memory or mapped; by default a new one.
            rows: Row of `out` for each key, of shape (n,); by default the first n.

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
        """Writes one batch; once this returns, the batch survives a kill and a power cut.

        Args:
            keys: n keys, of shape (n, 2).
            vectors: float32 of shape (n, d).

        Raises:
            InputError: If a shape is wrong or a value is not finite.
            StoreError: If it cannot be written (a full disk, a read-only folder); no part of it remains.
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
        """Joins small shards to shards of about 64 MB and drops duplicates.

        Opening takes about 0.2 ms per shard, which makes this worthwhile from ten thousand shards on. The new
        shard is written before the old ones are removed; a kill in between leaves harmless duplicates. Other
        processes may read, append and compact at the same time.

        Raises:
            StoreError: If the store cannot be read or written.
        """
        self.refresh()
        group: list[int] = []
        total = 0
        for number, path in enumerate(self._shards):
            with contextlib.suppress(FileNotFoundError):
                if (size := path.stat().st_size) < COMPACT_BYTES // 2:
                    group.append(number)
                    total += size
            if total >= COMPACT_BYTES:
                self._join(group)
                group, total = [], 0
        self._join(group)
        self.refresh()

    def _join(self, group: list[int]) -> None:
        """Replaces the shards of a group by one; changes nothing if one of them is damaged or missing."""
        if len(group) < 2:
            return
        paths = [self._shards[number] for number in group]
        shards = [shard for path in paths if self._is_sound(path) and (shard := self._open(path)) is not None]
        if len(shards) < len(paths):
            return
        keys, vectors = [], []
        for number, shard in zip(group, shards, strict=True):
            numbers, rows = self._index.find(shard.keys)
            indexed = (numbers == number) & (rows == np.arange(len(rows)))  # the other rows are duplicates
            keys.append(shard.keys[indexed])
            vectors.append(shard.vectors[indexed])
        if any(map(len, keys)):
            self._verified.add(write_shard(self.folder, np.concatenate(keys), np.concatenate(vectors)))
        for path in paths:
            with contextlib.suppress(OSError):  # a remaining file is a harmless duplicate
                path.unlink()

    def _add(self, path: Path, keys: np.ndarray) -> None:
        self._index.add(keys, len(self._shards))
        self._shards.append(path)

    def _locate(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns shard and row of each key, as :meth:`KeyIndex.find`, in verified shards."""
        while True:
            shards, rows = self._index.find(keys)
            sound = [self._is_sound(self._shards[number]) for number in np.unique(shards[shards >= 0])]
            if all(sound):
                return shards, rows
            self.refresh()

    def _gather(self, keys: np.ndarray, out: np.ndarray, rows: np.ndarray) -> bool:
        """Copies vectors shard by shard; returns False if another process removed a shard meanwhile."""
        shards, shard_rows = self._locate(keys)
        if missing := int((shards < 0).sum()):
            raise StoreError(
                f"expected {len(keys)} vectors in {self.folder}, found {len(keys) - missing}; "
                "embed the others first"
            )
        order = np.argsort(shards, kind="stable")
        for group in np.split(order, np.flatnonzero(np.diff(shards[order])) + 1):
            if group.size:
                shard = self._open(self._shards[shards[group[0]]])
                if shard is None:
                    return False
                out[rows[group]] = shard.vectors[shard_rows[group]]
        return True

    def _is_sound(self, path: Path) -> bool:
        """Says whether a shard exists and has the right checksum; reads it the first time."""
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
        """Opens a shard; returns None if it is damaged, or if another process joined it to others."""
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

    def _mark(self) -> None:
        """Marks an existing table as in use, if it is to be held, and records the time of the use."""
        if not (self._hold and self.folder.is_dir()):
            return
        stack = contextlib.ExitStack()
        with contextlib.suppress(OSError), folder_lock(self.folder):  # so that nobody removes it meanwhile
            stack.enter_context(in_use(self.folder))
            os.utime(self.folder / DESCRIPTION)
        weakref.finalize(self, stack.close)
        self._hold = False

    def _prepare(self) -> None:
        """Creates the folder and its description, and removes the temporary files of killed processes."""
        if self._prepared:
            return
        make_folder(self.folder)
        self._mark()
        remove_stale(self.folder)
        if not (self.folder.parent / FORMAT).exists():
            write_file(self.folder.parent / FORMAT, json.dumps({"version": FORMAT_VERSION}).encode() + b"\n")
        description = self.folder / DESCRIPTION
        content = json.dumps(asdict(self.fingerprint), indent=2, sort_keys=True).encode() + b"\n"
        if not (description.is_file() and description.read_bytes() == content):
            write_file(description, content)
        self._prepared = True
