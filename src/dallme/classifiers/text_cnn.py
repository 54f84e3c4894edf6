"""TextCNN: convolutions of several widths with max pooling over word vectors (Appendix A.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from dallme.classifiers.words import PADDING, WordClassifier, fixed_embedding
from dallme.errors import InputError
from dallme.validation import check_positive


class TextCNN(nn.Module):
    """The network of Appendix A.2."""

    def __init__(
        self,
        vectors: np.ndarray,
        *,
        num_filters: int,
        filter_sizes: Sequence[int],
        output_dim: int,
        dropout: float,
    ) -> None:
        """Initialises the filters over fixed word vectors, float32 of shape (v, d)."""
        super().__init__()
        self.embedding = fixed_embedding(vectors)
        self.convs = nn.ModuleList(
            nn.Conv2d(1, num_filters, (size, vectors.shape[1])) for size in filter_sizes
        )
        self.widest = max(filter_sizes)
        self.fc = nn.Linear(num_filters * len(filter_sizes), output_dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, ids: torch.Tensor, embedding: nn.Embedding | None = None) -> torch.Tensor:
        """Computes the logits of the classes.

        Args:
            ids: Ids of words, int64 of shape (n, length).
            embedding: Vectors of the ids, in place of those of training.

        Returns:
            float of shape (n, output_dim).
        """
        # With padding as wide as the widest filter even a text of one word fits; more would add nothing.
        ids = functional.pad(ids, (0, self.widest), value=PADDING)
        words = (embedding or self.embedding)(ids)
        features = torch.cat([_max_pool(conv, words) for conv in self.convs], dim=1)
        logits: torch.Tensor = self.fc(self.dropout(functional.relu(features)))
        return logits


def _max_pool(conv: nn.Module, words: torch.Tensor) -> torch.Tensor:
    """Computes the largest output of each filter, (n, num_filters), for words of shape (n, length, d)."""
    assert isinstance(conv, nn.Conv2d)
    # A Conv2d as wide as the vectors is a Conv1d, which is three times faster.
    weight = conv.weight.squeeze(1).transpose(1, 2)
    return functional.conv1d(words.transpose(1, 2), weight, conv.bias).amax(dim=2)


@dataclass(frozen=True, kw_only=True)
class TextCNNClassifier(WordClassifier):
    """Convolutions over word vectors (Appendix A.2).

    It detects phrases of a few words at any position. It computes in float32, as bfloat16 is no faster here.

    Reference: Kim, "Convolutional Neural Networks for Sentence Classification", EMNLP 2014.

    Attributes:
        num_filters: Number of filters of each width.
        filter_sizes: Widths of the filters in words.
    """

    num_filters: int = 100
    filter_sizes: tuple[int, ...] = (3, 4, 5)
    precision: str = "float32"

    def __post_init__(self) -> None:
        """Checks the options; nothing is read."""
        super().__post_init__()
        check_positive(self.num_filters, "num_filters")
        if not self.filter_sizes:
            raise InputError("expected at least one width in filter_sizes, found none")
        for size in self.filter_sizes:
            check_positive(size, "filter_sizes")

    def _network(self, vectors: np.ndarray, classes: int) -> nn.Module:
        return TextCNN(
            vectors,
            num_filters=self.num_filters,
            filter_sizes=self.filter_sizes,
            output_dim=classes,
            dropout=self.dropout,
        )
