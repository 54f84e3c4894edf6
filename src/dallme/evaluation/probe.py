"""Linear probe of an embedder: how well its vectors separate the classes (section 5.3, Table 2)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from sklearn.metrics import f1_score

from dallme.classifiers.base import fit_sklearn
from dallme.classifiers.linear import linear_probe
from dallme.data import LabelledTexts


@dataclass(frozen=True)
class ProbeResult:
    """Accuracy of a linear classifier on the vectors of one embedder.

    Attributes:
        embedder: Its name.
        dimension: Length of a vector.
        accuracy: Accuracy on the test set, between 0 and 1.
        macro_f1: Unweighted mean over the classes of F1.
        embed_seconds: Time to embed both sets, without vectors that a store held.
        train_seconds: Time to train and test.
    """

    embedder: str
    dimension: int
    accuracy: float
    macro_f1: float
    embed_seconds: float
    train_seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Returns the fields for JSON, seconds to three decimals."""
        seconds = {name: round(getattr(self, name), 3) for name in ("embed_seconds", "train_seconds")}
        return asdict(self) | seconds


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
        embed: Maps n texts to vectors, float32 of shape (n, d).
        source: Training texts.
        test: Test texts with the same label ids.
        seed: Seed of the classifier.
    """
    started = time.perf_counter()
    train_vectors, test_vectors = embed(source.texts), embed(test.texts)
    embedded = time.perf_counter()
    predicted = fit_sklearn(linear_probe(seed), train_vectors, source.labels).predict(test_vectors)
    return ProbeResult(
        embedder=name,
        dimension=train_vectors.shape[1],
        accuracy=float(np.mean(predicted == test.labels)),
        macro_f1=float(f1_score(test.labels, predicted, average="macro", zero_division=0)),
        embed_seconds=embedded - started,
        train_seconds=time.perf_counter() - embedded,
    )
