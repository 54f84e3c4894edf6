"""Text dataset distillation (TDD): synthetic embeddings and soft labels for TextCNN, by gradient matching."""

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
from dallme.baselines.base import ModelBaseline
from dallme.classifiers.base import Classifier, FittedClassifier
from dallme.classifiers.text_cnn import TextCNNClassifier
from dallme.classifiers.training import pad, seeded, train
from dallme.classifiers.words import PADDING, FittedNetwork, encode
from dallme.data import LabelledTexts
from dallme.errors import InputError
from dallme.files.atomic import atomic_write
from dallme.validation import check_positive, check_seed

#: Validations during training; the best stage is returned.
VALIDATIONS = 10

#: Maximum number of steps that a network is trained before gradients are compared, and their learning rate.
AHEAD, AHEAD_RATE = 5, 5e-3

#: A batch of real texts: ids of shape (b, length) and classes of shape (b,).
Batch = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Learned:
    """Synthetic embeddings and soft labels as tensors.

    Attributes:
        words: Synthetic embeddings, float32 of shape (m, length, d).
        logits: Soft labels before softmax, float32 of shape (m, c).
    """

    words: torch.Tensor
    logits: torch.Tensor

    def copy(self) -> Learned:
        """Copies the values, detached from any graph."""
        return Learned(self.words.detach().clone(), self.logits.detach().clone())

    def loss(self, network: nn.Module, rows: torch.Tensor) -> torch.Tensor:
        """Computes the mean loss of a network on the embeddings at some positions."""
        words = self.words[rows]
        # The network looks up ids: 0 is padding, the others are the rows of the embeddings.
        ids = torch.arange(1, words.shape[0] * words.shape[1] + 1, device=words.device).view(words.shape[:2])
        embedding = cast(nn.Embedding, _Table(functional.pad(words.flatten(0, 1), (0, 0, 1, 0))))
        return functional.cross_entropy(network(ids, embedding), self.logits[rows].softmax(dim=1))


class _Table(nn.Module):
    """An embedding layer with gradients to its table."""

    def __init__(self, table: torch.Tensor) -> None:
        super().__init__()
        self.table = table

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return functional.embedding(ids, self.table)


def trained_parameters(network: nn.Module) -> list[nn.Parameter]:
    """Lists the parameters of a network that are trained."""
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


def distance(network: nn.Module, learned: Learned, rows: torch.Tensor, real: Batch) -> torch.Tensor:
    """Sums 1 - cos of the gradients on real texts and on synthetic rows over the parameters."""
    parameters = trained_parameters(network)
    ids, classes = real
    real_gradients = torch.autograd.grad(functional.cross_entropy(network(ids), classes), parameters)
    gradients = torch.autograd.grad(learned.loss(network, rows), parameters, create_graph=True)
    cosines = [
        functional.cosine_similarity(a.flatten(), b.flatten(), dim=0)
        for a, b in zip(gradients, real_gradients, strict=True)
    ]
    return (1 - torch.stack(cosines)).sum()


