"""Language models fine-tuned to write the name of the class (Appendix A.5)."""

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

#: Tokens of the name of a class.
Word = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class GenerativeClassifier(PretrainedClassifier):
    """A language model fine-tuned to write the name of the class.

    Nothing is generated or parsed: the prediction is the class name of the highest likelihood.

    Attributes:
        label_words: Class ids with their names; a class that is not among them is written as its number.
    """

    label_words: tuple[tuple[int, str], ...] = ()

    def with_label_names(self, label_names: Mapping[int, str]) -> GenerativeClassifier:
        """Returns the classifier that writes these names, in lower case."""
        words = sorted(
            (int(label), name.strip().lower() or str(label)) for label, name in label_names.items()
        )
        return replace(self, label_words=tuple(words))

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
        """Tokenises the name of each class, with the end-of-text token."""
        known = dict(self.label_words)
        names = [known.get(label, str(label)) for label in labels.tolist()]
        end = () if tokenizer.eos_token_id is None else (tokenizer.eos_token_id,)
        words = [(*tokenizer(f" {name}", add_special_tokens=False)["input_ids"], *end) for name in names]
        for name, word in zip(names, words, strict=True):
            same = [other for other, tokens in zip(names, words, strict=True) if tokens[: len(word)] == word]
            if len(same) > 1:
                raise InputError(
                    f"expected names of classes that the model {self.model!r} tells apart, found the same "
                    f"tokens for {same[0]!r} and {same[1]!r}; rename one of them ({name!r} begins both)"
                )
        return tuple(words)

    @abstractmethod
    def _load(self) -> tuple[Any, Any]:
        """Loads the model and its tokenizer."""

    @abstractmethod
    def _fitted(
        self, model: Any, tokenizer: Any, labels: np.ndarray, words: tuple[Word, ...]
    ) -> FittedGenerative:
        """Wraps the model."""


@dataclass(frozen=True, eq=False)
class FittedGenerative(FittedPretrained):
    """A language model that writes the names of classes.

    Attributes:
        words: Tokens of the name of each class, in the order of `labels`.
    """

    words: tuple[Word, ...]

    def scores(self, tokens: list[np.ndarray]) -> torch.Tensor:
        """Computes the log-likelihood of each word, of shape (n, k), up to a constant per text.

        Common first tokens of all words are skipped, since they change no order. So are tokens after the
        first that identifies a word, since a trained model is certain of them. One pass suffices if the first
        tokens differ, as they usually do.
        """
        import torch

        steps = deciding_tokens(self.words)
        prefixes = list(dict.fromkeys(prefix for word in steps for prefix, _ in word))
        likelihoods = {
            prefix: logits.float().log_softmax(dim=1)
            for prefix, logits in zip(prefixes, self.next_logits(tokens, prefixes), strict=True)
        }
        sums = [
            torch.stack([likelihoods[prefix][:, token] for prefix, token in word]).sum(dim=0)
            for word in steps
        ]
        return torch.stack(sums, dim=1)

    @abstractmethod
    def loss(self, tokens: list[np.ndarray], words: list[Word]) -> torch.Tensor:
        """Computes the mean loss of the words' tokens given the texts."""

    @abstractmethod
    def next_logits(self, tokens: list[np.ndarray], prefixes: Sequence[Word]) -> list[torch.Tensor]:
        """Computes the logits of the token after each prefix of a word, of shape (n, v)."""


def deciding_tokens(words: Sequence[Word]) -> list[list[tuple[Word, int]]]:
    """Finds the tokens that distinguish each word from the others, each with its prefix.

    Args:
        words: Tokens of each word; none is a prefix of another.
    """
    prefixes = Counter(word[:length] for word in words for length in range(1, len(word) + 1))
    common = sum(count == len(words) for count in prefixes.values())
    steps = []
    for word in words:
        unique = next(length for length in range(1, len(word) + 1) if prefixes[word[:length]] == 1)
        steps.append([(word[:index], word[index]) for index in range(common, unique)])
    return steps


#: Text between the input and the name of its class.
QUESTION = "\nLabel:"


@dataclass(frozen=True, kw_only=True)
class CausalClassifier(GenerativeClassifier):
    """A causal language model fine-tuned to write the class name after the text; SmolLM2-135M by default.

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
        """Tokenises texts, each followed by the question."""
        reserved = len(self.question) + max(map(len, self.words))
        return [np.array([*row, *self.question]) for row in self.truncate(texts, reserved)]

    def loss(self, tokens: list[np.ndarray], words: list[Word]) -> torch.Tensor:
        import torch

        rows = [np.array([*row, *word]) for row, word in zip(tokens, words, strict=True)]
        width = max(map(len, words))
        targets = np.full((len(rows), width), -100)  # -100: no loss
        for row, word in enumerate(words):
            targets[row, width - len(word) :] = word
        # The logits at a position are of the token after it.
        logits = self._last_logits(rows, width + 1)[:, :-1].float()
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), self.tensor(targets).flatten())

    def next_logits(self, tokens: list[np.ndarray], prefixes: Sequence[Word]) -> list[torch.Tensor]:
        return [
            self._last_logits([np.array([*row, *prefix]) for row in tokens], 1)[:, -1] for prefix in prefixes
        ]

    def _last_logits(self, rows: list[np.ndarray], count: int) -> torch.Tensor:
        """Computes the logits at the last positions of left-padded texts, of shape (n, count, v)."""
        ids, mask = self.batch(rows, at_start=True)
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
        logits: torch.Tensor = self.model(
            input_ids=ids, attention_mask=mask, position_ids=positions, logits_to_keep=count, use_cache=False
        ).logits
        return logits


@dataclass(frozen=True, kw_only=True)
class TextToTextClassifier(GenerativeClassifier):
    """An encoder-decoder fine-tuned to write the name of the class; T5-Base by default.

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
        labels = pad([np.array(word) for word in words], max(map(len, words)), value=-100)  # -100: no loss
        loss: torch.Tensor = self.model(input_ids=ids, attention_mask=mask, labels=self.tensor(labels)).loss
        return loss

    def next_logits(self, tokens: list[np.ndarray], prefixes: Sequence[Word]) -> list[torch.Tensor]:
        ids, mask = self.batch(tokens)
        encoded = self.model.get_encoder()(input_ids=ids, attention_mask=mask)  # once for all prefixes
        start = self.model.config.decoder_start_token_id
        logits = []
        for prefix in prefixes:
            begun = self.tensor(np.full((len(tokens), 1 + len(prefix)), [start, *prefix]))
            output = self.model(
                encoder_outputs=encoded, attention_mask=mask, decoder_input_ids=begun, use_cache=False
            )
            logits.append(output.logits[:, -1])
        return logits
