"""A causal language model that writes the name of the class after the text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dallme.classifiers.neural.generative import FittedGenerative, GenerativeClassifier, Word
from dallme.models.language import SMOLLM2, load_causal

if TYPE_CHECKING:
    import torch

#: What stands between the text and the name of its class.
QUESTION = "\nLabel:"


@dataclass(frozen=True, kw_only=True)
class CausalClassifier(GenerativeClassifier):
    """A causal language model that is trained to write the name of the class after the text; SmolLM2-135M by default.

    Attributes:
        model: ``smollm2``, a folder, a ``.gguf`` file, or the Hub id of a causal language model.
    """

    model: str = SMOLLM2

    def _load(self) -> tuple[Any, Any]:
        return load_causal(self.model)

    def _fitted(self, model: Any, tokenizer: Any, labels: np.ndarray, words: tuple[Word, ...]) -> FittedGenerative:
        question = tuple(tokenizer(QUESTION, add_special_tokens=False)["input_ids"])
        return _FittedCausal(self, model, tokenizer, labels, words, question)


@dataclass(frozen=True, eq=False)
class _FittedCausal(FittedGenerative):
    question: Word

    def read(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Token ids of each text, with those of the question after them."""
        room = len(self.question) + max(map(len, self.words))
        return [np.array([*row, *self.question]) for row in self.cut(texts, room)]

    def loss(self, tokens: list[np.ndarray], words: list[Word]) -> torch.Tensor:
        import torch

        rows = [np.array([*row, *word]) for row, word in zip(tokens, words, strict=True)]
        width = max(map(len, words))
        wanted = np.full((len(rows), width), -100)  # -100: no loss
        for place, word in enumerate(words):
            wanted[place, width - len(word) :] = word
        # The logits at a place are of the token after it.
        logits = self._last_logits(rows, width + 1)[:, :-1].float()
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), self.tensor(wanted).flatten())

    def next_logits(self, tokens: list[np.ndarray], befores: Sequence[Word]) -> list[torch.Tensor]:
        return [self._last_logits([np.array([*row, *before]) for row in tokens], 1)[:, -1] for before in befores]

    def _last_logits(self, rows: list[np.ndarray], count: int) -> torch.Tensor:
        """Logits at the last places of each text, of shape (n, count, v); texts are filled up at their beginning."""
        ids, mask = self.batch(rows, at_start=True)
        places = (mask.cumsum(dim=1) - 1).clamp(min=0)
        made = self.model(input_ids=ids, attention_mask=mask, position_ids=places, logits_to_keep=count, use_cache=False)
        logits: torch.Tensor = made.logits
        return logits
