"""A text-to-text model that turns a text into the name of its class (Appendix A.5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dallme.classifiers.neural.generative import FittedGenerative, GenerativeClassifier, Word
from dallme.classifiers.neural.training import pad
from dallme.models.language import load_seq2seq

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class TextToTextClassifier(GenerativeClassifier):
    """An encoder and decoder that reads a text and writes the name of its class; T5-Base by default.

    Attributes:
        model: Folder or Hub id of a text-to-text model.
    """

    model: str = "t5-base"

    def _load(self) -> tuple[Any, Any]:
        return load_seq2seq(self.model)

    def _fitted(self, model: Any, tokenizer: Any, labels: np.ndarray, words: tuple[Word, ...]) -> FittedGenerative:
        return _FittedTextToText(self, model, tokenizer, labels, words)


@dataclass(frozen=True, eq=False)
class _FittedTextToText(FittedGenerative):
    def loss(self, tokens: list[np.ndarray], words: list[Word]) -> torch.Tensor:
        ids, mask = self.batch(tokens)
        wanted = pad([np.array(word) for word in words], max(map(len, words)), value=-100)  # -100: no loss
        loss: torch.Tensor = self.model(input_ids=ids, attention_mask=mask, labels=self.tensor(wanted)).loss
        return loss

    def next_logits(self, tokens: list[np.ndarray], befores: Sequence[Word]) -> list[torch.Tensor]:
        ids, mask = self.batch(tokens)
        read = self.model.get_encoder()(input_ids=ids, attention_mask=mask)  # once for all words
        start = self.model.config.decoder_start_token_id
        written = (self.tensor(np.full((len(tokens), 1 + len(before)), [start, *before])) for before in befores)
        return [
            self.model(encoder_outputs=read, attention_mask=mask, decoder_input_ids=begun, use_cache=False).logits[:, -1]
            for begun in written
        ]
