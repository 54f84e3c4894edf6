"""SetFit: an embedding model fine-tuned on pairs of texts, with logistic regression on its vectors."""

from __future__ import annotations

import logging
import random
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from dallme.classifiers.base import Classifier, FittedClassifier
from dallme.classifiers.linear import linear_probe
from dallme.classifiers.training import seeded
from dallme.models.devices import check_device, find_device
from dallme.models.language import find_model, load_sentence_transformer
from dallme.models.locate import SENTENCE_TRANSFORMERS, locate
from dallme.validation import check_positive

#: Most pairs of texts with one label, and with two, that a training sees.
MAX_PAIRS = 8_000


@dataclass(frozen=True, kw_only=True)
class SetFitClassifier(Classifier):
    """SetFit of the package ``setfit``, with its own defaults.

    An embedding model is fine-tuned so that texts of one class are near each other and texts of two classes
    are not. Then logistic regression is trained on its vectors. Each text is paired `iterations` times with
    a text of its class and as often with one of another. Large training sets use fewer iterations, and see
    at most 8,000 pairs of each kind in an epoch: the time of a training then grows with the texts no further.

    Reference: Tunstall et al., "Efficient Few-Shot Learning Without Prompts", 2022.

    Attributes:
        model: Folder or Hub id of a sentence-transformers model.
        iterations: Pairs of each kind for each text.
        epochs: Passes over the pairs.
        steps: Maximum number of optimizer steps; None sets no further limit.
        batch_size: Pairs a step.
        learning_rate: Peak of the linear schedule.
        max_tokens: Tokens read from the beginning of a text.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
    """

    argument: ClassVar[str | None] = "model"
    packages: ClassVar[tuple[str, ...]] = ("torch", "transformers", "sentence-transformers", "setfit")

    model: str = "all-MiniLM-L6-v2"
    iterations: int = 20
    epochs: int = 1
    steps: int | None = None
    batch_size: int = 16
    learning_rate: float = 2e-5
    max_tokens: int = 128
    device: str = "auto"

    def __post_init__(self) -> None:
        """Checks the options; nothing is loaded."""
        for name in ("iterations", "epochs", "batch_size", "max_tokens"):
            check_positive(getattr(self, name), name)
        if self.steps is not None:
            check_positive(self.steps, "steps")
        check_device(self.device, "auto")

    def describe(self) -> dict[str, Any]:
        """Describes the options and the hash of the pretrained weights."""
        return super().describe() | {"weights": find_model(self.model).digest}

    def find(self) -> None:
        """Finds the model, from the Hub if it is not on this machine."""
        locate(self.model, SENTENCE_TRANSFORMERS)

    def total_steps(self, rows: int) -> int:
        """Counts the optimizer steps of training on that many texts."""
        pairs = 2 * min(self._iterations(rows) * rows, MAX_PAIRS)
        available = self.epochs * -(-pairs // self.batch_size)
        return available if self.steps is None else min(self.steps, available)

    def _iterations(self, rows: int) -> int:
        """Returns the pairs of each kind for each text."""
        return max(1, min(self.iterations, MAX_PAIRS // rows))

    def _fit(self, texts: list[str], labels: np.ndarray, seed: int) -> FittedClassifier:
        from datasets import Dataset
        from setfit import SetFitModel, Trainer, TrainingArguments
        from transformers import PrinterCallback

        ids, classes = np.unique(labels, return_inverse=True)
        device = str(find_device(self.device))
        body = load_sentence_transformer(locate(self.model, SENTENCE_TRANSFORMERS), self.model, device)
        body.max_seq_length = min(self.max_tokens, body.max_seq_length or self.max_tokens)
        with seeded(seed), _quiet(), tempfile.TemporaryDirectory() as folder:
            model = SetFitModel(model_body=body, model_head=linear_probe(seed))
            arguments = TrainingArguments(
                output_dir=folder,
                batch_size=self.batch_size,
                num_epochs=self.epochs,
                num_iterations=self._iterations(len(texts)),
                max_steps=self.total_steps(len(texts)),
                body_learning_rate=self.learning_rate,
                seed=seed,
                save_strategy="no",
                report_to="none",
                show_progress_bar=False,
            )
            rows = Dataset.from_dict({"text": texts, "label": classes.tolist()})
            trainer = Trainer(model=model, args=arguments, train_dataset=rows)
            trainer.remove_callback(PrinterCallback)
            trainer.train()
        return _FittedSetFit(model, ids)


@dataclass(frozen=True, eq=False)
class _FittedSetFit(FittedClassifier):
    model: Any
    labels: np.ndarray

    def _predict(self, texts: list[str]) -> np.ndarray:
        with _quiet():
            positions = self.model.predict(texts, as_numpy=True, show_progress_bar=False)
        return self.labels[np.asarray(positions, dtype=np.int64)]


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences the libraries for a block, and restores the generators that they seed."""
    from datasets.utils import logging as datasets_logging

    loggers = [logging.getLogger(name) for name in ("setfit", "sentence_transformers", "transformers")]
    levels = [logger.level for logger in loggers]
    states = random.getstate(), np.random.get_state()  # noqa: NPY002 - the libraries seed the global one
    bars = datasets_logging.is_progress_bar_enabled()
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    datasets_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if bars:
            datasets_logging.enable_progress_bar()
