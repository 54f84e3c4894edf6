"""What each word says about each class, and how well a few texts teach it: the linear models behind the extractive decoder."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import MultinomialNB
from sklearn.svm import LinearSVC

from dallme.decoders.base import Context
from dallme.errors import InputError
from dallme.text import clean, words

#: Rows on which :class:`Teachability` scores a set of texts.
SCORED_ROWS = 4000

#: Rows times classes up to which a support vector machine is trained for each class: their time grows with that product.
MACHINE_ROWS = 20_000_000

#: Rows that weights are learned from at most, and how many of each class are among them where it has so many: the time and
#: memory of learning grow with them, what is learned hardly does.
LEARNED_ROWS, LEAST_ROWS = 500_000, 10

#: What each word is worth for each class, of shape (classes, w): sparse where there are so many classes that it has to be.
ClassWeights: TypeAlias = "np.ndarray | csr_matrix"


@dataclass(frozen=True, eq=False)
class WordCounts:
    """How often each word stands in source texts.

    Attributes:
        vectorizer: Turns texts into word counts.
        rows: Positions of the source texts that were counted, ascending, int64 of shape (n,).
        counts: Word counts of those texts, float32 of shape (n, w).
    """

    vectorizer: CountVectorizer
    rows: np.ndarray
    counts: csr_matrix

    @classmethod
    def of(cls, texts: Sequence[str], rows: np.ndarray) -> WordCounts:
        """Counts the words of the texts at `rows`.

        Words that stand in one text only are left out where that leaves any: they cannot teach anything about other texts.

        Raises:
            InputError: If there is nothing but HTML in the texts.
        """
        vectorizer = CountVectorizer(tokenizer=_tokenizer(texts), token_pattern=None, dtype=np.float32)
        counts = vectorizer.fit_transform(clean(texts[row]) for row in rows.tolist())
        shared = np.flatnonzero(np.bincount(counts.indices, minlength=counts.shape[1]) > 1)
        if shared.size:
            counts = counts[:, shared]
            kept = vectorizer.get_feature_names_out()[shared]
            vectorizer = CountVectorizer(
                vocabulary=kept, tokenizer=vectorizer.tokenizer, token_pattern=None, dtype=np.float32
            )
        return cls(vectorizer, rows, counts)


@dataclass(frozen=True, eq=False)
class WordWeights:
    """Weights of words for classes, learned from the full data.

    Attributes:
        vectorizer: Turns texts into word counts.
        rows: Positions of the source texts that the weights were learned from, ascending, int64 of shape (n,); all of them, up to
            :data:`LEARNED_ROWS`.
        counts: Word counts of those texts, of shape (n, w).
        weights: Weight of each word for each class, float32 of shape (classes, w); negative where it speaks against it. With many
            classes it is sparse and holds what speaks for them alone.
        classes: Class ids, in the order of the rows of `weights`.
    """

    vectorizer: CountVectorizer
    rows: np.ndarray
    counts: csr_matrix
    weights: ClassWeights
    classes: np.ndarray

    @classmethod
    def of(cls, context: Context, rng: np.random.Generator) -> WordWeights:
        """What :meth:`learn` learns from the source of a context, whose words are counted once for all decoders and seeds."""

        def count(texts: Sequence[str], rows: np.ndarray) -> WordCounts:
            if len(rows) < len(texts):  # drawn at random, others the next time
                return WordCounts.of(texts, rows)
            return context.once("word counts", lambda: WordCounts.of(texts, rows))

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

        With more than :data:`MACHINE_ROWS` rows times classes the weight of a word is its mean TF-IDF in the class minus that
        in all rows (Rocchio 1971, "Relevance Feedback in Information Retrieval"), which takes one pass over the rows.

        Args:
            texts: n texts.
            labels: Class id of each, int64 of shape (n,).
            rng: Source of randomness.
            count: Counts the words of the texts at some positions.

        Raises:
            InputError: If there is one class only, or nothing but HTML in the texts.
        """
        classes, places = np.unique(labels, return_inverse=True)
        if len(classes) < 2:
            raise InputError(
                "expected texts of at least two classes, found one; no word tells it from another"
            )
        rows = _drawn(places, rng)
        counted = count(texts, rows)
        vectorizer, counts, labels, places = counted.vectorizer, counted.counts, labels[rows], places[rows]
        tfidf, seed = TfidfTransformer().fit_transform(counts), int(rng.integers(2**31))
        if len(labels) * len(classes) > MACHINE_ROWS:
            return cls(vectorizer, rows, counts, _centroids(tfidf, places, len(classes)), classes)
        machine = LinearSVC(C=0.1, random_state=seed).fit(tfidf, labels)
        weights = machine.coef_ if len(classes) > 2 else np.vstack([-machine.coef_, machine.coef_])
        return cls(vectorizer, rows, counts, weights.astype(np.float32), classes)

    @property
    def useful(self) -> ClassWeights:
        """The weights that speak for a class, 0 elsewhere; of the shape and kind of `weights`."""
        return self.weights if isinstance(self.weights, csr_matrix) else np.maximum(self.weights, 0)


