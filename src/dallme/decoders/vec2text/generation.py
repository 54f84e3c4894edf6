"""Token-by-token generation for many texts at once; samples do not depend on the rest of the batch.

The generation loop of transformers is slower. It reads the prefix again for each sample, sorts the whole
vocabulary for each sampled token, and continues finished texts until the last one has ended.
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

#: Tokens that a cache reserves at a time. Reserved positions are attended to with weight 0.
ROOM = 16

#: Top-k and top-p of the sampling: the number of most likely tokens, and their share of the probability.
MOST_LIKELY, TOP_P = 50, 0.95

#: A text does not repeat a token sequence of this length: loops are longer, repeated names are shorter.
NO_REPEAT = 6

#: Finished texts leave the batch once they make up this share of it.
_ENDED_SHARE = 0.05


@dataclass(frozen=True, eq=False)
class TokenSampler:
    """Picks the next token: the most likely one, or one sampled with the Gumbel-max trick.

    Adding Gumbel noise to log-probabilities and taking the largest sum samples from their distribution.

    Attributes:
        noise: Noise of the most likely tokens at each step of each text, float32 of shape (n, t, k).
        sampled: Mask of the sampled texts, of shape (n,); the others take the most likely token.
        temperature: Divisor of the scores; 1 samples from the model's own distribution.
    """

    noise: Tensor
    sampled: Tensor
    temperature: float

    @classmethod
    def from_seeds(
        cls, seeds: Sequence[Any], tokens: int, temperature: float, device: torch.device
    ) -> TokenSampler:
        """Draws the noise of `tokens` steps for each text from its own numpy seed; None disables sampling."""
        noise = np.zeros((len(seeds), tokens, MOST_LIKELY), dtype=np.float32)
        for row, seed in enumerate(seeds):
            if seed is not None:
                noise[row] = np.random.default_rng(seed).gumbel(size=noise.shape[1:])
        sampled = torch.tensor([seed is not None for seed in seeds], device=device)
        return cls(torch.from_numpy(noise).to(device), sampled, temperature)

    def sample(self, scores: Tensor, rows: Tensor, step: int) -> Tensor:
        """Picks the next token of some texts.

        Args:
            scores: Log-probabilities up to a constant, of shape (r, vocabulary).
            rows: Which of the n texts these are, int64 of shape (r,).
            step: Which of the t steps this is.

        Returns:
            Token ids, int64 of shape (r,).
        """
        values, tokens = scores.topk(min(MOST_LIKELY, scores.shape[1]), dim=1)
        values = values.float() / self.temperature
        shares = values.softmax(dim=1)
        outside = shares.cumsum(dim=1) - shares >= TOP_P
        noisy = (values + self.noise[rows, step, : values.shape[1]]).masked_fill(outside, -torch.inf)
        ranks = torch.where(self.sampled[rows], noisy.argmax(dim=1), 0)
        return tokens.gather(1, ranks[:, None])[:, 0]


def write_tokens(
    model: Any,
    kind: str,
    prefix: Tensor,
    mask: Tensor,
    after: Tensor,
    sampler: TokenSampler,
    ends: Sequence[int],
    pad: int,
) -> Tensor:
    """Writes one or more texts after each prefix.

    Args:
        model: Causal or encoder-decoder model of transformers.
        kind: One of :data:`~dallme.decoders.vec2text.model.KINDS`.
        prefix: Embedded prefixes of shape (n, p, width), padded on the left.
        mask: 1 where a prefix is not padding, of shape (n, p).
        after: Index of the prefix of each text, int64 of shape (m,).
        sampler: Picks the tokens of the m texts, as many as it has noise for.
        ends: Ids of the tokens that end a text.
        pad: Id that fills the rows of finished texts.

    Returns:
        Token ids, int64 of shape (m, at most t).
    """
    count, limit, device = len(after), sampler.noise.shape[1], prefix.device
    reader = (_CausalReader if kind == "causal" else _Seq2SeqReader)(model, prefix, mask, after)
    written = torch.full((count, limit), pad, dtype=torch.long, device=device)
    rows, alive = torch.arange(count, device=device), torch.ones(count, dtype=torch.bool, device=device)
    stops = torch.tensor(list(ends), device=device)
    for step in range(limit):
        scores = _forbid_repeats(written[rows, :step], reader.scores)
        tokens = torch.where(alive, sampler.sample(scores, rows, step), pad)
        written[rows, step] = tokens
        alive = alive & ~torch.isin(tokens, stops)
        if step + 1 == limit or not alive.any():
            return written[:, : step + 1]
        if (~alive).float().mean() >= _ENDED_SHARE:
            indices = _compact(alive)
            reader.select(indices)
            rows, alive, tokens = rows[indices], alive[indices], tokens[indices]
        reader.read(tokens)
    return written


def _compact(alive: Tensor) -> Tensor:
    """Indices of the unfinished texts; the last ones fill the gaps, so that few rows move."""
    count = int(alive.sum())
    indices = torch.arange(count, device=alive.device)
    indices[~alive[:count]] = alive[count:].nonzero()[:, 0] + count
    return indices


def _forbid_repeats(written: Tensor, scores: Tensor) -> Tensor:
    """Masks the scores of tokens that would complete a repeated sequence of :data:`NO_REPEAT` tokens.

    Args:
        written: Tokens so far, int64 of shape (r, s).
        scores: Scores of the next token, of shape (r, vocabulary).
    """
    if written.shape[1] < NO_REPEAT:
        return scores
    sequences = written.unfold(1, NO_REPEAT, 1)
    repeated = (sequences[..., :-1] == written[:, None, 1 - NO_REPEAT :]).all(dim=-1)
    row, position = repeated.nonzero(as_tuple=True)
    if not len(row):
        return scores
    return scores.index_put((row, sequences[row, position, -1]), scores.new_tensor(-torch.inf))


class _Reader(ABC):
    """A model that has read a prefix, with the scores of the next token of each text."""

    def __init__(self, model: Any, prefix: Tensor, mask: Tensor, after: Tensor) -> None:
        self.model, self.mask = model, mask[after]
        # transformers renames the argument and warns where the old name is used.
        self.cache_name = "cache" if "cache" in signature(model.forward).parameters else "past_key_values"
        self.cache: Any = None
        self.scores = self._start(prefix, mask, after)

    @abstractmethod
    def _start(self, prefix: Tensor, mask: Tensor, after: Tensor) -> Tensor:
        """Reads the prefix; returns the scores of the first token of each text, of shape (m, vocabulary)."""

    @abstractmethod
    def _step(self, tokens: Tensor) -> Any:
        """Reads one more token of each text, int64 of shape (r, 1); returns the model's output."""

    def read(self, tokens: Tensor) -> None:
        """Reads the next token of each text, int64 of shape (r,)."""
        output = self._step(tokens[:, None])
        self.cache, self.scores = output.past_key_values, output.logits[:, -1]

    def select(self, indices: Tensor) -> None:
        """Continues with some of the texts, once their next tokens are chosen."""
        self.mask = self.mask[indices]
        self.cache.batch_select_indices(indices)