def learn(
    start: Learned,
    groups: Mapping[int, torch.Tensor],
    fresh: Callable[[], nn.Module],
    batch: Callable[[int], Batch],
    validate: Callable[[Learned], float],
    *,
    iterations: int,
    rate: float,
) -> Learned:
    """Matches the gradients on synthetic rows to those on real texts, class by class.

    Args:
        start: Initial values.
        groups: Class to the positions of its synthetic rows.
        fresh: Makes a network with random parameters.
        batch: Draws real texts of a class.
        validate: Computes the accuracy on held-out rows.
        iterations: Number of random networks.
        rate: Initial learning rate of Adam; it falls linearly to 0.
    """
    learned = start.copy()
    for tensor in (learned.words, learned.logits):
        tensor.requires_grad_(True)
    optimizer = torch.optim.Adam([learned.words, learned.logits], lr=rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / iterations)
    best, highest = start, validate(start)
    for step in range(1, iterations + 1):
        network = fresh()
        _train_ahead(network, learned.copy())
        optimizer.zero_grad()
        for group, rows in groups.items():
            loss = distance(network, learned, rows, batch(group))
            gradients = torch.autograd.grad(loss, [learned.words, learned.logits])
            for tensor, gradient in zip((learned.words, learned.logits), gradients, strict=True):
                tensor.grad = gradient if tensor.grad is None else tensor.grad + gradient
        optimizer.step()
        schedule.step()
        if step % max(iterations // VALIDATIONS, 1) == 0 or step == iterations:
            accuracy = validate(learned.copy())
            if accuracy >= highest:
                best, highest = learned.copy(), accuracy
    return best


def _train_ahead(network: nn.Module, learned: Learned) -> None:
    """Trains a network on the synthetic rows for a random number of steps, often none."""
    steps = max(0, int(torch.randint(-AHEAD, AHEAD + 1, ())))
    optimizer = torch.optim.AdamW(trained_parameters(network), lr=AHEAD_RATE)
    for _ in range(steps):
        rows = torch.randperm(len(learned.words))[:32].to(learned.words.device)
        optimizer.zero_grad()
        learned.loss(network, rows).backward()  # type: ignore[no-untyped-call]
        optimizer.step()


#: Note in the metadata of the file.
NOTE = "not readable: scored only by its own model"

#: Maximum number of rows of the source in the held-out split.
HELD_OUT = 500

#: Initial logit of the right class. Less confident labels (4.0) do not match the gradients of real texts.
INITIAL_LOGIT = 12.0


@dataclass(frozen=True, eq=False)
class SyntheticTensor:
    """Synthetic embeddings in place of texts: not readable, and of no use to another model.

    Attributes:
        vectors: Embeddings in place of words, float32 of shape (m, length, d).
        soft_labels: Class probabilities, float32 of shape (m, c); rows add up to 1.
        classes: The class ids, int64 of shape (c,).
    """

    vectors: np.ndarray
    soft_labels: np.ndarray
    classes: np.ndarray

    def save(self, path: str | Path) -> None:
        """Writes a ``.safetensors`` file with a note in its metadata."""
        note = {"note": NOTE, "model": "text-cnn", "shape": list(self.vectors.shape)}
        arrays = {name: np.ascontiguousarray(value) for name, value in vars(self).items()}
        atomic_write(Path(path), save(arrays, metadata={"dallme": json.dumps(note)}))

    @classmethod
    def load(cls, path: str | Path) -> SyntheticTensor:
        """Reads a file that :meth:`save` wrote.

        Raises:
            InputError: If there is no such file, or it is of another kind.
        """
        try:
            with safe_open(str(path), framework="numpy") as file:
                if NOTE in (file.metadata() or {}).get("dallme", ""):
                    names = file.keys()  # a method of its own: safe_open is no mapping
                    return cls(**{name: file.get_tensor(name) for name in names})
        except (OSError, SafetensorError) as error:
            raise InputError(
                f"expected a file of synthetic tensors at {path}, found none that can be read: {error}"
            ) from None
        raise InputError(
            f"expected a file of synthetic tensors at {path}, found another; "
            "write it with SyntheticTensor.save"
        )


@dataclass(frozen=True)
class TDDBaseline(ModelBaseline):
    """Synthetic embeddings with soft labels whose gradients in TextCNN match those of real texts.

    S_c are the synthetic rows of class c, R_c is a batch of its real texts, and theta are the parameters of a
    network after no or a few training steps. Over all parameters p ::

        minimise over S    E over theta of sum_c sum_p 1 - cos(grad_p L(S_c; theta), grad_p L(R_c; theta))

    The model is a new network trained on S. Some rows of the source are held out; of several stages of S the
    one with the best held-out accuracy is used.

    Strong with very few rows, since each is tuned to the network. Weak in all else: S is not readable, and no
    other network or word vectors can be used with it.

    References: Zhao, Mopuri and Bilen, "Dataset Condensation with Gradient Matching", ICLR 2021; Sucholutsky
    and Schonlau, "Soft-Label Dataset Distillation and Text Dataset Distillation", IJCNN 2021; Li and Li,
    "Data Distillation for Text Classification", 2021.

    Attributes:
        iterations: Number of random networks in which gradients are compared.
        batch_size: Real texts of each class in a gradient.
        rate: Initial learning rate of Adam, which falls to 0.
        steps: Minimum optimizer steps of the network on S; the options of its training may ask for more.
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
        """Returns whether the classifier is TextCNN."""
        return registry.split("classifiers", classifier_name)[0].name == "text-cnn"

    def trainer(
        self, classifier: Classifier, source: LabelledTexts, budget: Mapping[int, int]
    ) -> TensorTrainer:
        """Returns the TextCNN that first learns the synthetic rows, then trains on them."""
        if not isinstance(classifier, TextCNNClassifier):
            raise InputError(
                f"expected the classifier text-cnn for the baseline tdd, found {type(classifier).__name__}"
            )
        return TensorTrainer(self, classifier, tuple(budget.items()))

    def distil(
        self, source: LabelledTexts, budget: Mapping[int, int], classifier: TextCNNClassifier, *, seed: int
    ) -> SyntheticTensor:
        """Learns the synthetic rows.

        Args:
            source: The source.
            budget: Class id to number of rows.
            classifier: The network with its word vectors.
            seed: Seed of every random choice.
        """
        return self.trainer(classifier, source, budget).distil(
            list(source.texts), source.labels, check_seed(seed)
        )


@dataclass(frozen=True)
class TensorTrainer(Classifier):
    """TextCNN trained on synthetic rows that it learns from the texts first.

    Attributes:
        options: Options of the baseline.
        classifier: The network with its word vectors.
        budget: Class ids and numbers of synthetic rows.
    """

    options: TDDBaseline
    classifier: TextCNNClassifier
    budget: tuple[tuple[int, int], ...]

    def describe(self) -> dict[str, Any]:
        """Describes all options and the version of torch."""
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
        """The classifier with the number of steps of its training on the synthetic rows."""
        steps = self.classifier.total_steps(sum(count for _, count in self.budget))
        return replace(self.classifier, steps=max(self.options.steps, steps))

    def distil(self, texts: list[str], labels: np.ndarray, seed: int) -> SyntheticTensor:
        """Learns the synthetic rows, in the order of the budget, each ``max_tokens`` long."""
        classifier, device = self.classifier, self.classifier.torch_device
        encoded = encode(texts, classifier._words, classifier.max_tokens)
        classes, targets = np.unique(labels, return_inverse=True)
        rng = np.random.default_rng([seed, 2])
        held_out, rest = np.split(rng.permutation(len(texts)), [min(HELD_OUT, len(texts) // 4)])
        rows = {label: rest[labels[rest] == label] for label, _ in self.budget}
        chosen = self._choose(rows, rng)

        def draw(label: int) -> Batch:
            some = rng.choice(rows[label], min(self.options.batch_size, len(rows[label])), replace=False)
            ids = pad([encoded.ids[row] for row in some], int(encoded.lengths[some].max()), PADDING)
            return torch.from_numpy(ids).to(device), torch.from_numpy(targets[some]).to(device)

        def validate(learned: Learned) -> float:
            tensor, held_out_texts = _tensor(learned, classes), [texts[row] for row in held_out]
            models = [train_on(tensor, self.for_tensors, seed=own) for own in (seed, seed + 1)]
            return float(np.mean([model.predict(held_out_texts) == labels[held_out] for model in models]))

        words = encoded.vectors[pad([encoded.ids[row] for row in chosen], classifier.max_tokens, PADDING)]
        logits = INITIAL_LOGIT * (labels[chosen][:, None] == classes)
        groups = {
            label: torch.from_numpy(np.flatnonzero(labels[chosen] == label)).to(device) for label in rows
        }
        with seeded(seed):
            best = learn(
                Learned(
                    torch.from_numpy(words).to(device), torch.from_numpy(logits.astype(np.float32)).to(device)
                ),
                groups,
                lambda: classifier._network(encoded.vectors, len(classes)).to(device).eval(),
                draw,
                validate,
                iterations=self.options.iterations,
                rate=self.options.rate,
            )
        return _tensor(best, classes)

    def _choose(self, rows: Mapping[int, np.ndarray], rng: np.random.Generator) -> np.ndarray:
        """Draws the texts that initialise the synthetic rows from the rows of each class."""
        for label, count in self.budget:
            if check_positive(count, f"synthetic rows of class {label}") > len(rows[label]):
                raise InputError(
                    f"expected at least {count} texts in class {label} besides those held out, "
                    f"found {len(rows[label])}; ask for fewer"
                )
        return np.concatenate([rng.choice(rows[label], count, replace=False) for label, count in self.budget])


def _tensor(learned: Learned, classes: np.ndarray) -> SyntheticTensor:
    return SyntheticTensor(learned.words.cpu().numpy(), learned.logits.softmax(dim=1).cpu().numpy(), classes)


def train_on(tensor: SyntheticTensor, classifier: TextCNNClassifier, *, seed: int) -> FittedClassifier:
    """Trains a new TextCNN on synthetic rows, as it is trained on texts.

    Args:
        tensor: The synthetic rows.
        classifier: The network with its training options and the word vectors that the rows were made with.
        seed: Seed of every random choice.

    Returns:
        The model; it predicts for texts.

    Raises:
        InputError: If the word vectors have a different dimension.
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
    # Padding and unknown words only: texts have word vectors of their own.
    no_words = np.zeros((2, tensor.vectors.shape[2]), dtype=np.float32)
    lengths = np.full(len(tensor.vectors), tensor.vectors.shape[1])
    with seeded(seed):
        network = classifier._network(no_words, len(tensor.classes)).to(device)
        train(
            classifier,
            network,
            lambda rows: learned.loss(network, torch.from_numpy(rows).to(device)),
            lengths,
            seed=seed,
        )
    return FittedNetwork(classifier, words, network, tensor.classes)
