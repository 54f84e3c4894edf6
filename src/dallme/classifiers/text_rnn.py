"""TextRNN: classification of the last state of an LSTM over word vectors (Appendix A.3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from dallme.classifiers.words import PADDING, WordClassifier, fixed_embedding
from dallme.validation import check_positive

_PARAMETERS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


class TextRNN(nn.Module):
    """The network of Appendix A.3."""

    def __init__(
        self,
        vectors: np.ndarray,
        *,
        hidden_dim: int,
        output_dim: int,
        n_layers: int,
        bidirectional: bool,
        dropout: float,
    ) -> None:
        """Initialises the LSTM over fixed word vectors, float32 of shape (v, d)."""
        super().__init__()
        self.embedding = fixed_embedding(vectors)
        # Dropout is between layers; torch warns if there is only one.
        between = dropout if n_layers > 1 else 0.0
        self.rnn = nn.LSTM(
            vectors.shape[1],
            hidden_dim,
            n_layers,
            bidirectional=bidirectional,
            dropout=between,
            batch_first=True,
        )
        self.fc = nn.Linear(hidden_dim * 2 if bidirectional else hidden_dim, output_dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, ids: torch.Tensor, embedding: nn.Embedding | None = None) -> torch.Tensor:
        """Computes the logits of the classes.

        Args:
            ids: Ids of words, int64 of shape (n, length), padded at the end.
            embedding: Vectors of the ids, in place of those of training.

        Returns:
            float of shape (n, output_dim).
        """
        states = self.last_states((embedding or self.embedding)(ids), (ids != PADDING).sum(dim=1))
        logits: torch.Tensor = self.fc(self.dropout(states))
        return logits

    def last_states(self, words: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Computes the final states of the last layer, of both directions if there are two.

        The result equals that of ``self.rnn`` on packed sequences, which are several times slower on a CPU.
        Here each direction reads a padded batch; the backward direction reads the words of each text
        reversed.

        Args:
            words: Vectors of shape (n, length, d).
            lengths: Words of each text, at least 1, int64 of shape (n,).

        Returns:
            float of shape (n, hidden_dim * directions).
        """
        positions = torch.arange(words.shape[1], device=words.device)
        reverse = lengths[:, None] - 1 - positions
        # A permutation that is its own inverse and leaves padding in place.
        reverse = torch.where(reverse >= 0, reverse, positions)[:, :, None]
        last = (lengths - 1)[:, None, None]
        ends: list[torch.Tensor] = []
        for layer in range(self.rnn.num_layers):
            if layer:
                words = functional.dropout(words, self.rnn.dropout, self.training)
            outputs = [self._read(words, layer, "")]
            if self.rnn.bidirectional:
                outputs.append(self._read(_take(words, reverse), layer, "_reverse"))
            ends = [_take(output, last).squeeze(1) for output in outputs]
            words = torch.cat([outputs[0], *(_take(output, reverse) for output in outputs[1:])], dim=2)
        return torch.cat(ends, dim=1)

    def _read(self, words: torch.Tensor, layer: int, suffix: str) -> torch.Tensor:
        """Runs one direction of one layer; returns its states of shape (n, length, hidden_dim)."""
        parameters = [getattr(self.rnn, f"{name}_l{layer}{suffix}") for name in _PARAMETERS]
        start = words.new_zeros(1, len(words), self.rnn.hidden_size)
        return torch.lstm(words, (start, start), parameters, True, 1, 0.0, self.training, False, True)[0]


def _take(states: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Gathers the states at the positions of each text, of shape (n, k, 1)."""
    return states.gather(1, positions.expand(-1, -1, states.shape[2]))


@dataclass(frozen=True, kw_only=True)
class TextRNNClassifier(WordClassifier):
    """A bidirectional LSTM over word vectors (Appendix A.3).

    It is sensitive to word order, and slower than ``text-cnn``.

    Reference: Hochreiter and Schmidhuber, "Long Short-Term Memory", Neural Computation 1997.

    Attributes:
        hidden_dim: Size of the state of one direction.
        layers: Number of layers.
        bidirectional: Whether a second direction reads the text backwards.
    """

    hidden_dim: int = 128
    layers: int = 1
    bidirectional: bool = True

    def __post_init__(self) -> None:
        """Checks the options; nothing is read."""
        super().__post_init__()
        check_positive(self.hidden_dim, "hidden_dim")
        check_positive(self.layers, "layers")

    def _network(self, vectors: np.ndarray, classes: int) -> nn.Module:
        return TextRNN(
            vectors,
            hidden_dim=self.hidden_dim,
            output_dim=classes,
            n_layers=self.layers,
            bidirectional=self.bidirectional,
            dropout=self.dropout,
        )
