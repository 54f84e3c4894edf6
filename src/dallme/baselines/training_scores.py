"""Gradients: the rows that pull most at a probe that has just begun to learn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import softmax

from dallme.baselines.coreset import RankedCoreSet, check_classes, probe_probabilities
from dallme.validation import check_positive


@dataclass(frozen=True)
class LeastConfidenceBaseline(RankedCoreSet):
    """Takes the rows whose most probable class is least probable.

    The score of a row is 1 - max_c p(c | x), with p of logistic regression on the vectors of all rows (Lewis
    & Gale, A Sequential Algorithm for Training Text Classifiers, 1994; Coleman et al., Selection via Proxy,
    2020).

    Strong with large budgets on clean data, where the rows between the classes decide. Weak with few texts:
    the rows on the border are those that are least like their class, and often those with wrong labels.
    """

    def _look(self, vectors: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return np.asarray(-probe_probabilities(vectors, labels).max(axis=1))


@dataclass(frozen=True)
class MarginBaseline(RankedCoreSet):
    """Takes the rows whose two most probable classes are nearest to each other.

    The score of a row is p(second | x) - p(first | x), with p of logistic regression on the vectors of all
    rows (Scheffer, Decomain & Wrobel, Active Hidden Markov Models for Information Extraction, 2001). With two
    classes the choice is that of `least-confidence`; with more it looks only at the border between two,
    however the rest is shared out.

    Strong and weak where `least-confidence` is.
    """

    def _look(self, vectors: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        highest = np.sort(probe_probabilities(vectors, labels), axis=1)[:, -2:]
        return np.asarray(highest[:, 0] - highest[:, 1])


#: Rows in a step of a probe.
_BATCH = 32

#: Length of a step. Inputs have length 1 in the mean beside their bias, so that steps of up to 1 do not
#: overshoot.
_RATE = 0.5

#: Standard deviation of the logits before the first step.
_START = 0.1


@dataclass(frozen=True)
class EL2NBaseline(RankedCoreSet):
    """Takes the rows with the largest error early in training.

    The score of a row is E || p(x) - y ||, y the one-hot label and p the probabilities of a softmax probe on
    the vectors after a few epochs; the mean is over `probes` starts and orders of the rows (Paul, Ganguli &
    Dziugaite, Deep Learning on a Data Diet: Finding Important Examples Early in Training, 2021). The vectors
    are centred and scaled for the probe, which takes one more copy of them.

    Strong where most of the data is kept: what is dropped is what was easy. Weak with few texts, and with
    wrong labels, which have the largest errors of all: it finds them first.

    Attributes:
        probes: Probes that are trained, at least 1.
        epochs: Times that each sees all rows, at least 1.
    """

    probes: int = 5
    epochs: int = 5

    varies = True

    def __post_init__(self) -> None:
        """Checks the options."""
        check_positive(self.probes, "probes")
        check_positive(self.epochs, "epochs")

    def _look(self, vectors: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        classes = check_classes(labels)
        inputs, targets = _inputs(vectors), (labels[:, None] == classes).astype(np.float32)
        scores = [self._norms(inputs, _errors(inputs, targets, self.epochs, rng)) for _ in range(self.probes)]
        return np.asarray(np.mean(scores, axis=0))

    def _norms(self, inputs: np.ndarray, errors: np.ndarray) -> np.ndarray:
        """The score of each row by one probe, of shape (n,)."""
        return np.asarray(np.linalg.norm(errors, axis=1))


@dataclass(frozen=True)
class GraNdBaseline(EL2NBaseline):
    """Takes the rows with the largest gradient of the loss early in training.

    The score of a row is E || d loss(x, y) / d W || = E || p(x) - y || || (x, 1) ||, W the weights and the
    bias of the probe and x its input, the centred and scaled vector: the error of `el2n` times the length of
    what it is made on, which the same paper calls GraNd.

    Strong and weak where `el2n` is; it also prefers rows far from the mean of the data.

    Attributes:
        probes: As of :class:`EL2NBaseline`.
        epochs: As of :class:`EL2NBaseline`.
    """

    def _norms(self, inputs: np.ndarray, errors: np.ndarray) -> np.ndarray:
        return np.asarray(np.linalg.norm(errors, axis=1) * np.linalg.norm(inputs, axis=1))


def _inputs(vectors: np.ndarray) -> np.ndarray:
    """The vectors centred, scaled to a mean square length of 1, and with a 1 for the bias: float32 of shape (n, d + 1)."""
    inputs = np.ones((len(vectors), vectors.shape[1] + 1), dtype=np.float32)
    centred = inputs[:, :-1]
    np.subtract(vectors, vectors.mean(axis=0, dtype=np.float64), out=centred, casting="same_kind")
    scale = np.sqrt(np.einsum("ij,ij->i", centred, centred).mean(dtype=np.float64))
    centred /= scale or 1
    return inputs


def _errors(inputs: np.ndarray, targets: np.ndarray, epochs: int, rng: np.random.Generator) -> np.ndarray:
    """Trains one softmax probe by stochastic gradient descent; probabilities less targets, of shape (n, classes)."""
    weights = _START * rng.standard_normal((inputs.shape[1], targets.shape[1]), dtype=np.float32)
    for _ in range(epochs):
        order = rng.permutation(len(inputs))
        for start in range(0, len(inputs), _BATCH):
            batch = order[start : start + _BATCH]
            rows = inputs[batch]
            weights -= _RATE / len(batch) * (rows.T @ (softmax(rows @ weights, axis=1) - targets[batch]))
    return np.asarray(softmax(inputs @ weights, axis=1) - targets)
