"""Keys and values with room for words to come.

transformers' own cache makes a new, longer copy of all keys and values for each word. For hundreds of texts at once these are
more than the caches of a processor hold, and copying them takes as long as attending to them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicLayer

#: Words that there is room for each time. Room that is not filled yet is attended to in vain, with a weight of zero.
ROOM = 16


class RoomyLayer(DynamicLayer):
    """Keys and values of one layer, of shape (n, heads, words + room, width): those beyond the words are zeros, to be masked."""

    keys: Tensor
    values: Tensor

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        """Takes over the keys and values of the words so far."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.lazy_initialization(keys, values)
        self.keys, self.values, self.words = keys, values, keys.shape[-2]

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Adds those of more words; gives all, and the room that is left."""
        end = self.words + key_states.shape[-2]
        if end > self.keys.shape[-2]:
            self.keys, self.values = (self._longer(held, self._size(end)) for held in (self.keys, self.values))
        self.keys[..., self.words : end, :] = key_states
        self.values[..., self.words : end, :] = value_states
        self.words = end
        return self.keys, self.values

    def get_mask_sizes(self, query: Any) -> tuple[int, int]:
        """Length of what the next :meth:`update` gives, and where it begins, for a number of words or their positions."""
        return self._size(self.words + (query if isinstance(query, int) else len(query))), 0

    def get_seq_length(self) -> int:
        """Words so far."""
        return self.words

    def batch_select_indices(self, indices: Tensor) -> None:
        """Goes on with some of the n texts; where the others' places are filled with the last ones, no others are copied."""
        count = len(indices)
        moved = indices != torch.arange(count, device=indices.device)
        if count > len(self.keys) or bool((indices[moved] < count).any()):
            self.keys, self.values = self.keys[indices], self.values[indices]
            return
        for held in (self.keys, self.values):
            held[:count][moved] = held[indices[moved]]
        self.keys, self.values = self.keys[:count], self.values[:count]

    def _size(self, end: int) -> int:
        """Words and room, once there are so many words."""
        size = self.keys.shape[-2]
        return size if end <= size else max(end, self.words + ROOM)

    def _longer(self, held: Tensor, size: int) -> Tensor:
        made = held.new_empty((*held.shape[:-2], size, held.shape[-1]))
        made[..., : self.words, :] = held[..., : self.words, :]
        made[..., self.words :, :] = 0
        return made


def make_room(cache: Any) -> bool:
    """Puts layers with room in the place of a cache's own, if all of these are plain; says whether it did."""
    if not all(type(layer) is DynamicLayer for layer in cache.layers):
        return False
    cache.layers = [RoomyLayer(layer.keys, layer.values) for layer in cache.layers]
    return True


def with_room(mask: Tensor, cache: Any) -> Tensor:
    """A mask of the words so far, of shape (n, words), as long as the keys will be once one more word is read."""
    size = cache.layers[0].get_mask_sizes(1)[0]
    return torch.nn.functional.pad(mask, (0, size - mask.shape[1]))
