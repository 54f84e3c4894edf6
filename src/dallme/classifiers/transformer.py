"""A pretrained encoder with a classification head (Appendix A.4)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from dallme.classifiers.base import FittedClassifier
from dallme.classifiers.training import NeuralClassifier, pad, seeded, sorted_batches, train
from dallme.errors import InputError, MissingDependencyError
from dallme.models.language import find_model, load_encoder, token_limit, tokenize
from dallme.validation import check_positive

if TYPE_CHECKING:
    import torch

#: Tokens that are classified at once, padding included.
BATCH_TOKENS = {"cpu": 4096}
BATCH_TOKENS_ELSEWHERE = 65_536


@dataclass(frozen=True, kw_only=True)
class PretrainedClassifier(NeuralClassifier):
    """A pretrained transformer that is trained further; the options of the training are those of :class:`NeuralClassifier`.

    Attributes:
        model: Folder or Hub id.
        lora_rank: Rank of low-rank adapters (LoRA) on the linear layers of attention, which are then trained
            in place of the pretrained weights; None trains all weights.
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
        """The options, and the hash of the pretrained weights."""
        return super().describe() | {"weights": find_model(self.model).digest}

    def find(self) -> None:
        """Looks for the model, and fetches it from the Hub if it is nowhere nearer.

        Raises:
            DallmeError: If there is none, or if `lora_rank` is given and peft is not installed.
        """
        if self.lora_rank is not None and find_spec("peft") is None:
            raise MissingDependencyError("the option lora_rank", "peft", "lora")
        find_model(self.model)

    def prepare(self, model: torch.nn.Module) -> None:
        """Adds adapters, if they are wanted, and moves the model to its device, in place."""
        if self.lora_rank is not None:
            add_adapters(model, self.lora_rank)
        model.to(self.torch_device)

    @contextmanager
    def inference(self) -> Iterator[None]:
        """A block that computes no gradients, in the number format of the training."""
        import torch

        # One block for all batches, so that weights are converted once.
        with (
            torch.no_grad(),
            torch.autocast(self.torch_device.type, torch.bfloat16, enabled=self.uses_bfloat16),
        ):
            yield


@dataclass(frozen=True, eq=False)
class FittedPretrained(FittedClassifier):
    """A pretrained transformer and, once it is trained, a classifier.

    Attributes:
        options: How it is trained.
        model: The model.
        tokenizer: Its tokenizer.
        labels: The class ids it is trained on, in order, int64 of shape (k,).
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
        """Token ids of each text, int64 of shape (t,)."""
        return self.cut(texts)

    def cut(self, texts: Sequence[str], room: int = 0) -> list[np.ndarray]:
        """Token ids of each text; `room` places of the model are kept for what comes after."""
        return tokenize(
            self.tokenizer,
            tuple(texts),
            token_limit(self.model, self.tokenizer, self.options.max_tokens, room),
        )

    def batch(
        self, tokens: Sequence[np.ndarray], *, at_start: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Token ids and attention mask of n texts, int64 of shape (n, t), filled up at the end or at the start."""
        length = int(lengths_of(tokens).max())
        filled = [
            pad(tokens, length, self.tokenizer.pad_token_id or 0),
            pad([np.ones_like(row) for row in tokens], length),
        ]
        if at_start:
            shifts = length - lengths_of(tokens)
            filled = [
                np.stack([np.roll(*row) for row in zip(matrix, shifts, strict=True)]) for matrix in filled
            ]
        ids, mask = map(self.tensor, filled)
        return ids, mask

    def tensor(self, array: np.ndarray) -> torch.Tensor:
        """The array on the device of the model."""
        import torch

        return torch.from_numpy(array).to(self.options.torch_device)

    @abstractmethod
    def scores(self, tokens: list[np.ndarray]) -> torch.Tensor:
        """Scores of each class, of shape (n, k), for the token ids of n texts."""

    def _predict(self, texts: list[str]) -> np.ndarray:
        tokens = self.read(texts)
        device = self.options.torch_device.type
        best = np.empty(len(texts), dtype=np.int64)
        with self.options.inference():
            for rows, _ in sorted_batches(
                lengths_of(tokens), BATCH_TOKENS.get(device, BATCH_TOKENS_ELSEWHERE)
            ):
                best[rows] = self.scores([tokens[row] for row in rows]).argmax(dim=1).cpu().numpy()
        return np.asarray(self.labels[best])


def lengths_of(tokens: Sequence[np.ndarray]) -> np.ndarray:
    """Number of tokens of each text, int64 of shape (n,)."""
    return np.array([len(row) for row in tokens], dtype=np.int64)


def add_adapters(model: Any, rank: int) -> None:
    """Puts a low-rank adapter on every linear layer of attention, in place, and freezes the pretrained weights.

    A head beside the pretrained model, which is new, is still trained.

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
    """Share of a model's parameters that want gradients."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return sum(size for size, trained in sizes if trained) / sum(size for size, _ in sizes)


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
            # On a processor torch is slow at the gradient of its fused attention, whose point is memory for
            # long texts.
            plain = self.torch_device.type == "cpu" and self.max_tokens <= FUSED_FROM
            model, tokenizer = load_encoder(self.model, len(ids), "eager" if plain else None)
            self.prepare(model)
            fitted = _FittedTransformer(self, model, tokenizer, ids)
            tokens = fitted.read(texts)
            targets = fitted.tensor(classes)

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
