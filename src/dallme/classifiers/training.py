"""Training of neural classifiers (Appendix B.1): AdamW, a linear schedule, batches of similar length."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from dallme.classifiers.base import Classifier
from dallme.errors import InputError
from dallme.models.devices import check_device, find_device, find_precision
from dallme.validation import check_positive

if TYPE_CHECKING:
    import torch

#: Candidate learning rates (Appendix B.1).
LEARNING_RATES = (1e-5, 1e-4, 5e-4, 5e-3)

#: Lengths are padded to a multiple of this, so that few shapes occur.
PAD_MULTIPLE = 16


@dataclass(frozen=True, kw_only=True)
class NeuralClassifier(Classifier):
    """A classifier trained by gradient descent, with its training options.

    Attributes:
        learning_rate: Peak of the linear schedule; :mod:`dallme.evaluation.results` chooses it on held-out
            rows.
        epochs: Passes over the training texts (Appendix B.1).
        steps: Optimizer steps, in place of `epochs`.
        batch_size: Texts per step, or all training texts if there are fewer.
        warmup: Share of the steps in which the learning rate rises from 0 to its peak, in [0, 1).
        weight_decay: Weight decay of AdamW.
        max_tokens: Tokens read from the beginning of a text.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        precision: ``auto``, ``bfloat16`` or ``float32``.
    """

    learning_rates: ClassVar[tuple[float, ...]] = LEARNING_RATES
    packages: ClassVar[tuple[str, ...]] = ("torch", "transformers")

    learning_rate: float = 5e-4
    epochs: int = 20
    steps: int | None = None
    batch_size: int = 16
    warmup: float = 0.0
    weight_decay: float = 0.01
    max_tokens: int = 128
    device: str = "auto"
    precision: str = "auto"

    def __post_init__(self) -> None:
        """Checks the options; nothing is loaded."""
        for name in ("epochs" if self.steps is None else "steps", "batch_size", "max_tokens"):
            check_positive(getattr(self, name), name)
        if not self.learning_rate > 0:
            raise InputError(f"expected a learning rate above 0, found {self.learning_rate!r}")
        if not 0 <= self.warmup < 1:
            raise InputError(f"expected warmup as a share of the steps in [0, 1), found {self.warmup!r}")
        check_device(self.device, self.precision)

    def total_steps(self, rows: int) -> int:
        """Counts the optimizer steps of training on that many texts."""
        return self.steps or self.epochs * -(-rows // self.batch_size)

    @property
    def torch_device(self) -> torch.device:
        """Device that the model runs on."""
        return find_device(self.device)

    @property
    def uses_bfloat16(self) -> bool:
        """Whether matrices are multiplied in bfloat16; weights stay in float32."""
        return find_precision(self.precision, self.torch_device) == "bfloat16"


def train(
    classifier: NeuralClassifier,
    model: torch.nn.Module,
    loss_of: Callable[[np.ndarray], torch.Tensor],
    lengths: np.ndarray,
    *,
    seed: int,
) -> None:
    """Trains the parameters of a model that require gradients, in place.

    AdamW with a linear schedule; gradients are clipped to norm 1. Each epoch visits every text once, in a new
    order.

    Args:
        classifier: The training options.
        model: The model; it is left in evaluation mode.
        loss_of: Computes the mean loss of a batch, from the positions of its texts.
        lengths: Tokens of each text, int64 of shape (n,): texts of similar length share a batch.
        seed: Seed of the order of the texts; dropout draws from torch's generator, see :func:`seeded`.
    """
    import torch

    total = classifier.total_steps(len(lengths))
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    rate, decay = classifier.learning_rate, classifier.weight_decay
    fused = classifier.torch_device.type in ("cpu", "cuda")  # one pass over the weights
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=decay, fused=fused)
    warmup = int(classifier.warmup * total)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _share_of_peak(step, warmup, total))
    batches = batches_of(lengths, classifier.batch_size, np.random.default_rng(seed))
    model.train()
    for _ in range(total):
        with torch.autocast(classifier.torch_device.type, torch.bfloat16, enabled=classifier.uses_bfloat16):
            loss = loss_of(next(batches))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
    model.eval()


def _share_of_peak(step: int, warmup: int, total: int) -> float:
    """Factor of the learning rate at a step: from 0 to 1 in `warmup` steps, then linearly to 0 at the end."""
    return step / warmup if step < warmup else (total - step) / max(total - warmup, 1)


def batches_of(lengths: np.ndarray, size: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yields batches of positions without end, epoch after epoch.

    An epoch is shuffled and cut into pools of 50 batches. Each pool is sorted by padded length and cut into
    batches, which come in random order. Batches have similar lengths and still differ from epoch to epoch.
    """
    padded = -(-lengths // PAD_MULTIPLE)
    while True:
        order = rng.permutation(len(lengths))
        batches = []
        for start in range(0, len(order), 50 * size):
            pool = order[start : start + 50 * size]
            pool = pool[np.argsort(padded[pool], kind="stable")]
            batches += [pool[first : first + size] for first in range(0, len(pool), size)]
        for index in rng.permutation(len(batches)).tolist():
            yield batches[index]


def sorted_batches(lengths: np.ndarray, tokens: int) -> Iterator[tuple[np.ndarray, int]]:
    """Yields batches of positions of similar length for prediction, with the length to pad to.

    Args:
        lengths: Tokens of each text, int64 of shape (n,).
        tokens: Maximum number of tokens per batch, padding included; a batch has one text at least.
    """
    padded = np.maximum(-(-lengths // PAD_MULTIPLE), 1) * PAD_MULTIPLE
    order = np.argsort(padded, kind="stable")
    start = 0
    while start < len(order):
        length = int(padded[order[start]])
        size = max(tokens // length, 1)
        same = int(np.searchsorted(padded[order], length, side="right"))
        stop = min(start + size, same)
        yield order[start:stop], length
        start = stop


def pad(rows: Sequence[np.ndarray], length: int, value: int = 0) -> np.ndarray:
    """Pads token ids at the end to one matrix, int64 of shape (n, length)."""
    matrix = np.full((len(rows), length), value, dtype=np.int64)
    for index, row in enumerate(rows):
        matrix[index, : len(row)] = row[:length]
    return matrix


def training_targets(labels: np.ndarray, probabilities: np.ndarray | None) -> torch.Tensor:
    """Returns the targets of cross-entropy: positions of the classes of shape (n,), or soft labels (n, k)."""
    import torch

    if probabilities is not None:
        return torch.from_numpy(probabilities.astype(np.float32))
    return torch.from_numpy(np.unique(labels, return_inverse=True)[1])


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seeds torch's generators for a block and restores them after it."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
