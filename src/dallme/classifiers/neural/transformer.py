"""A pretrained encoder with a classification head (Appendix A.4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dallme.classifiers.base import FittedClassifier
from dallme.classifiers.neural.pretrained import FittedPretrained, PretrainedClassifier, lengths_of
from dallme.classifiers.neural.training import seeded, train
from dallme.models.language import load_encoder

if TYPE_CHECKING:
    import torch

#: Tokens above which attention is computed in one piece on a processor as well, for the memory that it saves.
FUSED_FROM = 256


@dataclass(frozen=True, kw_only=True)
class TransformerClassifier(PretrainedClassifier):
    """An encoder, fine-tuned with a new head as ``AutoModelForSequenceClassification`` puts it on; DistilBERT by default.

    Attributes:
        model: Folder or Hub id of an encoder, such as ``sentence-transformers/all-MiniLM-L6-v2``.
    """

    model: str = "distilbert-base-uncased"

    def _fit(self, texts: list[str], labels: np.ndarray, seed: int) -> FittedClassifier:
        import torch

        ids, classes = np.unique(labels, return_inverse=True)
        with seeded(seed):
            # On a processor torch is slow at the gradient of its fused attention, whose point is memory for long texts.
            plain = self.torch_device.type == "cpu" and self.max_tokens <= FUSED_FROM
            model, tokenizer = load_encoder(self.model, len(ids), "eager" if plain else None)
            self.prepare(model)
            fitted = _FittedTransformer(self, model, tokenizer, ids)
            tokens = fitted.read(texts)
            targets = fitted.tensor(classes)

            def loss_of(rows: np.ndarray) -> torch.Tensor:
                return torch.nn.functional.cross_entropy(fitted.scores([tokens[row] for row in rows]), targets[rows])

            train(self, model, loss_of, lengths_of(tokens), seed=seed)
        return fitted


@dataclass(frozen=True, eq=False)
class _FittedTransformer(FittedPretrained):
    def scores(self, tokens: list[np.ndarray]) -> torch.Tensor:
        ids, mask = self.batch(tokens)
        logits: torch.Tensor = self.model(input_ids=ids, attention_mask=mask).logits
        return logits.float()
