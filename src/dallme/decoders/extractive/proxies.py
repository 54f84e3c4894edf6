"""Proxy classifiers: linear models trained on the few texts alone and evaluated on source rows."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import MultinomialNB

from dallme.decoders.extractive.weights import WordWeights

#: Rows on which :class:`ProxyAccuracy` evaluates a set of texts.
ACCURACY_ROWS = 4000

#: Maximum number of rows that :class:`ProxyLoss` draws, and the tenths of them that it uses. The rest is
#: unused: earlier versions evaluated on it, and a seed must give the same texts.
LOSS_ROWS, LOSS_TENTHS = 25_000, 8

#: Maximum number of entries of a matrix of rows and classes.
_MAX_ENTRIES = 5_000_000

#: Inverse temperatures for calibration: classifiers trained on a few texts are underconfident.
_INVERSE_TEMPERATURES = np.geomspace(1, 300, 12)


@dataclass(frozen=True, eq=False)
class ProxyClassifiers:
    """Logistic regression and naive Bayes over TF-IDF, trained on a few texts.

    Attributes:
        columns: Columns of the word counts that occur in the texts, ascending.
        tfidf: TF-IDF fitted on the texts.
        models: The two classifiers.
    """

    columns: np.ndarray
    tfidf: TfidfTransformer
    models: tuple[LogisticRegression, MultinomialNB]

    @classmethod
    def fit(
        cls, counts: csr_matrix, labels: np.ndarray, *, max_iter: int = 1000, tol: float = 1e-4
    ) -> ProxyClassifiers:
        """Trains the classifiers.

        Args:
            counts: Word counts of the m texts, of shape (m, w), with words in at least two classes.
            labels: Class of each text, of shape (m,).
            max_iter: Maximum number of iterations of logistic regression.
            tol: Tolerance of logistic regression.
        """
        columns = np.unique(counts.indices)
        tfidf = TfidfTransformer().fit(counts[:, columns])
        train = tfidf.transform(counts[:, columns])
        regression, bayes = LogisticRegression(max_iter=max_iter, tol=tol), MultinomialNB()
        with warnings.catch_warnings():
            # One text per class is intended, so the warning does not apply.
            warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
            return cls(columns, tfidf, (regression.fit(train, labels), bayes.fit(train, labels)))

    def accuracy(self, counts: csr_matrix, labels: np.ndarray) -> float:
        """Returns the mean accuracy of the two classifiers on rows."""
        rows = self.tfidf.transform(counts[:, self.columns])
        return float(np.mean([np.mean(model.predict(rows) == labels) for model in self.models]))

    def scores(self, rows: LossRows, classes: int) -> list[np.ndarray]:
        """Returns the scores of each classifier for rows and classes, each float32 of shape (n, classes).

        The idf and the row lengths are folded into the weights and a division; no TF-IDF of the rows is made.
        """
        idf, counts = self.tfidf.idf_, rows.counts[:, self.columns]
        lengths = np.sqrt(rows.squares[:, self.columns] @ idf**2)
        lengths[lengths == 0] = 1
        regression, bayes = self.models
        weights, intercept = regression.coef_, regression.intercept_
        if len(weights) == 1:
            weights, intercept = (
                np.vstack([-weights, weights]) / 2,
                np.concatenate([-intercept, intercept]) / 2,
            )
        scores = []
        for coefficients, offsets, known in (
            (weights, intercept, regression.classes_),
            (bayes.feature_log_prob_, bayes.class_log_prior_, bayes.classes_),
        ):
            table = np.full((len(rows.labels), classes), -1e3, dtype=np.float32)
            table[:, known] = (counts @ (coefficients * idf).T) / lengths[:, None] + offsets
            scores.append(table)
        return scores


def vector_probe() -> LogisticRegression:
    """Returns an untrained logistic regression for vectors, the same as the classifier ``embedding-lr``."""
    return LogisticRegression(max_iter=1000, random_state=0)


class ProxyAccuracy:
    """Scores a few labelled texts by the accuracy of proxy classifiers on a sample of source rows."""

    def __init__(self, words: WordWeights, labels: np.ndarray, rng: np.random.Generator) -> None:
        """Draws the rows.

        Args:
            words: The vocabulary and word counts of the source.
            labels: Class ids of all source rows.
            rng: Source of randomness.
        """
        rows = np.sort(rng.permutation(len(words.rows))[:ACCURACY_ROWS])
        self._counts, self._labels = words.counts[rows], labels[words.rows[rows]]
        self._vectorizer = words.vectorizer

    def score(self, texts: Sequence[str], labels: np.ndarray) -> float:
        """Returns the mean accuracy, in [0, 1]; 0 if the texts have no known word or one class only."""
        counts = self._vectorizer.transform(texts)
        if not counts.nnz or len(np.unique(labels)) < 2:
            return 0.0
        return ProxyClassifiers.fit(counts, labels).accuracy(self._counts, self._labels)


@dataclass(frozen=True, eq=False)
class LossRows:
    """Source rows that the loss is computed on.

    Attributes:
        counts: Word counts, of shape (n, w), in columns.
        squares: Their squares.
        labels: Position of the class of each row, int64 of shape (n,).
    """

    counts: csr_matrix
    squares: csr_matrix
    labels: np.ndarray

    @classmethod
    def of(cls, counts: csr_matrix, labels: np.ndarray) -> LossRows:
        """Prepares rows from their word counts and classes."""
        return cls(counts.tocsc(), counts.multiply(counts).tocsc(), labels)


class ProxyLoss:
    """The loss of proxy classifiers on source rows, as a function of the texts they are trained on.

    The loss is the cross-entropy of their calibrated probabilities. Its gradient is taken by the weights of
    the words, as in gradient boosting (Friedman 2001, "Greedy Function Approximation").
    """

    def __init__(self, counts: csr_matrix, labels: np.ndarray, rng: np.random.Generator) -> None:
        """Draws the rows.

        Args:
            counts: Word counts of the source, of shape (n, w).
            labels: Position of the class of each row, int64 of shape (n,).
            rng: Source of randomness.
        """
        self._classes = int(labels.max()) + 1
        drawn = rng.permutation(len(labels))[: max(1000, min(LOSS_ROWS, _MAX_ENTRIES // self._classes))]
        rows = np.sort(drawn[: max(1, len(drawn) * LOSS_TENTHS // 10)])
        self._rows = LossRows.of(counts[rows], labels[rows])
        self._tfidf = TfidfTransformer().fit(counts).transform(counts[rows]).T.tocsr().astype(np.float32)

    def negative_gradient(self, counts: csr_matrix, labels: np.ndarray) -> np.ndarray:
        """Returns the negative gradient of each class's loss with respect to the weight of each word.

        Args:
            counts: Word counts of the m texts, of shape (m, w).
            labels: Position of the class of each text, int64 of shape (m,).

        Returns:
            float32 of shape (classes, w). All 0 if fewer than two classes have a word: nothing can be trained
            on that.
        """
        if len(np.unique(labels[np.diff(counts.indptr) > 0])) < 2:
            return np.zeros((self._classes, counts.shape[1]), dtype=np.float32)
        proxies = ProxyClassifiers.fit(counts, labels, max_iter=300, tol=1e-3)
        truth = self._rows.labels
        residuals = np.zeros((len(truth), self._classes), dtype=np.float32)
        for scores in proxies.scores(self._rows, self._classes):
            residuals -= calibrate(scores, truth)[1]
        residuals[np.arange(len(truth)), truth] += len(proxies.models)
        gradient: np.ndarray = (self._tfidf @ residuals).T
        return gradient


def calibrate(scores: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
    """Chooses the inverse temperature with the least mean cross-entropy.

    Args:
        scores: Of shape (n, classes).
        labels: Position of the class of each row, of shape (n,).

    Returns:
        The cross-entropy, in nats, and the probabilities at that temperature, of shape (n, classes).
    """
    scores = scores - scores.max(axis=1, keepdims=True)
    own = scores[np.arange(len(labels)), labels]
    best, chosen = np.inf, 1.0
    for inverse_temperature in _INVERSE_TEMPERATURES.tolist():
        partition = np.exp(inverse_temperature * scores).sum(axis=1)
        loss = float(np.mean(np.log(partition) - inverse_temperature * own))
        if loss >= best:
            break
        best, chosen = loss, inverse_temperature
    probabilities = np.exp(chosen * scores)
    return best, probabilities / probabilities.sum(axis=1, keepdims=True)