class _CausalReader(_Reader):
    def _start(self, prefix: Tensor, mask: Tensor, after: Tensor) -> Tensor:
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
        options = {"position_ids": positions, "use_cache": True, "logits_to_keep": 1}
        output = self.model(inputs_embeds=prefix, attention_mask=mask, **options)
        self.cache = output.past_key_values
        self.cache.batch_select_indices(after)
        self.preallocated = preallocate_cache(self.cache)
        scores: Tensor = output.logits[after, -1]
        return scores

    def _step(self, tokens: Tensor) -> Any:
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(tokens), 1)], dim=1)
        return self.model(
            input_ids=tokens,
            attention_mask=extend_mask(self.mask, self.cache) if self.preallocated else self.mask,
            position_ids=self.mask.sum(dim=1, keepdim=True) - 1,
            use_cache=True,
            **{self.cache_name: self.cache},
        )


class _Seq2SeqReader(_Reader):
    def _start(self, prefix: Tensor, mask: Tensor, after: Tensor) -> Tensor:
        encoded = self.model.get_encoder()(inputs_embeds=prefix, attention_mask=mask).last_hidden_state
        self.encoded = encoded[after]
        start = self.model.config.decoder_start_token_id
        self.read(torch.full((len(self.encoded),), start, device=prefix.device))
        return self.scores

    def _step(self, tokens: Tensor) -> Any:
        return self.model(
            encoder_outputs=(self.encoded,),
            attention_mask=self.mask,
            decoder_input_ids=tokens,
            use_cache=True,
            **{self.cache_name: self.cache},
        )

    def select(self, indices: Tensor) -> None:
        super().select(indices)
        self.encoded = self.encoded[indices]


class PreallocatedCache(DynamicLayer):
    """Keys and values of one layer, of shape (n, heads, reserved tokens, width); unused ones need a mask."""

    keys: Tensor
    values: Tensor

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        """Takes over the keys and values of the tokens so far."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.lazy_initialization(keys, values)
        self.keys, self.values, self.tokens = keys, values, keys.shape[-2]

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Appends the keys and values of new tokens; returns all reserved positions."""
        end = self.tokens + key_states.shape[-2]
        if end > self.keys.shape[-2]:
            size = self._size(end)
            self.keys, self.values = self._resize(self.keys, size), self._resize(self.values, size)
        self.keys[..., self.tokens : end, :] = key_states
        self.values[..., self.tokens : end, :] = value_states
        self.tokens = end
        return self.keys, self.values

    def get_mask_sizes(self, query: Any) -> tuple[int, int]:
        """Length and offset of the next :meth:`update`, for a number of tokens or their positions."""
        return self._size(self.tokens + (query if isinstance(query, int) else len(query))), 0

    def get_seq_length(self) -> int:
        """Number of tokens so far."""
        return self.tokens

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keeps some of the n texts; copies few rows if the last texts fill the gaps."""
        count = len(indices)
        moved = indices != torch.arange(count, device=indices.device)
        if count > len(self.keys) or bool((indices[moved] < count).any()):
            self.keys, self.values = self.keys[indices], self.values[indices]
            return
        for tensor in (self.keys, self.values):
            tensor[:count][moved] = tensor[indices[moved]]
        self.keys, self.values = self.keys[:count], self.values[:count]

    def _size(self, end: int) -> int:
        """Length of the tensors, reserved positions included, once they hold `end` tokens."""
        size = self.keys.shape[-2]
        return size if end <= size else max(end, self.tokens + ROOM)

    def _resize(self, tensor: Tensor, size: int) -> Tensor:
        resized = tensor.new_zeros((*tensor.shape[:-2], size, tensor.shape[-1]))
        resized[..., : self.tokens, :] = tensor[..., : self.tokens, :]
        return resized


def preallocate_cache(cache: Any) -> bool:
    """Replaces a cache's layers by preallocated ones if all are plain; returns whether it did."""
    if not all(type(layer) is DynamicLayer for layer in cache.layers):
        return False
    cache.layers = [PreallocatedCache(layer.keys, layer.values) for layer in cache.layers]
    return True


def extend_mask(mask: Tensor, cache: Any) -> Tensor:
    """Pads a mask of shape (n, tokens) to the length of a preallocated cache after one more token."""
    size = cache.layers[0].get_mask_sizes(1)[0]
    return torch.nn.functional.pad(mask, (0, size - mask.shape[1]))
