"""Fine-tuning of pretrained transformers; encoders with a classification head (Appendix A.4)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from dallme.classifiers.base import FittedClassifier, SoftClassifier
from dallme.classifiers.training import (
    NeuralClassifier,
    pad,
    seeded,
    sorted_batches,
    train,
    training_targets,
)
from dallme.errors import InputError, MissingDependencyError
from dallme.models.language import find_model, load_encoder, token_limit, tokenize
from dallme.validation import check_positive

if TYPE_CHECKING:
    import torch

#: Maximum number of tokens per batch in prediction, padding included.
BATCH_TOKENS = {"cpu": 4096}
BATCH_TOKENS_ELSEWHERE = 65_536


@dataclass(frozen=True, kw_only=True)
class PretrainedClassifier(NeuralClassifier):
    """A fine-tuned pretrained transformer, with the training options of :class:`NeuralClassifier`.

    Attributes:
        model: Folder or Hub id.
        lora_rank: Rank of low-rank adapters (LoRA) on the linear layers of attention. They are trained in
            place of the pretrained weights; None trains all weights.
    """

    argument: ClassVar[str | None] = "model"

    learning_rate: float = 1e-4
    model: str
    lora_rank: int | None = None

    def __post_init__(self) -> None:
        """Checks the options; nothing is loaded."""
        super().__post_init__()
        if self.lora_rank is not None:
            check_positive(self.lora_rank, "lora_rank")

    def describe(self) -> dict[str, Any]:
        """Describes the options and the hash of the pretrained weights."""
        return super().describe() | {"weights": find_model(self.model).digest}

    def find(self) -> None:
        """Finds the model, from the Hub if it is not on this machine.

        Raises:
            DallmeError: If it is not found, or `lora_rank` is given and peft is not installed.
        """
        if self.lora_rank is not None and find_spec("peft") is None:
            raise MissingDependencyError("the option lora_rank", "peft", "lora")
        find_model(self.model)

    def prepare(self, model: torch.nn.Module) -> None:
        """Adds the adapters, if any, and moves the model to its device, in place."""
        if self.lora_rank is not None:
            add_adapters(model, self.lora_rank)
        model.to(self.torch_device)

    @contextmanager
    def inference(self) -> Iterator[None]:
        """Disables gradients for a block, in the number format of the training."""
        import torch

        # One block for all batches, so that weights are converted once.
        with (
            torch.no_grad(),
            torch.autocast(self.torch_device.type, torch.bfloat16, enabled=self.uses_bfloat16),
        ):
            yield


@dataclass(frozen=True, eq=False)
class FittedPretrained(FittedClassifier):
    """A pretrained transformer, before and after its training as a classifier.

    Attributes:
        options: The training options.
        model: The model.
        tokenizer: Its tokenizer.
        labels: The class ids of the training data, in order, int64 of shape (k,).
    """

    options: PretrainedClassifier
    model: Any
    tokenizer: Any
    labels: np.ndarray

    @property
    def trained_share(self) -> float:
        """Share of the model's parameters that are trained, in (0, 1]."""
        return trained_share(self.model)

    def read(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Tokenises texts, each int64 of shape (t,)."""
        return self.truncate(texts)

    def truncate(self, texts: Sequence[str], reserved: int = 0) -> list[np.ndarray]:
        """Tokenises texts up to the token limit, less `reserved` positions of the model."""
        limit = token_limit(self.model, self.tokenizer, self.options.max_tokens, reserved)
        return tokenize(self.tokenizer, tuple(texts), limit)

    def batch(
        self, tokens: Sequence[np.ndarray], *, at_start: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Pads n texts at the end or the start; returns ids and attention mask, int64 of shape (n, t)."""
        length = int(lengths_of(tokens).max())
        padded = [
            pad(tokens, length, self.tokenizer.pad_token_id or 0),
            pad([np.ones_like(row) for row in tokens], length),
        ]
        if at_start:
            shifts = length - lengths_of(tokens)
            padded = [
                np.stack([np.roll(*row) for row in zip(matrix, shifts, strict=True)]) for matrix in padded
            ]
        ids, mask = map(self.tensor, padded)
        return ids, mask

    def tensor(self, array: np.ndarray) -> torch.Tensor:
        """Moves an array to the device of the model."""
        import torch

        return torch.from_numpy(array).to(self.options.torch_device)

    @abstractmethod
    def scores(self, tokens: list[np.ndarray]) -> torch.Tensor:
        """Computes the logits of each class, of shape (n, k), for the token ids of n texts."""

    def _predict(self, texts: list[str]) -> np.ndarray:
        tokens = self.read(texts)
        limit = BATCH_TOKENS.get(self.options.torch_device.type, BATCH_TOKENS_ELSEWHERE)
        best = np.empty(len(texts), dtype=np.int64)
        with self.options.inference():
            for rows, _ in sorted_batches(lengths_of(tokens), limit):
                best[rows] = self.scores([tokens[row] for row in rows]).argmax(dim=1).cpu().numpy()
        return np.asarray(self.labels[best])


def lengths_of(tokens: Sequence[np.ndarray]) -> np.ndarray:
    """Counts the tokens of each text, int64 of shape (n,)."""
    return np.array([len(row) for row in tokens], dtype=np.int64)


def add_adapters(model: Any, rank: int) -> None:
    """Adds low-rank adapters to the linear layers of attention, in place, and freezes the pretrained weights.

    A new head, which is not part of the pretrained model, is still trained.

    Raises:
        MissingDependencyError: If peft is not installed.
        InputError: If no linear layer belongs to a module with ``attn`` or ``attention`` in its name.
    """
    if find_spec("peft") is None:
        raise MissingDependencyError("the option lora_rank", "peft", "lora")
    from peft import LoraConfig, inject_adapter_in_model
    from torch.nn import Linear
    from transformers.pytorch_utils import Conv1D

    names = [
        name
        for name, module in model.named_modules()
        if isinstance(module, (Linear, Conv1D))
        and any(word in name.lower() for word in ("attn", "attention"))
    ]
    if not names:
        raise InputError(
            f"expected linear layers of attention in {type(model).__name__}, found none; leave out lora_rank"
        )
    pretrained = {id(parameter) for parameter in model.base_model.parameters()}
    tied = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    pretrained |= {id(parameter) for parameter in tied.parameters()} if tied is not None else set()
    head = [parameter for parameter in model.parameters() if id(parameter) not in pretrained]
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=names), model)
    for parameter in head:
        parameter.requires_grad_(True)


