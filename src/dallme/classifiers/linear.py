"""Linear models over TF-IDF (Appendix A.1) and over vectors."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import MultinomialNB
from sklearn.svm import LinearSVC

from dallme.classifiers.base import FittedClassifier, SoftClassifier, fit_sklearn
from dallme.errors import InputError
from dallme.text import words


@lru_cache(maxsize=2)
def _count_words(texts: tuple[str, ...]) -> tuple[csr_matrix, dict[str, int]]:
    """Counts the words of texts; returns the counts and the column of each word.

    Counting takes most of the time. The last two sets, mostly the full data and the test set, are cached:
    every classifier and every candidate set shares them.
    """
    vectorizer = CountVectorizer(tokenizer=words, token_pattern=None, dtype=np.float64)
    try:
        return vectorizer.fit_transform(texts), vectorizer.vocabulary_
    except ValueError:  # no text has a word, which takes two letters or more
        return csr_matrix((len(texts), 0)), {}


@dataclass(frozen=True, eq=False)
class _FittedPipeline(FittedClassifier):
    vocabulary: dict[str, int]
    tfidf: TfidfTransformer
    model: Any

    def _predict(self, texts: list[str]) -> np.ndarray:
        """Predicts with the vocabulary of the training texts; other words are ignored."""
        counts, columns = _count_words(tuple(texts))
        known = [(columns[word], column) for word, column in self.vocabulary.items() if word in columns]
        shape = (counts.shape[1], len(self.vocabulary))
        source, target = np.array(known, dtype=np.int64).reshape(-1, 2).T
        to_vocabulary = csr_matrix((np.ones(len(known)), (source, target)), shape=shape)
        return np.asarray(self.model.predict(self.tfidf.transform(counts @ to_vocabulary)))


@dataclass(frozen=True)
class TfidfClassifier(SoftClassifier):
    """A linear model over TF-IDF; vocabulary and document frequencies are those of the training texts."""

    # Different seeds give the same model, up to the solver's tolerance.
    varies = False

    def _fit_soft(
        self, texts: list[str], labels: np.ndarray, probabilities: np.ndarray | None, seed: int
    ) -> FittedClassifier:
        counts, vocabulary = _count_words(tuple(texts))
        if not vocabulary:
            raise InputError(
                f"expected a word of two letters or more in at least one of {len(texts)} training texts, "
                "found none; use the classifier embedding-lr for such texts"
            )
        tfidf = TfidfTransformer().fit(counts)
        model = fit_sklearn(self._model(seed), tfidf.transform(counts), labels, probabilities)
        return _FittedPipeline(vocabulary, tfidf, model)

    @abstractmethod
    def _model(self, seed: int) -> Any:
        """Makes an untrained scikit-learn model."""


@dataclass(frozen=True)
class LogisticRegressionClassifier(TfidfClassifier):
    """``LogisticRegression`` over TF-IDF (Appendix A.1)."""

    def _model(self, seed: int) -> Any:
        # 100 iterations, the default, do not always suffice; the optimum that more reach is the same.
        return LogisticRegression(max_iter=1000, random_state=seed)


@dataclass(frozen=True)
class LinearSVMClassifier(TfidfClassifier):
    """``LinearSVC`` over TF-IDF (Appendix A.1)."""

    def _model(self, seed: int) -> Any:
        return LinearSVC(random_state=seed)


@dataclass(frozen=True)
class NaiveBayesClassifier(TfidfClassifier):
    """``MultinomialNB`` over TF-IDF (Appendix A.1)."""

    def _model(self, seed: int) -> Any:
        return MultinomialNB()


def linear_probe(seed: int) -> LogisticRegression:
    """Makes the linear classifier for vectors."""
    return LogisticRegression(max_iter=1000, random_state=seed)


@dataclass(frozen=True, eq=False)
class _FittedProbe(FittedClassifier):
    embed: Callable[[Sequence[str]], np.ndarray]
    model: Any

    def _predict(self, texts: list[str]) -> np.ndarray:
        return np.asarray(self.model.predict(self.embed(texts)))


@dataclass(frozen=True)
class EmbeddingLogisticRegression(SoftClassifier):
    """Linear probe: logistic regression on the vectors of a frozen embedder.

    Attributes:
        embed: Maps n texts to vectors, float32 of shape (n, d).
        fingerprint: Returns the hash of the embedder's :class:`~dallme.data.Fingerprint`, or None for unknown
            weights.
    """

    embed: Callable[[Sequence[str]], np.ndarray]
    fingerprint: Callable[[], str | None]

    varies = False

    def describe(self) -> dict[str, Any]:
        """Describes the classifier with the embedder's fingerprint in place of the embedder."""
        return {"class": type(self).__name__, "version": self.version, "fingerprint": self.fingerprint()}

    def _fit_soft(
        self, texts: list[str], labels: np.ndarray, probabilities: np.ndarray | None, seed: int
    ) -> FittedClassifier:
        model = fit_sklearn(linear_probe(seed), self.embed(texts), labels, probabilities)
        return _FittedProbe(self.embed, model)
