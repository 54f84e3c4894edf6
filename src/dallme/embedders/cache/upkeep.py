"""Upkeep of the embedding store: listing, verifying, compacting and removing its tables."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from dallme.data import Fingerprint
from dallme.embedders.cache.shard import SHARD, DamagedShardError, list_files, open_shard
from dallme.embedders.cache.table import DESCRIPTION, VectorTable, check_format_version
from dallme.files.atomic import TEMPORARY, folder_lock, remove_stale

#: Ending of a folder that is being removed, and of a shard that was set aside.
REMOVED, DAMAGED = ".removed", ".damaged"


@dataclass(frozen=True)
class TableInfo:
    """A table of the store.

    Attributes:
        folder: Its folder.
        fingerprint: The embedder.
        vectors: Number of vectors; texts that two processes embedded count twice until the next compaction.
        shards: Number of shards.
        bytes: Size of all files.
        last_used: Time of the last use, in seconds since 1970.
    """

    folder: Path
    fingerprint: Fingerprint
    vectors: int
    shards: int
    bytes: int
    last_used: float

    @property
    def age_days(self) -> float:
        """Days since the last use."""
        return (time.time() - self.last_used) / 86_400

    def as_dict(self) -> dict[str, Any]:
        """Returns the fields for JSON."""
        used = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.last_used))
        return asdict(self) | {"folder": str(self.folder), "last_used": used}


def list_tables(store: Path) -> list[TableInfo]:
    """Lists the tables of a store by their model and last use, and ends removals that were interrupted.

    Raises:
        StoreError: If the store has another format, or cannot be read.
    """
    check_format_version(store)
    for left in store.glob(f"*{REMOVED}"):
        shutil.rmtree(left, ignore_errors=True)
    tables = [
        info for path in sorted(store.glob(f"*/{DESCRIPTION}")) if (info := _describe(path)) is not None
    ]
    return sorted(tables, key=lambda info: (info.fingerprint.model, -info.last_used))


def other_bytes(store: Path, tables: list[TableInfo]) -> dict[str, int]:
    """Returns the sizes of the other folders in the store, such as ``results`` and ``answers``."""
    own = {info.folder.name for info in tables}
    folders = sorted(path for path in store.iterdir() if path.is_dir()) if store.is_dir() else []
    return {path.name: _size(path) for path in folders if path.name not in own}


def verify_table(info: TableInfo) -> list[Path]:
    """Reads all shards of a table once, and sets damaged ones aside; their texts are embedded again.

    Returns:
        The damaged shards.
    """
    damaged = []
    for path in list_files(info.folder, SHARD):
        try:
            open_shard(path, info.fingerprint.dimension).verify()
        except FileNotFoundError:  # another process has joined it to others
            continue
        except DamagedShardError:
            damaged.append(path)
            with contextlib.suppress(OSError):
                path.rename(path.with_suffix(DAMAGED))
    return damaged


def compact_table(info: TableInfo) -> TableInfo | None:
    """Joins the small shards of a table, and deletes damaged ones; other processes may use the table.

    Returns:
        The table afterwards; None if it is gone.
    """
    VectorTable(info.folder, info.fingerprint).compact()
    remove_stale(info.folder)
    for path in list_files(info.folder, DAMAGED):
        with contextlib.suppress(OSError):
            path.unlink()
    return _describe(info.folder / DESCRIPTION)


def remove_table(info: TableInfo) -> bool:
    """Removes a table unless a process uses it; one that comes later embeds its texts again.

    Returns:
        Whether it is removed.
    """
    left = info.folder.with_name(f"{info.folder.name}.{uuid4().hex[:8]}{REMOVED}")
    with folder_lock(info.folder):
        if _in_use(info.folder):
            return False
        with contextlib.suppress(FileNotFoundError):  # another process has removed it
            info.folder.rename(left)
    shutil.rmtree(left, ignore_errors=True)
    return True


def _in_use(folder: Path) -> bool:
    """Returns whether a process holds a file of a table; those of killed processes are removed."""
    remove_stale(folder)
    return bool(list_files(folder, TEMPORARY))


def _describe(path: Path) -> TableInfo | None:
    """Reads the description of a table; None if there is no valid one."""
    try:
        fingerprint = Fingerprint(**json.loads(path.read_bytes()))
        used = path.stat().st_mtime
    except (OSError, ValueError, TypeError):
        return None
    shards = list_files(path.parent, SHARD)
    rows = 0
    for shard in shards:
        with contextlib.suppress(DamagedShardError, FileNotFoundError):
            rows += len(open_shard(shard, fingerprint.dimension).keys)
            used = max(used, shard.stat().st_mtime)
    return TableInfo(path.parent, fingerprint, rows, len(shards), _size(path.parent), used)


def _size(folder: Path) -> int:
    return sum(_sizes(folder))


def _sizes(folder: Path) -> Iterator[int]:
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                yield os.lstat(os.path.join(parent, name)).st_size