def trained_share(model: torch.nn.Module) -> float:
    """Computes the share of a model's parameters that require gradients."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return sum(size for size, trained in sizes if trained) / sum(size for size, _ in sizes)


#: Tokens above which fused attention is used on a CPU as well, to save memory.
FUSED_FROM = 256


@dataclass(frozen=True, kw_only=True)
class TransformerClassifier(SoftClassifier, PretrainedClassifier):
    """An encoder, fine-tuned with the head of ``AutoModelForSequenceClassification``; DistilBERT by default.

    Attributes:
        model: Folder or Hub id of an encoder, such as ``sentence-transformers/all-MiniLM-L6-v2``.
    """

    model: str = "distilbert-base-uncased"

    def _fit_soft(
        self, texts: list[str], labels: np.ndarray, probabilities: np.ndarray | None, seed: int
    ) -> FittedClassifier:
        import torch

        ids = np.unique(labels)
        with seeded(seed):
            # On a CPU the gradient of fused attention is slow; it saves memory for long texts only.
            plain = self.torch_device.type == "cpu" and self.max_tokens <= FUSED_FROM
            model, tokenizer = load_encoder(self.model, len(ids), "eager" if plain else None)
            self.prepare(model)
            fitted = _FittedTransformer(self, model, tokenizer, ids)
            tokens = fitted.read(texts)
            targets = training_targets(labels, probabilities).to(self.torch_device)

            def loss_of(rows: np.ndarray) -> torch.Tensor:
                return torch.nn.functional.cross_entropy(
                    fitted.scores([tokens[row] for row in rows]), targets[rows]
                )

            train(self, model, loss_of, lengths_of(tokens), seed=seed)
        return fitted


@dataclass(frozen=True, eq=False)
class _FittedTransformer(FittedPretrained):
    def scores(self, tokens: list[np.ndarray]) -> torch.Tensor:
        ids, mask = self.batch(tokens)
        logits: torch.Tensor = self.model(input_ids=ids, attention_mask=mask).logits
        return logits.float()
