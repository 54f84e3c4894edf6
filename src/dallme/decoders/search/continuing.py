"""A causal language model that goes on with many texts at once and keeps what it has read."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from typing import Any

import torch
from torch import Tensor

from dallme.decoders.vec2text.generation import Draw

#: Token sequences of this length are not written twice in a text.
NO_REPEAT = 5


class Continuing:
    """Texts being written after prompts, a row each, with the keys and values of all that was read.

    Attributes:
        written: Tokens of each row, int64 of shape (r, t).
    """

    def __init__(self, model: Any, tokenizer: Any, prompts: Sequence[str]) -> None:
        """Reads the prompts, each once, whatever their lengths.

        Args:
            model: A causal model of transformers.
            tokenizer: Its tokenizer.
            prompts: One a row.
        """
        from transformers import DynamicCache

        self._model, self._cache = model, DynamicCache(config=model.config)
        # transformers gave the argument another name in 5.24.
        self._name = "cache" if "cache" in signature(model.forward).parameters else "past_key_values"
        ids = [tokenizer(prompt, add_special_tokens=False).input_ids for prompt in prompts]
        width, device = max(map(len, ids)), model.device
        words = torch.tensor([[0] * (width - len(row)) + row for row in ids], device=device)
        self._mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in ids], device=device)
        positions = (self._mask.cumsum(dim=1) - 1).clamp(min=0)
        self._scores = self._forward(words, positions)
        self.written = words[:, :0]

    def take(self, rows: Sequence[int]) -> None:
        """Goes on with the given rows only; a row may be given several times."""
        places = torch.tensor(list(rows), dtype=torch.long, device=self._mask.device)
        self._cache.batch_select_indices(places)
        self._mask, self._scores, self.written = self._mask[places], self._scores[places], self.written[places]

    def write(self, tokens: int, seeds: Sequence[Any], temperature: float) -> None:
        """Writes some tokens after each row.

        Args:
            tokens: How many.
            seeds: Seed of the draws of each row, as numpy takes seeds; None takes the likeliest.
            temperature: What scores are divided by.
        """
        from transformers import NoRepeatNGramLogitsProcessor

        forbid = NoRepeatNGramLogitsProcessor(NO_REPEAT)
        draw = Draw.of(seeds, tokens, temperature, self._mask.device)
        rows = torch.arange(len(self._mask), device=self._mask.device)
        for step in range(tokens):
            scores = forbid(self.written, self._scores) if self.written.shape[1] else self._scores
            self._read(draw.choose(scores, rows, step)[:, None])

    def _read(self, words: Tensor) -> None:
        """Adds a word to each row, int64 of shape (r, 1)."""
        self.written = torch.cat([self.written, words], dim=1)
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(words), 1)], dim=1)
        positions = self._mask.sum(dim=1, keepdim=True) - 1
        self._scores = self._forward(words, positions)

    def _forward(self, words: Tensor, positions: Tensor) -> Tensor:
        """Reads words, int64 of shape (r, w), into the cache; scores of the next word of each row, of shape (r, vocabulary)."""
        held = {self._name: self._cache}
        found = self._model(
            input_ids=words, attention_mask=self._mask, position_ids=positions, use_cache=True, logits_to_keep=1, **held
        )
        scores: Tensor = found.logits[:, -1]
        return scores
