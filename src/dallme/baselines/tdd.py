"""Text dataset distillation into matrices: what only the network that it was made with can read."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import nn
from torch.nn import functional

from dallme import registry
from dallme.atomic import atomic_write
from dallme.baselines.base import ModelBaseline
from dallme.classifiers.base import Classifier, FittedClassifier
from dallme.classifiers.text_cnn import TextCNNClassifier
from dallme.classifiers.training import pad, seeded, train
from dallme.classifiers.words import PADDING, FittedNetwork, encode
from dallme.data import LabelledTexts
from dallme.errors import InputError
from dallme.validation import check_positive, check_seed

#: How often what is learned is judged on the way; the best is kept.
CHECKS = 10

#: Most steps that a network is trained on the matrices before gradients are compared, and their learning
#: rate.
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
    cosines = [
        functional.cosine_similarity(a.flatten(), b.flatten(), dim=0)
        for a, b in zip(found, wanted, strict=True)
    ]
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


#: What stands in the file beside the numbers.
NOTE = "not readable: scored only by its own model"

#: Most rows of the source that the checks on the way are made on.
HELD_OUT = 500

#: Logit of the right class to start with. Less sure labels (4.0) miss the gradients of real texts, whose
#: labels are sure.
SURE = 12.0


@dataclass(frozen=True, eq=False)
class SyntheticTensor:
    """Matrices in place of texts; they can neither be read nor be given to another model.

    Attributes:
        vectors: What stands in place of the words, float32 of shape (m, length, d).
        soft_labels: Share of each class, float32 of shape (m, c); rows add up to 1.
        classes: The class ids, int64 of shape (c,).
    """

    vectors: np.ndarray
    soft_labels: np.ndarray
    classes: np.ndarray

    def save(self, path: str | Path) -> None:
        """Writes a ``.safetensors`` file with a note as JSON that it is not readable."""
        note = {"note": NOTE, "model": "text-cnn", "shape": list(self.vectors.shape)}
        arrays = {name: np.ascontiguousarray(value) for name, value in vars(self).items()}
        atomic_write(Path(path), save(arrays, metadata={"dallme": json.dumps(note)}))

    @classmethod
    def load(cls, path: str | Path) -> SyntheticTensor:
        """Reads what :meth:`save` wrote.

        Raises:
            InputError: If there is no such file, or it is another's.
        """
        try:
            with safe_open(str(path), framework="numpy") as file:
                if NOTE in (file.metadata() or {}).get("dallme", ""):
                    return cls(**{name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118 - not a dict
        except (OSError, SafetensorError) as error:
            raise InputError(
                f"expected a file of synthetic tensors at {path}, found none that can be read: {error}"
            ) from None
        raise InputError(
            f"expected a file of synthetic tensors at {path}, found another; write it with SyntheticTensor.save"
        )


@dataclass(frozen=True)
class TDDBaseline(ModelBaseline):
    """Learns matrices of word vectors with soft labels that change TextCNN as real texts do.

    With S_c the matrices of class c, R_c a batch of its real texts, and theta the parameters of a network
    that is fresh or a few steps old, S is learned so that the gradients of the loss point the same way, for
    each of the parameters p::

        minimise over S    E over theta of sum_c sum_p 1 - cos(grad_p L(S_c; theta), grad_p L(R_c; theta))

    (Zhao, Mopuri & Bilen, Dataset Condensation with Gradient Matching, 2021, for the task of Sucholutsky &
    Schonlau, Soft-Label Dataset Distillation and Text Dataset Distillation, 2021, and Li & Li, Data
    Distillation for Text Classification, 2021). The model is a fresh network, trained on S. Some rows of the
    source are held out; of several stages of S the one that is best on them is kept.

    Strong with very few matrices, since each is tuned to the network. Weak in all else: nobody can read them,
    and no other network, nor the same one over other word vectors, can be trained on them.

    Attributes:
        iterations: Networks that gradients are compared in.
        batch_size: Real texts of each class that a gradient is of.
        rate: Learning rate of Adam, which falls to 0.
        steps: Least optimizer steps of the network on S; more if the options of its training say so.
    """

    iterations: int = 600
    batch_size: int = 64
    rate: float = 0.04
    steps: int = 60

    def __post_init__(self) -> None:
        """Checks the options."""
        for name in ("iterations", "batch_size", "steps"):
            check_positive(getattr(self, name), name)
        if not self.rate > 0:
            raise InputError(f"expected rate above 0, found {self.rate!r}")

    def fits(self, classifier_name: str) -> bool:
        """Whether it is TextCNN."""
        return registry.split("classifiers", classifier_name)[0].name == "text-cnn"

    def trainer(
        self, classifier: Classifier, source: LabelledTexts, budget: Mapping[int, int]
    ) -> TensorTrainer:
        """TextCNN that is trained on matrices, which it learns first."""
        if not isinstance(classifier, TextCNNClassifier):
            raise InputError(
                f"expected the classifier text-cnn for the baseline tdd, found {type(classifier).__name__}"
            )
        return TensorTrainer(self, classifier, tuple(budget.items()))

    def distil(
        self, source: LabelledTexts, budget: Mapping[int, int], classifier: TextCNNClassifier, *, seed: int
    ) -> SyntheticTensor:
        """Learns the matrices.

        Args:
            source: The source.
            budget: Class id to number of matrices.
            classifier: The network, and the word vectors.
            seed: Seed of every random choice.
        """
        return self.trainer(classifier, source, budget).distil(
            list(source.texts), source.labels, check_seed(seed)
        )


@dataclass(frozen=True)
class TensorTrainer(Classifier):
    """TextCNN that is trained on matrices, which it learns from the texts first.

    Attributes:
        options: How they are learned.
        classifier: The network, and the word vectors.
        budget: Class ids and numbers of matrices.
    """

    options: TDDBaseline
    classifier: TextCNNClassifier
    budget: tuple[tuple[int, int], ...]

    def describe(self) -> dict[str, Any]:
        """All options, and the version of torch."""
        own = {"class": type(self).__name__, "version": self.version, "torch": torch.__version__}
        return own | {
            "options": asdict(self.options),
            "budget": self.budget,
            "classifier": self.classifier.describe(),
        }

    def _fit(self, texts: list[str], labels: np.ndarray, seed: int) -> FittedClassifier:
        return train_on(self.distil(texts, labels, seed), self.for_tensors, seed=seed)

    @property
    def for_tensors(self) -> TextCNNClassifier:
        """The classifier with the steps of its training on so many matrices."""
        steps = self.classifier.total_steps(sum(count for _, count in self.budget))
        return replace(self.classifier, steps=max(self.options.steps, steps))

    def distil(self, texts: list[str], labels: np.ndarray, seed: int) -> SyntheticTensor:
        """Learns the matrices, in the order of the budget, each as long as ``max_tokens``."""
        made, device = self.classifier, self.classifier.torch_device
        encoded = encode(texts, made._words, made.max_tokens)
        classes, targets = np.unique(labels, return_inverse=True)
        rng = np.random.default_rng([seed, 2])
        held_out, rest = np.split(rng.permutation(len(texts)), [min(HELD_OUT, len(texts) // 4)])
        rows = {label: rest[labels[rest] == label] for label, _ in self.budget}
        chosen = self._choose(rows, rng)

        def take(some: np.ndarray) -> Batch:
            ids = pad([encoded.ids[row] for row in some], int(encoded.lengths[some].max()), PADDING)
            return torch.from_numpy(ids).to(device), torch.from_numpy(targets[some]).to(device)

        def judge(learned: Learned) -> float:
            found = [
                train_on(_tensor(learned, classes), self.for_tensors, seed=own) for own in (seed, seed + 1)
            ]
            held_out_texts = [texts[row] for row in held_out]
            return float(np.mean([one.predict(held_out_texts) == labels[held_out] for one in found]))

        words = encoded.vectors[pad([encoded.ids[row] for row in chosen], made.max_tokens, PADDING)]
        logits = SURE * (labels[chosen][:, None] == classes)
        groups = {
            label: torch.from_numpy(np.flatnonzero(labels[chosen] == label)).to(device) for label in rows
        }
        with seeded(seed):
            best = learn(
                Learned(
                    torch.from_numpy(words).to(device), torch.from_numpy(logits.astype(np.float32)).to(device)
                ),
                groups,
                lambda: made._network(encoded.vectors, len(classes)).to(device).eval(),
                lambda label: take(
                    rng.choice(rows[label], min(self.options.batch_size, len(rows[label])), replace=False)
                ),
                judge,
                iterations=self.options.iterations,
                rate=self.options.rate,
            )
        return _tensor(best, classes)

    def _choose(self, rows: Mapping[int, np.ndarray], rng: np.random.Generator) -> np.ndarray:
        """Positions of the texts to start from, drawn at random from the rows of each class."""
        for label, count in self.budget:
            if check_positive(count, f"matrices of class {label}") > len(rows[label]):
                raise InputError(
                    f"expected at least {count} texts in class {label} besides those held out, found {len(rows[label])}; "
                    "ask for fewer"
                )
        return np.concatenate([rng.choice(rows[label], count, replace=False) for label, count in self.budget])


def _tensor(learned: Learned, classes: np.ndarray) -> SyntheticTensor:
    return SyntheticTensor(learned.words.cpu().numpy(), learned.logits.softmax(dim=1).cpu().numpy(), classes)


def train_on(tensor: SyntheticTensor, classifier: TextCNNClassifier, *, seed: int) -> FittedClassifier:
    """Trains TextCNN with fresh parameters on matrices, as it is trained on texts.

    Args:
        tensor: The matrices.
        classifier: The network, the options of its training, and the word vectors that the matrices were made
            with.
        seed: Seed of every random choice.

    Returns:
        The model, which reads texts.

    Raises:
        InputError: If the word vectors have another dimension.
    """
    words = classifier._words
    if words.vectors.shape[1] != tensor.vectors.shape[2]:
        raise InputError(
            f"expected word vectors of {tensor.vectors.shape[2]} dimensions, as the tensors were made with, "
            f"found {words.vectors.shape[1]}"
        )
    device = classifier.torch_device
    learned = Learned(
        *(torch.from_numpy(array).to(device) for array in (tensor.vectors, np.log(tensor.soft_labels)))
    )
    nothing = np.zeros(
        (2, tensor.vectors.shape[2]), dtype=np.float32
    )  # the texts bring their own word vectors
    lengths = np.full(len(tensor.vectors), tensor.vectors.shape[1])
    with seeded(seed):
        network = classifier._network(nothing, len(tensor.classes)).to(device)
        train(
            classifier,
            network,
            lambda rows: learned.loss(network, torch.from_numpy(rows).to(device)),
            lengths,
            seed=seed,
        )
    return FittedNetwork(classifier, words, network, tensor.classes)
