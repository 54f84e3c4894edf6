"""TextRNN: an LSTM reads the words, and its last state is classified (Appendix A.3)."""

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
    """The network of Appendix A.3, with its parameters."""

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
        """Makes a fresh LSTM over fixed word vectors, float32 of shape (v, d)."""
        super().__init__()
        self.embedding = fixed_embedding(vectors)
        # Dropout is between layers, and torch warns where there is one only.
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
        """Scores of the classes.

        Args:
            ids: Ids of words, int64 of shape (n, length), each text filled up with padding at its end.
            embedding: The vectors of the ids, if they are not those of training.

        Returns:
            float of shape (n, output_dim).
        """
        states = self.last_states((embedding or self.embedding)(ids), (ids != PADDING).sum(dim=1))
        scores: torch.Tensor = self.fc(self.dropout(states))
        return scores

    def last_states(self, words: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """The state of the last layer after the last word, and after the first word of a text that is read backwards.

        The same as ``self.rnn`` gives for packed sequences. Those are several times slower on a CPU, as they are computed
        word by word; so each direction reads a padded batch, in which the words to be read come first.

        Args:
            words: Vectors of shape (n, length, d).
            lengths: Words of each text, at least 1, int64 of shape (n,).

        Returns:
            float of shape (n, hidden_dim * directions).
        """
        places = torch.arange(words.shape[1], device=words.device)
        turned = lengths[:, None] - 1 - places
        turned = torch.where(turned >= 0, turned, places)[
            :, :, None
        ]  # its own inverse; padding stays where it is
        last = (lengths - 1)[:, None, None]
        ends: list[torch.Tensor] = []
        for layer in range(self.rnn.num_layers):
            if layer:
                words = functional.dropout(words, self.rnn.dropout, self.training)
            outputs = [self._read(words, layer, "")]
            if self.rnn.bidirectional:
                outputs.append(self._read(_take(words, turned), layer, "_reverse"))
            ends = [_take(output, last).squeeze(1) for output in outputs]
            words = torch.cat([outputs[0], *(_take(output, turned) for output in outputs[1:])], dim=2)
        return torch.cat(ends, dim=1)

    def _read(self, words: torch.Tensor, layer: int, suffix: str) -> torch.Tensor:
        """The states of one direction of one layer after each word, of shape (n, length, hidden_dim)."""
        parameters = [getattr(self.rnn, f"{name}_l{layer}{suffix}") for name in _PARAMETERS]
        start = words.new_zeros(1, len(words), self.rnn.hidden_size)
        return torch.lstm(words, (start, start), parameters, True, 1, 0.0, self.training, False, True)[0]


def _take(states: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """The states at the places of each text, which are of shape (n, k, 1)."""
    return states.gather(1, places.expand(-1, -1, states.shape[2]))


@dataclass(frozen=True, kw_only=True)
class TextRNNClassifier(WordClassifier):
    """A bidirectional LSTM over word vectors (Appendix A.3).

    It reads words in their order, and is slower than ``text-cnn``.

    Reference: Hochreiter, Schmidhuber, "Long Short-Term Memory", Neural Computation 1997.

    Attributes:
        hidden_dim: Numbers in the state of one direction.
        layers: Layers of the LSTM.
        bidirectional: Whether texts are read backwards too.
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
