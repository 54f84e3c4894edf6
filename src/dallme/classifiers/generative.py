"""A text-to-text model that turns a text into the name of its class (Appendix A.5)."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from dallme.classifiers.base import FittedClassifier
from dallme.classifiers.training import pad, seeded, train
from dallme.classifiers.transformer import FittedPretrained, PretrainedClassifier, lengths_of
from dallme.errors import InputError
from dallme.models.language import SMOLLM2, load_causal, load_seq2seq

if TYPE_CHECKING:
    import torch

#: The tokens of a label word.
Word = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class GenerativeClassifier(PretrainedClassifier):
    """A language model that is trained to write the name of the class; the name that it finds likeliest is the prediction.

    Nothing is generated and nothing is parsed: the names of the classes seen in training are scored.

    Attributes:
        label_words: The class ids and what is written for each; the number itself for a class that is not
            among them.
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
    def _fitted(
        self, model: Any, tokenizer: Any, labels: np.ndarray, words: tuple[Word, ...]
    ) -> FittedGenerative:
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

        Tokens that all words begin with, and those behind the first that sets a word apart from all others,
        are left out: the former change no order, and a trained model is sure of the latter. Where the first
        tokens differ, as they mostly do, one pass is all it takes.
        """
        import torch

        steps = deciding_tokens(self.words)
        befores = list(dict.fromkeys(before for word in steps for before, _ in word))
        logits = self.next_logits(tokens, befores)
        likelihoods = {
            before: one.float().log_softmax(dim=1) for before, one in zip(befores, logits, strict=True)
        }
        sums = [
            torch.stack([likelihoods[before][:, token] for before, token in word]).sum(dim=0)
            for word in steps
        ]
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

    def _fitted(
        self, model: Any, tokenizer: Any, labels: np.ndarray, words: tuple[Word, ...]
    ) -> FittedGenerative:
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
        return [
            self._last_logits([np.array([*row, *before]) for row in tokens], 1)[:, -1] for before in befores
        ]

    def _last_logits(self, rows: list[np.ndarray], count: int) -> torch.Tensor:
        """Logits at the last places of each text, of shape (n, count, v); texts are filled up at their beginning."""
        ids, mask = self.batch(rows, at_start=True)
        places = (mask.cumsum(dim=1) - 1).clamp(min=0)
        made = self.model(
            input_ids=ids, attention_mask=mask, position_ids=places, logits_to_keep=count, use_cache=False
        )
        logits: torch.Tensor = made.logits
        return logits


@dataclass(frozen=True, kw_only=True)
class TextToTextClassifier(GenerativeClassifier):
    """An encoder and decoder that reads a text and writes the name of its class; T5-Base by default.

    Attributes:
        model: Folder or Hub id of a text-to-text model.
    """

    model: str = "t5-base"

    def _load(self) -> tuple[Any, Any]:
        return load_seq2seq(self.model)

    def _fitted(
        self, model: Any, tokenizer: Any, labels: np.ndarray, words: tuple[Word, ...]
    ) -> FittedGenerative:
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
        written = (
            self.tensor(np.full((len(tokens), 1 + len(before)), [start, *before])) for before in befores
        )
        return [
            self.model(
                encoder_outputs=read, attention_mask=mask, decoder_input_ids=begun, use_cache=False
            ).logits[:, -1]
            for begun in written
        ]
