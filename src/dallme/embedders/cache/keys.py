"""Keys of texts, and the index that finds a key's place among the shards of a table."""

from __future__ import annotations

import numpy as np

from dallme.errors import InputError


def check_keys(keys: np.ndarray) -> np.ndarray:
    """Returns the keys, contiguous, if they are as :func:`text_keys` makes them.

    Raises:
        InputError: If they are not.
    """
    if keys.ndim != 2 or keys.shape[1] != 2 or keys.dtype != np.uint64:
        raise InputError(
            f"expected keys as uint64 of shape (n, 2), from text_keys, found {keys.dtype} of shape {keys.shape}"
        )
    return np.ascontiguousarray(keys, dtype="<u8")


class KeyIndex:
    """Finds the shard and the row of a key by binary search; 24 bytes of memory a key.

    A key that was added twice is found where it was added first.
    """

    def __init__(self) -> None:
        self._keys = np.empty((0, 2), dtype="<u8")
        self._shards = np.empty(0, dtype=np.int32)
        self._rows = np.empty(0, dtype=np.int32)
        self._added: list[tuple[np.ndarray, int]] = []

    def __len__(self) -> int:
        """Number of different keys."""
        self._settle()
        return len(self._keys)

    def add(self, keys: np.ndarray, shard: int) -> None:
        """Adds the keys of a shard, in the order of its rows; they are sorted in at the next look-up."""
        self._added.append((keys.copy(), shard))

    def find(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Looks keys up.

        Returns:
            The shard and the row of each, int32 of shape (n,) both; -1 for keys that are not there.
        """
        self._settle()
        high, low = keys[:, 0], keys[:, 1]
        places = np.searchsorted(self._keys[:, 0], high)
        searching = np.arange(len(keys))
        shards = np.full(len(keys), -1, dtype=np.int32)
        rows = np.full(len(keys), -1, dtype=np.int32)
        # Keys that share their first half stand side by side; one pass is enough unless there are such.
        while searching.size:
            searching = searching[places[searching] < len(self._keys)]
            searching = searching[self._keys[places[searching], 0] == high[searching]]
            same = self._keys[places[searching], 1] == low[searching]
            found = searching[same]
            shards[found] = self._shards[places[found]]
            rows[found] = self._rows[places[found]]
            searching = searching[~same]
            places[searching] += 1
        return shards, rows

    def _settle(self) -> None:
        """Sorts in what was added since the last look-up."""
        if not self._added:
            return
        keys = np.concatenate([self._keys, *(keys for keys, _ in self._added)])
        shards = np.concatenate(
            [self._shards, *(np.full(len(keys), shard, np.int32) for keys, shard in self._added)]
        )
        rows = np.concatenate(
            [self._rows, *(np.arange(len(keys), dtype=np.int32) for keys, _ in self._added)]
        )
        order = np.lexsort((keys[:, 1], keys[:, 0]))  # stable: of equal keys the first added stays first
        keys = keys[order]
        first = np.ones(len(keys), dtype=bool)
        first[1:] = (keys[1:] != keys[:-1]).any(axis=1)
        self._keys, self._shards, self._rows = keys[first], shards[order[first]], rows[order[first]]
        self._added = []
