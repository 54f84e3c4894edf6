"""What the classifiers that write the name of a class share: label words, and which of their tokens decide."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from dallme.classifiers.base import FittedClassifier
from dallme.classifiers.neural.pretrained import FittedPretrained, PretrainedClassifier, lengths_of
from dallme.classifiers.neural.training import seeded, train
from dallme.errors import InputError

if TYPE_CHECKING:
    import torch

#: The tokens of a label word.
Word = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class GenerativeClassifier(PretrainedClassifier):
    """A language model that is trained to write the name of the class; the name that it finds likeliest is the prediction.

    Nothing is generated and nothing is parsed: the names of the classes seen in training are scored.

    Attributes:
        label_words: The class ids and what is written for each; the number itself for a class that is not among them.
    """

    label_words: tuple[tuple[int, str], ...] = ()

    def with_label_names(self, label_names: Mapping[int, str]) -> GenerativeClassifier:
        """The classifier that writes these names, in lower case."""
        words = ((int(label), name.strip().lower() or str(label)) for label, name in label_names.items())
        return replace(self, label_words=tuple(sorted(words)))

    def _fit(self, texts: list[str], labels: np.ndarray, seed: int) -> FittedClassifier:
        ids, classes = np.unique(labels, return_inverse=True)
        with seeded(seed):
            model, tokenizer = self._load()
            words = self._words(ids, tokenizer)
            self.prepare(model)
            fitted = self._fitted(model, tokenizer, ids, words)
            tokens = fitted.read(texts)

            def loss_of(rows: np.ndarray) -> torch.Tensor:
                return fitted.loss([tokens[row] for row in rows], [words[classes[row]] for row in rows])

            train(self, model, loss_of, lengths_of(tokens), seed=seed)
        return fitted

    def _words(self, labels: np.ndarray, tokenizer: Any) -> tuple[Word, ...]:
        """The tokens of the word of each class, with the sign of the end."""
        known = dict(self.label_words)
        names = [known.get(label, str(label)) for label in labels.tolist()]
        end = () if tokenizer.eos_token_id is None else (tokenizer.eos_token_id,)
        words = [(*tokenizer(f" {name}", add_special_tokens=False)["input_ids"], *end) for name in names]
        for name, word in zip(names, words, strict=True):
            same = [other for other, tokens in zip(names, words, strict=True) if tokens[: len(word)] == word]
            if len(same) > 1:
                raise InputError(
                    f"expected names of classes that the model {self.model!r} tells apart, found the same tokens for "
                    f"{same[0]!r} and {same[1]!r}; rename one of them ({name!r} begins both)"
                )
        return tuple(words)

    @abstractmethod
    def _load(self) -> tuple[Any, Any]:
        """The model and its tokenizer."""

    @abstractmethod
    def _fitted(self, model: Any, tokenizer: Any, labels: np.ndarray, words: tuple[Word, ...]) -> FittedGenerative:
        """The classifier of that model."""


@dataclass(frozen=True, eq=False)
class FittedGenerative(FittedPretrained):
    """A language model that writes the names of classes.

    Attributes:
        words: The tokens that it writes for each class, in the order of `labels`.
    """

    words: tuple[Word, ...]

    def scores(self, tokens: list[np.ndarray]) -> torch.Tensor:
        """Log-likelihood of each word given the text, of shape (n, k), up to a constant of the text.

        Tokens that all words begin with, and those behind the first that sets a word apart from all others, are left out:
        the former change no order, and a trained model is sure of the latter. Where the first tokens differ, as they mostly
        do, one pass is all it takes.
        """
        import torch

        steps = deciding_tokens(self.words)
        befores = list(dict.fromkeys(before for word in steps for before, _ in word))
        logits = self.next_logits(tokens, befores)
        likelihoods = {before: one.float().log_softmax(dim=1) for before, one in zip(befores, logits, strict=True)}
        sums = [torch.stack([likelihoods[before][:, token] for before, token in word]).sum(dim=0) for word in steps]
        return torch.stack(sums, dim=1)

    @abstractmethod
    def loss(self, tokens: list[np.ndarray], words: list[Word]) -> torch.Tensor:
        """Mean loss of the words' tokens given the texts."""

    @abstractmethod
    def next_logits(self, tokens: list[np.ndarray], befores: Sequence[Word]) -> list[torch.Tensor]:
        """For each beginning of a word the logits of the token after it, of shape (n, v)."""


def deciding_tokens(words: Sequence[Word]) -> list[list[tuple[Word, int]]]:
    """For each word the tokens that decide whether it is the one, each with those before it.

    Args:
        words: Tokens of each word; none begins another.
    """
    beginnings = Counter(word[:length] for word in words for length in range(1, len(word) + 1))
    common = sum(count == len(words) for count in beginnings.values())
    steps = []
    for word in words:
        unique = next(length for length in range(1, len(word) + 1) if beginnings[word[:length]] == 1)
        steps.append([(word[:place], word[place]) for place in range(common, unique)])
    return steps
