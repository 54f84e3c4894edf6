"""How much of the classes an embedder's vectors hold (section 5.3, Table 2)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.metrics import f1_score

from dallme.classifiers.embedding_lr import linear_probe
from dallme.data import LabelledTexts


@dataclass(frozen=True)
class ProbeResult:
    """What a linear classifier reads from the vectors of one embedder.

    Attributes:
        embedder: Its name.
        dimension: Length of a vector.
        accuracy: Accuracy on the test set, between 0 and 1.
        macro_f1: Unweighted mean over the classes of F1.
        embed_seconds: Time of embedding both sets, less what a store held.
        train_seconds: Time of training and testing.
    """

    embedder: str
    dimension: int
    accuracy: float
    macro_f1: float
    embed_seconds: float
    train_seconds: float

    def as_dict(self) -> dict[str, Any]:
        """The fields of the command line's JSON."""
        return {
            "embedder": self.embedder,
            "dimension": self.dimension,
            "accuracy": self.accuracy,
            "macro_f1": self.macro_f1,
            "embed_seconds": round(self.embed_seconds, 3),
            "train_seconds": round(self.train_seconds, 3),
        }


def probe(
    name: str,
    embed: Callable[[Sequence[str]], np.ndarray],
    source: LabelledTexts,
    test: LabelledTexts,
    *,
    seed: int = 0,
) -> ProbeResult:
    """Trains logistic regression on the vectors of all source texts and tests it.

    Args:
        name: Name of the embedder.
        embed: Turns n texts into vectors, float32 of shape (n, d).
        source: The texts to train on.
        test: The texts to test on, with the same label ids.
        seed: Seed of the classifier.
    """
    started = time.perf_counter()
    train_vectors, test_vectors = embed(source.texts), embed(test.texts)
    embedded = time.perf_counter()
    predicted = linear_probe(seed).fit(train_vectors, source.labels).predict(test_vectors)
    trained = time.perf_counter()
    return ProbeResult(
        embedder=name,
        dimension=train_vectors.shape[1],
        accuracy=float(np.mean(predicted == test.labels)),
        macro_f1=float(f1_score(test.labels, predicted, average="macro", zero_division=0)),
        embed_seconds=embedded - started,
        train_seconds=trained - embedded,
    )
