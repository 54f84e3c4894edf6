"""Core-sets by the predictions and gradients of a linear probe: uncertainty and early training error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import softmax

from dallme.baselines.coreset import RankedCoreSet, check_classes, probe_probabilities
from dallme.validation import check_positive


@dataclass(frozen=True)
class LeastConfidenceBaseline(RankedCoreSet):
    """Rows with the least confident prediction.

    The score of a row is 1 - max_c p(c | x), with p of logistic regression on the vectors of all rows.

    Strong with large budgets on clean data, where rows between the classes matter. Weak with few texts: rows
    at the decision boundary are atypical of their class, and often mislabelled.

    References: Lewis and Gale, "A Sequential Algorithm for Training Text Classifiers", SIGIR 1994; Coleman et
    al., "Selection via Proxy", ICLR 2020.
    """

    def _features(self, vectors: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return np.asarray(-probe_probabilities(vectors, labels).max(axis=1))


@dataclass(frozen=True)
class MarginBaseline(RankedCoreSet):
    """Rows with the smallest margin between the two most probable classes.

    The score of a row is p(second | x) - p(first | x), with p of logistic regression on the vectors of all
    rows. With two classes the choice equals that of `least-confidence`; with more, it ignores all but the top
    two.

    Strong and weak as `least-confidence`.

    Reference: Scheffer, Decomain and Wrobel, "Active Hidden Markov Models for Information Extraction", IDA
    2001.
    """

    def _features(self, vectors: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        highest = np.sort(probe_probabilities(vectors, labels), axis=1)[:, -2:]
        return np.asarray(highest[:, 0] - highest[:, 1])


#: Batch size of a probe.
_BATCH_SIZE = 32

#: Learning rate of a probe. Inputs have a mean square length of 1, so rates up to 1 do not overshoot.
_LEARNING_RATE = 0.5

#: Standard deviation of the initial logits.
_INITIAL_STD = 0.1


@dataclass(frozen=True)
class EL2NBaseline(RankedCoreSet):
    """Rows with the largest error norm early in training (EL2N).

    The score of a row is E || p(x) - y ||. Here y is the one-hot label, and p is the prediction of a softmax
    probe on the vectors after a few epochs. The mean is over `probes` initialisations. Vectors are centred
    and scaled for the probe, which takes one more copy of them.

    Strong if most of the data are kept, as only easy rows are dropped. Weak with few texts and with label
    noise: mislabelled rows have the largest errors.

    Reference: Paul, Ganguli and Dziugaite, "Deep Learning on a Data Diet: Finding Important Examples Early in
    Training", NeurIPS 2021.

    Attributes:
        probes: Number of probes, at least 1.
        epochs: Epochs of each probe, at least 1.
    """

    probes: int = 5
    epochs: int = 5

    varies = True

    def __post_init__(self) -> None:
        """Checks the options."""
        check_positive(self.probes, "probes")
        check_positive(self.epochs, "epochs")

    def _features(self, vectors: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        classes = check_classes(labels)
        inputs, targets = _inputs(vectors), (labels[:, None] == classes).astype(np.float32)
        scores = [self._norms(inputs, _errors(inputs, targets, self.epochs, rng)) for _ in range(self.probes)]
        return np.asarray(np.mean(scores, axis=0))

    def _norms(self, inputs: np.ndarray, errors: np.ndarray) -> np.ndarray:
        """Computes the scores by one probe, of shape (n,)."""
        return np.asarray(np.linalg.norm(errors, axis=1))


@dataclass(frozen=True)
class GraNdBaseline(EL2NBaseline):
    """Rows with the largest gradient norm early in training (GraNd).

    The score of a row is E || d loss(x, y) / d W || = E || p(x) - y || || (x, 1) ||. W holds the weights and
    bias of the probe, and x is its centred and scaled input. It is the score of `el2n` times the length of
    the input.

    Strong and weak as `el2n`; it also prefers rows far from the mean of the data.

    Reference: as `el2n`.

    Attributes:
        probes: Number of probes, at least 1.
        epochs: Epochs of each probe, at least 1.
    """

    def _norms(self, inputs: np.ndarray, errors: np.ndarray) -> np.ndarray:
        return np.asarray(np.linalg.norm(errors, axis=1) * np.linalg.norm(inputs, axis=1))


def _inputs(vectors: np.ndarray) -> np.ndarray:
    """Centres vectors, scales them to a mean square length of 1 and appends a bias of 1; shape (n, d + 1)."""
    inputs = np.ones((len(vectors), vectors.shape[1] + 1), dtype=np.float32)
    centred = inputs[:, :-1]
    np.subtract(vectors, vectors.mean(axis=0, dtype=np.float64), out=centred, casting="same_kind")
    scale = np.sqrt(np.einsum("ij,ij->i", centred, centred).mean(dtype=np.float64))
    centred /= scale or 1
    return inputs


def _errors(inputs: np.ndarray, targets: np.ndarray, epochs: int, rng: np.random.Generator) -> np.ndarray:
    """Trains a softmax probe with SGD; returns probabilities minus targets, of shape (n, classes)."""
    weights = _INITIAL_STD * rng.standard_normal((inputs.shape[1], targets.shape[1]), dtype=np.float32)
    for _ in range(epochs):
        order = rng.permutation(len(inputs))
        for start in range(0, len(inputs), _BATCH_SIZE):
            batch = order[start : start + _BATCH_SIZE]
            rows = inputs[batch]
            weights -= (
                _LEARNING_RATE / len(batch) * (rows.T @ (softmax(rows @ weights, axis=1) - targets[batch]))
            )
    return np.asarray(softmax(inputs @ weights, axis=1) - targets)
