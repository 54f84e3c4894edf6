"""Writing token by token, for many texts at once, with draws that do not depend on the other texts of the batch.

transformers' own loop reads the prefix anew for each sample, sorts the whole vocabulary for each drawn token, and goes on with
texts that have ended until the last one has.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers.cache_utils import DynamicLayer

#: Words that there is room for each time. Room that is not filled yet is attended to in vain, with a weight of zero.
ROOM = 16


class PreallocatedCache(DynamicLayer):
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
            self.keys, self.values = (
                self._longer(held, self._size(end)) for held in (self.keys, self.values)
            )
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


def preallocate_cache(cache: Any) -> bool:
    """Puts layers with room in the place of a cache's own, if all of these are plain; says whether it did."""
    if not all(type(layer) is DynamicLayer for layer in cache.layers):
        return False
    cache.layers = [PreallocatedCache(layer.keys, layer.values) for layer in cache.layers]
    return True


def with_preallocated_cache(mask: Tensor, cache: Any) -> Tensor:
    """A mask of the words so far, of shape (n, words), as long as the keys will be once one more word is read."""
    size = cache.layers[0].get_mask_sizes(1)[0]
    return torch.nn.functional.pad(mask, (0, size - mask.shape[1]))


#: Tokens are drawn from the likeliest ones: so many at most, and no more than make up this share of the probability.
MOST_LIKELY, TOP_P = 50, 0.95

#: Token sequences of this length are not written twice in a text: loops are longer, and repeated names are shorter.
NO_REPEAT = 6

#: Texts that have ended leave the batch once they are this share of it.
_ENDED_SHARE = 0.05


@dataclass(frozen=True, eq=False)
class Draw:
    """Chooses tokens: the likeliest, or drawn ones.

    Adding Gumbel noise to log-probabilities and taking the largest sum draws from their distribution.

    Attributes:
        noise: For each text and token the noise of the likeliest words, float32 of shape (n, t, k).
        drawn: Which texts draw; the others take the likeliest word, of shape (n,).
        temperature: What scores are divided by; 1 draws from the model's own distribution.
    """

    noise: Tensor
    drawn: Tensor
    temperature: float

    @classmethod
    def of(cls, seeds: Sequence[Any], tokens: int, temperature: float, device: torch.device) -> Draw:
        """Draws the noise of `tokens` tokens of each text from its own seed, as numpy takes seeds; None draws nothing."""
        noise = np.zeros((len(seeds), tokens, MOST_LIKELY), dtype=np.float32)
        for row, seed in enumerate(seeds):
            if seed is not None:
                noise[row] = np.random.default_rng(seed).gumbel(size=noise.shape[1:])
        drawn = torch.tensor([seed is not None for seed in seeds], device=device)
        return cls(torch.from_numpy(noise).to(device), drawn, temperature)

    def choose(self, scores: Tensor, rows: Tensor, step: int) -> Tensor:
        """The next words of some texts, int64 of shape (r,).

        Args:
            scores: Log-probabilities up to a constant, of shape (r, words).
            rows: Which of the n texts these are, int64 of shape (r,).
            step: Which of the t tokens this is.
        """
        values, words = scores.topk(min(MOST_LIKELY, scores.shape[1]), dim=1)
        values = values.float() / self.temperature
        shares = values.softmax(dim=1)
        beyond = shares.cumsum(dim=1) - shares >= TOP_P
        noisy = (values + self.noise[rows, step, : values.shape[1]]).masked_fill(beyond, -torch.inf)
        place = torch.where(self.drawn[rows], noisy.argmax(dim=1), 0)
        return words.gather(1, place[:, None])[:, 0]


def write_tokens(
    model: Any,
    kind: str,
    prefix: Tensor,
    mask: Tensor,
    after: Tensor,
    draw: Draw,
    ends: Sequence[int],
    pad: int,
) -> Tensor:
    """Writes texts, some after each prefix.

    Args:
        model: A causal or an encoder-decoder model of transformers.
        kind: Which of the two, see :data:`~dallme.decoders.vec2text.model.KINDS`.
        prefix: What it reads first, of shape (n, p, width); padding stands to the left.
        mask: Which of that is no padding, of shape (n, p).
        after: Which prefix each text stands after, int64 of shape (m,).
        draw: Chooses the tokens of the m texts, as many as it has noise for.
        ends: Words that end a text.
        pad: What texts that ended are filled up with.

    Returns:
        int64 of shape (m, at most t).
    """
    count, limit, device = len(after), draw.noise.shape[1], prefix.device
    reader = (_Causal if kind == "causal" else _Seq2Seq)(model, prefix, mask, after)
    written = torch.full((count, limit), pad, dtype=torch.long, device=device)
    rows, alive = torch.arange(count, device=device), torch.ones(count, dtype=torch.bool, device=device)
    stops = torch.tensor(list(ends), device=device)
    for step in range(limit):
        scores = _forbid_repeats(written[rows, :step], reader.scores)
        chosen = torch.where(alive, draw.choose(scores, rows, step), pad)
        written[rows, step] = chosen
        alive = alive & ~torch.isin(chosen, stops)
        if step + 1 == limit or not alive.any():
            return written[:, : step + 1]
        if (~alive).float().mean() >= _ENDED_SHARE:
            kept = _filled_up(alive)
            reader.keep(kept)
            rows, alive, chosen = rows[kept], alive[kept], chosen[kept]
        reader.read(chosen)
    return written