def row_of(worth: ClassWeights, place: int) -> np.ndarray:
    """What each word is worth for the class at `place`, of shape (w,)."""
    row: np.ndarray = worth[[place]].toarray()[0] if isinstance(worth, csr_matrix) else worth[place]
    return row


def _drawn(places: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Positions of the rows to learn from, ascending: all, or some of each class; from the class of each, of shape (n,)."""
    if len(places) <= LEARNED_ROWS:
        return np.arange(len(places))
    order = rng.permutation(len(places))
    order = order[np.argsort(places[order], kind="stable")]  # class by class, within each at random
    sizes = np.bincount(places)
    ranks = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    wanted = np.maximum(LEAST_ROWS, sizes * (LEARNED_ROWS / len(places)))
    return np.sort(order[ranks < np.repeat(wanted, sizes)])


def _centroids(tfidf: csr_matrix, places: np.ndarray, count: int) -> csr_matrix:
    """By how much the mean of each class exceeds that of all rows, where it does; sparse, float32 of shape (count, w)."""
    sizes = np.bincount(places, minlength=count)
    ones = (1 / sizes[places]).astype(np.float32)
    means = csr_matrix((ones, (places, np.arange(len(places)))), shape=(count, len(places))) @ tfidf
    overall = np.asarray(tfidf.mean(axis=0), dtype=np.float32).ravel()
    means.data = np.maximum(means.data - overall[means.indices], 0)
    means.eliminate_zeros()
    return means


def _tokenizer(texts: Sequence[str]) -> Callable[[str], list[str]]:
    """What finds words as the linear classifiers read them; single signs where no text has such a word."""
    for tokenizer in (words, re.compile(r"\S").findall):
        if any(
            tokenizer(clean(text).lower()) for text in texts
        ):  # in lower case, as CountVectorizer hands them over
            return tokenizer
    raise InputError(f"expected words in at least one of {len(texts)} texts, found nothing but HTML")


class Teachability:
    """Scores a few labelled texts by what classifiers learn from them: mean accuracy on rows of the source.

    Logistic regression and naive Bayes over TF-IDF are trained on the texts alone, so a score takes some hundredths of a second.
    """

    def __init__(self, words: WordWeights, labels: np.ndarray, rng: np.random.Generator) -> None:
        """Draws the rows to score on, of those that the words were learned from; `labels` are those of all rows."""
        rows = np.sort(rng.permutation(len(words.rows))[:SCORED_ROWS])
        self._counts, self._labels, self._vectorizer = (
            words.counts[rows],
            labels[words.rows[rows]],
            words.vectorizer,
        )

    def score(self, texts: Sequence[str], labels: np.ndarray) -> float:
        """Mean accuracy, between 0 and 1, of the two classifiers trained on the texts; 0 if the texts teach nothing."""
        counts = self._vectorizer.transform(texts)
        occurring = np.unique(counts.indices)
        if not occurring.size or len(np.unique(labels)) < 2:
            return 0.0
        tfidf = TfidfTransformer().fit(counts[:, occurring])
        train, test = tfidf.transform(counts[:, occurring]), tfidf.transform(self._counts[:, occurring])
        models = (LogisticRegression(max_iter=1000), MultinomialNB())
        return float(
            np.mean([np.mean(model.fit(train, labels).predict(test) == self._labels) for model in models])
        )
