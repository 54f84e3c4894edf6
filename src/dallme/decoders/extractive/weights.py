"""Word counts of a source, and the weight of each word for each class."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer
from sklearn.svm import LinearSVC

from dallme.decoders.base import Context
from dallme.errors import InputError
from dallme.text import clean, words

#: Upper bound on rows × classes for a linear SVM per class: its time grows with that product.
MACHINE_ROWS = 20_000_000

#: Maximum number of rows that weights are learned from, and the minimum of each class among them (all, if a
#: class has fewer).
LEARNED_ROWS, LEAST_ROWS = 500_000, 10

#: Weight of each word for each class, of shape (classes, w); sparse if there are many classes.
ClassWeights: TypeAlias = "np.ndarray | csr_matrix"


@dataclass(frozen=True, eq=False)
class WordCounts:
    """Word counts of source texts.

    Attributes:
        vectorizer: Turns texts into word counts.
        rows: Positions of the counted source texts, ascending, int64 of shape (n,).
        counts: Their word counts, float32 of shape (n, w).
    """

    vectorizer: CountVectorizer
    rows: np.ndarray
    counts: csr_matrix

    @classmethod
    def of(cls, texts: Sequence[str], rows: np.ndarray) -> WordCounts:
        """Counts the words of the texts at `rows`.

        Words that occur in one text only are dropped, unless no other word remains.

        Raises:
            InputError: If the texts hold nothing but HTML.
        """
        vectorizer = CountVectorizer(tokenizer=_tokenizer(texts), token_pattern=None, dtype=np.float32)
        counts = vectorizer.fit_transform(clean(texts[row]) for row in rows.tolist())
        shared = np.flatnonzero(np.bincount(counts.indices, minlength=counts.shape[1]) > 1)
        if shared.size:
            counts = counts[:, shared]
            vectorizer = CountVectorizer(
                vocabulary=vectorizer.get_feature_names_out()[shared],
                tokenizer=vectorizer.tokenizer,
                token_pattern=None,
                dtype=np.float32,
            )
        return cls(vectorizer, rows, counts)


@dataclass(frozen=True, eq=False)
class WordWeights:
    """Weights of words for classes, learned from the full data.

    Attributes:
        vectorizer: Turns texts into word counts.
        rows: Positions of the source texts that the weights are learned from, ascending, int64 of shape (n,):
            all of them, up to :data:`LEARNED_ROWS`.
        counts: Word counts of those texts, of shape (n, w).
        weights: Weight of each word for each class, float32 of shape (classes, w); negative if the word is
            evidence against the class. Sparse with many classes, and then without negative weights.
        classes: Class ids, ascending, int64 of shape (classes,).
    """

    vectorizer: CountVectorizer
    rows: np.ndarray
    counts: csr_matrix
    weights: ClassWeights
    classes: np.ndarray

    @classmethod
    def of(cls, context: Context, rng: np.random.Generator) -> WordWeights:
        """Learns weights from the source of a context, and caches its word counts."""

        def count(texts: Sequence[str], rows: np.ndarray) -> WordCounts:
            if len(rows) < len(texts):  # a random sample, another one next time
                return WordCounts.of(texts, rows)
            return context.cached("word counts", lambda: WordCounts.of(texts, rows))

        return cls.learn(context.source.texts, context.vectors.labels, rng, count)

    @classmethod
    def learn(
        cls,
        texts: Sequence[str],
        labels: np.ndarray,
        rng: np.random.Generator,
        count: Callable[[Sequence[str], np.ndarray], WordCounts] = WordCounts.of,
    ) -> WordWeights:
        """Fits a linear support vector machine over TF-IDF, one class against the rest.

        Above :data:`MACHINE_ROWS` rows × classes, the weight of a word is its mean TF-IDF in the class minus
        that in all rows, which takes one pass (Rocchio 1971, "Relevance Feedback in Information Retrieval").

        Args:
            texts: n texts.
            labels: Class id of each, int64 of shape (n,).
            rng: Source of randomness.
            count: Counts the words of the texts at some positions.

        Raises:
            InputError: If there is one class only, or the texts hold nothing but HTML.
        """
        classes, positions = np.unique(labels, return_inverse=True)
        if len(classes) < 2:
            raise InputError("expected texts of at least two classes, found one; word weights need several")
        rows = _sample_rows(positions, rng)
        counted = count(texts, rows)
        vectorizer, counts, labels, positions = (
            counted.vectorizer,
            counted.counts,
            labels[rows],
            positions[rows],
        )
        tfidf, seed = TfidfTransformer().fit_transform(counts), int(rng.integers(2**31))
        if len(labels) * len(classes) > MACHINE_ROWS:
            return cls(vectorizer, rows, counts, _mean_excess(tfidf, positions, len(classes)), classes)
        machine = LinearSVC(C=0.1, random_state=seed).fit(tfidf, labels)
        weights = machine.coef_ if len(classes) > 2 else np.vstack([-machine.coef_, machine.coef_])
        return cls(vectorizer, rows, counts, weights.astype(np.float32), classes)

    @property
    def positive(self) -> ClassWeights:
        """The positive weights, 0 elsewhere; of the shape and kind of `weights`."""
        return self.weights if isinstance(self.weights, csr_matrix) else np.maximum(self.weights, 0)


def row_of(weights: ClassWeights, position: int) -> np.ndarray:
    """Returns the weights of the words for the class at `position`, of shape (w,)."""
    row: np.ndarray = (
        weights[[position]].toarray()[0] if isinstance(weights, csr_matrix) else weights[position]
    )
    return row


def _sample_rows(positions: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns the rows to learn from, ascending: all, or a stratified sample, by the class of each row."""
    if len(positions) <= LEARNED_ROWS:
        return np.arange(len(positions))
    order = rng.permutation(len(positions))
    order = order[np.argsort(positions[order], kind="stable")]  # class by class, within each at random
    sizes = np.bincount(positions)
    ranks = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    wanted = np.maximum(LEAST_ROWS, sizes * (LEARNED_ROWS / len(positions)))
    return np.sort(order[ranks < np.repeat(wanted, sizes)])


def _mean_excess(tfidf: csr_matrix, positions: np.ndarray, count: int) -> csr_matrix:
    """Returns the positive differences of class means to the overall mean, float32 of shape (count, w)."""
    sizes = np.bincount(positions, minlength=count)
    shares = (1 / sizes[positions]).astype(np.float32)
    means = (
        csr_matrix((shares, (positions, np.arange(len(positions)))), shape=(count, len(positions))) @ tfidf
    )
    overall = np.asarray(tfidf.mean(axis=0), dtype=np.float32).ravel()
    means.data = np.maximum(means.data - overall[means.indices], 0)
    means.eliminate_zeros()
    return means


def _tokenizer(texts: Sequence[str]) -> Callable[[str], list[str]]:
    """Returns the linear classifiers' tokenizer, or one of single characters if it finds no word."""
    for tokenizer in (words, re.compile(r"\S").findall):
        # In lower case, as CountVectorizer passes them.
        if any(tokenizer(clean(text).lower()) for text in texts):
            return tokenizer
    raise InputError(f"expected words in at least one of {len(texts)} texts, found nothing but HTML")
