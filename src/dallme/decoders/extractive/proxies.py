"""Classifiers trained on the few texts alone, and what the source rows say they still have to learn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csc_matrix, csr_matrix
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import MultinomialNB

#: Source rows that the students are asked about, at most, and how many of ten are for the gradient; the rest is for the loss.
ASKED_ROWS, OF_TEN = 25_000, 8

#: Most numbers of a table of rows and classes.
_TABLE = 5_000_000

#: Sharpness tried for the probabilities: the scores of a classifier trained on a few texts are far too timid.
_SHARPNESS = np.geomspace(1, 300, 12)


@dataclass(frozen=True, eq=False)
class _Rows:
    """Source rows that the students are asked about.

    Attributes:
        counts: Word counts, of shape (n, w), by columns.
        squares: Their squares.
        truth: Position of the class of each, int64 of shape (n,).
    """

    counts: csc_matrix
    squares: csc_matrix
    truth: np.ndarray

    @classmethod
    def of(cls, counts: csr_matrix, truth: np.ndarray) -> _Rows:
        return cls(counts.tocsc(), counts.multiply(counts).tocsc(), truth)


class ProxyClassifiers:
    """Logistic regression and naive Bayes over TF-IDF, trained on the texts written so far.

    What they get wrong on source rows says, word by word, what the next sentence should teach: the gradient of the loss of
    their calibrated probabilities, as boosting uses it (Friedman 2001, "Greedy Function Approximation"), with respect to the
    weights of the words. The loss itself is taken on other rows than the gradient.
    """

    def __init__(self, counts: csr_matrix, classes: np.ndarray, rng: np.random.Generator) -> None:
        """Draws the rows.

        Args:
            counts: Word counts of the source, of shape (n, w).
            classes: Position of the class of each row, int64 of shape (n,).
            rng: Source of randomness.
        """
        self._classes = int(classes.max()) + 1
        drawn = rng.permutation(len(classes))[: max(1000, min(ASKED_ROWS, _TABLE // self._classes))]
        cut = max(1, len(drawn) * OF_TEN // 10)
        teach, judge = np.sort(drawn[:cut]), np.sort(drawn[cut:] if cut < len(drawn) else drawn)
        self._teach = _Rows.of(counts[teach], classes[teach])
        self._judge = _Rows.of(counts[judge], classes[judge])
        self._tfidf = TfidfTransformer().fit(counts).transform(counts[teach]).T.tocsr().astype(np.float32)

    def gradient(self, counts: csr_matrix, labels: np.ndarray) -> np.ndarray:
        """What each word should still do for each class.

        Args:
            counts: Word counts of the m texts, of shape (m, w).
            labels: Position of the class of each, int64 of shape (m,).

        Returns:
            Float32 of shape (classes, w): positive where more of the word would help the class. All 0 when fewer than two
            classes have a word, since nothing can be trained on that.
        """
        if not _teaches(counts, labels):
            return np.zeros((self._classes, counts.shape[1]), dtype=np.float32)
        wrong = np.zeros((len(self._teach.truth), self._classes), dtype=np.float32)
        for scores in self._scores(counts, labels, self._teach):
            wrong -= _calibrated(scores, self._teach.truth)[1]
        wrong[np.arange(len(wrong)), self._teach.truth] += 2
        gradient: np.ndarray = (self._tfidf @ wrong).T
        return gradient

    def loss(self, counts: csr_matrix, labels: np.ndarray) -> float:
        """Mean cross-entropy, in nats, of the calibrated students on the rows that are not used for the gradient.

        Infinite when fewer than two classes have a word.
        """
        if not _teaches(counts, labels):
            return float("inf")
        scores = self._scores(counts, labels, self._judge)
        return float(np.mean([_calibrated(each, self._judge.truth)[0] for each in scores]))

    def _scores(self, counts: csr_matrix, labels: np.ndarray, rows: _Rows) -> list[np.ndarray]:
        """Scores of each student for rows and classes, each float32 of shape (n, classes).

        The rows are not turned into TF-IDF: idf and length go into the weights and a division, which is the same.
        """
        occurring = np.unique(counts.indices)
        tfidf = TfidfTransformer().fit(counts[:, occurring])
        lessons = tfidf.transform(counts[:, occurring])
        seen = rows.counts[:, occurring]
        length = np.sqrt(rows.squares[:, occurring] @ tfidf.idf_**2)
        length[length == 0] = 1
        regression = LogisticRegression(max_iter=300, tol=1e-3).fit(lessons, labels)
        bayes = MultinomialNB().fit(lessons, labels)
        weights, offset = regression.coef_, regression.intercept_
        if len(weights) == 1:
            weights, offset = np.vstack([-weights, weights]) / 2, np.concatenate([-offset, offset]) / 2
        found = []
        for slope, start, known in (
            (weights, offset, regression.classes_),
            (bayes.feature_log_prob_, bayes.class_log_prior_, bayes.classes_),
        ):
            scores = np.full((len(rows.truth), self._classes), -1e3, dtype=np.float32)
            scores[:, known] = (seen @ (slope * tfidf.idf_).T) / length[:, None] + start
            found.append(scores)
        return found


def _teaches(counts: csr_matrix, labels: np.ndarray) -> bool:
    """Whether at least two classes have a word."""
    return len(np.unique(labels[np.diff(counts.indptr) > 0])) >= 2


def _calibrated(scores: np.ndarray, truth: np.ndarray) -> tuple[float, np.ndarray]:
    """The least mean cross-entropy over the sharpness, and the probabilities that give it, of shape (n, classes)."""
    scores = scores - scores.max(axis=1, keepdims=True)
    own = scores[np.arange(len(truth)), truth]
    best, sharpest = np.inf, 1.0
    for sharpness in _SHARPNESS.tolist():
        loss = float(np.mean(np.log(np.exp(sharpness * scores).sum(axis=1)) - sharpness * own))
        if loss >= best:
            break
        best, sharpest = loss, sharpness
    found = np.exp(sharpest * scores)
    return best, found / found.sum(axis=1, keepdims=True)