def _filled_up(alive: Tensor) -> Tensor:
    """Places of the texts to go on with, the last ones in those of texts that have ended: few have to be moved."""
    count = int(alive.sum())
    places = torch.arange(count, device=alive.device)
    places[~alive[:count]] = alive[count:].nonzero()[:, 0] + count
    return places


def _forbid_repeats(written: Tensor, scores: Tensor) -> Tensor:
    """Scores without the words that would write a sequence of :data:`NO_REPEAT` words again.

    Args:
        written: Words so far, int64 of shape (r, s).
        scores: Of the next word, of shape (r, words).
    """
    if written.shape[1] < NO_REPEAT:
        return scores
    sequences = written.unfold(1, NO_REPEAT, 1)
    again = (sequences[..., :-1] == written[:, None, 1 - NO_REPEAT :]).all(dim=-1)
    row, place = again.nonzero(as_tuple=True)
    if not len(row):
        return scores
    return scores.index_put((row, sequences[row, place, -1]), scores.new_tensor(-torch.inf))


class _Reader(ABC):
    """A model that has read a prefix, with the scores of the next word of each text."""

    def __init__(self, model: Any, prefix: Tensor, mask: Tensor, after: Tensor) -> None:
        self.model, self.mask = model, mask[after]
        # transformers renames the argument: whoever has the new name warns of the old one.
        self.cache_name = "cache" if "cache" in signature(model.forward).parameters else "past_key_values"
        self.cache: Any = None
        self.scores = self._start(prefix, mask, after)

    @abstractmethod
    def _start(self, prefix: Tensor, mask: Tensor, after: Tensor) -> Tensor:
        """Reads the prefix; gives the scores of the first word of each text, of shape (m, words)."""

    @abstractmethod
    def _step(self, words: Tensor) -> Any:
        """Reads one more word of each text, int64 of shape (r, 1); gives what the model returns."""

    def read(self, words: Tensor) -> None:
        """Reads the next word of each text, int64 of shape (r,)."""
        found = self._step(words[:, None])
        self.cache, self.scores = found.past_key_values, found.logits[:, -1]

    def keep(self, places: Tensor) -> None:
        """Goes on with some of the texts only, once their next words are chosen."""
        self.mask = self.mask[places]
        self.cache.batch_select_indices(places)


class _Causal(_Reader):
    def _start(self, prefix: Tensor, mask: Tensor, after: Tensor) -> Tensor:
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
        found = self.model(
            inputs_embeds=prefix,
            attention_mask=mask,
            position_ids=positions,
            use_cache=True,
            logits_to_keep=1,
        )
        self.cache = found.past_key_values
        self.cache.batch_select_indices(after)
        self.roomy = preallocate_cache(self.cache)
        scores: Tensor = found.logits[after, -1]
        return scores

    def _step(self, words: Tensor) -> Any:
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(words), 1)], dim=1)
        return self.model(
            input_ids=words,
            attention_mask=with_preallocated_cache(self.mask, self.cache) if self.roomy else self.mask,
            position_ids=self.mask.sum(dim=1, keepdim=True) - 1,
            use_cache=True,
            **{self.cache_name: self.cache},
        )


class _Seq2Seq(_Reader):
    def _start(self, prefix: Tensor, mask: Tensor, after: Tensor) -> Tensor:
        read = self.model.get_encoder()(inputs_embeds=prefix, attention_mask=mask).last_hidden_state
        self.encoded = read[after]
        begin = self.model.config.decoder_start_token_id
        self.read(torch.full((len(self.encoded),), begin, device=prefix.device))
        return self.scores

    def _step(self, words: Tensor) -> Any:
        return self.model(
            encoder_outputs=(self.encoded,),
            attention_mask=self.mask,
            decoder_input_ids=words,
            use_cache=True,
            **{self.cache_name: self.cache},
        )

    def keep(self, places: Tensor) -> None:
        super().keep(places)
        self.encoded = self.encoded[places]
