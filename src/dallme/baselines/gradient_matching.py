"""Matrices in place of texts, learned so that they change a network as real texts do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import nn
from torch.nn import functional

#: How often what is learned is judged on the way; the best is kept.
CHECKS = 10

#: Most steps that a network is trained on the matrices before gradients are compared, and their learning rate.
AHEAD, AHEAD_RATE = 5, 5e-3

#: Real texts of a class, as ids of shape (b, length) and classes of shape (b,).
Batch = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Learned:
    """What is learned, or a copy of it.

    Attributes:
        words: The matrices, float32 of shape (m, length, d).
        logits: Soft labels before softmax, float32 of shape (m, c).
    """

    words: torch.Tensor
    logits: torch.Tensor

    def copy(self) -> Learned:
        """The same values, apart from any graph."""
        return Learned(self.words.detach().clone(), self.logits.detach().clone())

    def loss(self, network: nn.Module, rows: torch.Tensor) -> torch.Tensor:
        """Mean loss of a network on some of the matrices, from their positions."""
        words = self.words[rows]
        # The network looks ids up: id 0 is padding, the others are the rows of the matrices.
        ids = torch.arange(1, words.shape[0] * words.shape[1] + 1, device=words.device).view(words.shape[:2])
        embedding = cast(nn.Embedding, _Table(functional.pad(words.flatten(0, 1), (0, 0, 1, 0))))
        return functional.cross_entropy(network(ids, embedding), self.logits[rows].softmax(dim=1))


class _Table(nn.Module):
    """An embedding through which gradients flow to a tensor."""

    def __init__(self, table: torch.Tensor) -> None:
        super().__init__()
        self.table = table

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return functional.embedding(ids, self.table)


def trained_parameters(network: nn.Module) -> list[nn.Parameter]:
    """The parameters of a network that are trained."""
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


def distance(network: nn.Module, learned: Learned, rows: torch.Tensor, real: Batch) -> torch.Tensor:
    """Sum over the parameters of 1 - cos of the gradients on real texts and on some of the matrices."""
    parameters = trained_parameters(network)
    ids, classes = real
    wanted = torch.autograd.grad(functional.cross_entropy(network(ids), classes), parameters)
    found = torch.autograd.grad(learned.loss(network, rows), parameters, create_graph=True)
    cosines = [functional.cosine_similarity(a.flatten(), b.flatten(), dim=0) for a, b in zip(found, wanted, strict=True)]
    return (1 - torch.stack(cosines)).sum()


def learn(
    start: Learned,
    groups: Mapping[int, torch.Tensor],
    fresh: Callable[[], nn.Module],
    batch: Callable[[int], Batch],
    judge: Callable[[Learned], float],
    *,
    iterations: int,
    rate: float,
) -> Learned:
    """Changes the matrices so that their gradients are those of real texts, class by class.

    Args:
        start: What to start from.
        groups: Class to the positions of its matrices.
        fresh: Makes a network with random parameters.
        batch: Draws real texts of a class.
        judge: Accuracy on held-out rows.
        iterations: Networks that gradients are compared in.
        rate: Learning rate of Adam at the beginning; it falls to 0.
    """
    learned = start.copy()
    for tensor in (learned.words, learned.logits):
        tensor.requires_grad_(True)
    optimizer = torch.optim.Adam([learned.words, learned.logits], lr=rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / iterations)
    best, highest = start, judge(start)
    for step in range(1, iterations + 1):
        network = fresh()
        _train_ahead(network, learned.copy())
        optimizer.zero_grad()
        for group, rows in groups.items():
            apart = distance(network, learned, rows, batch(group))
            slopes = torch.autograd.grad(apart, [learned.words, learned.logits])
            for tensor, slope in zip((learned.words, learned.logits), slopes, strict=True):
                tensor.grad = slope if tensor.grad is None else tensor.grad + slope
        optimizer.step()
        schedule.step()
        if step % max(iterations // CHECKS, 1) == 0 or step == iterations:
            found = judge(learned.copy())
            if found >= highest:
                best, highest = learned.copy(), found
    return best


def _train_ahead(network: nn.Module, learned: Learned) -> None:
    """Trains a network on the matrices for a random number of steps, often none, so that trained networks are met as well."""
    steps = max(0, int(torch.randint(-AHEAD, AHEAD + 1, ())))
    optimizer = torch.optim.AdamW(trained_parameters(network), lr=AHEAD_RATE)
    for _ in range(steps):
        rows = torch.randperm(len(learned.words))[:32].to(learned.words.device)
        optimizer.zero_grad()
        learned.loss(network, rows).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
