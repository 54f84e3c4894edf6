"""What each word says about each class, and how well a few texts teach it: the linear models behind the extractive decoder."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import MultinomialNB
from sklearn.svm import LinearSVC

from dallme.errors import InputError
from dallme.text import clean, words

#: Rows on which :class:`Teachability` scores a set of texts.
SCORED_ROWS = 4000


@dataclass(frozen=True, eq=False)
class WordWeights:
    """Weights of words for classes, learned from the full data.

    Attributes:
        vectorizer: Turns texts into word counts.
        counts: Word counts of the source texts, of shape (n, w).
        weights: Weight of each word for each class, float32 of shape (classes, w); negative where it speaks against it.
        classes: Class ids, in the order of the rows of `weights`.
    """

    vectorizer: CountVectorizer
    counts: csr_matrix
    weights: np.ndarray
    classes: np.ndarray

    @classmethod
    def learn(cls, texts: Sequence[str], labels: np.ndarray, rng: np.random.Generator) -> WordWeights:
        """Fits a linear support vector machine over TF-IDF, one class against the rest.

        Words that stand in one text only are left out where that leaves any: they cannot teach anything about other texts.

        Raises:
            InputError: If there is one class only, or nothing but HTML in the texts.
        """
        if len(np.unique(labels)) < 2:
            raise InputError("expected texts of at least two classes, found one; no word tells it from another")
        vectorizer = CountVectorizer(tokenizer=_tokenizer(texts), token_pattern=None, dtype=np.float32)
        counts = vectorizer.fit_transform(clean(text) for text in texts)
        shared = np.flatnonzero(np.bincount(counts.indices, minlength=counts.shape[1]) > 1)
        if shared.size:
            counts = counts[:, shared]
            kept = vectorizer.get_feature_names_out()[shared]
            vectorizer = CountVectorizer(vocabulary=kept, tokenizer=vectorizer.tokenizer, token_pattern=None, dtype=np.float32)
        machine = LinearSVC(C=0.1, random_state=int(rng.integers(2**31)))
        machine.fit(TfidfTransformer().fit_transform(counts), labels)
        weights = machine.coef_ if len(machine.classes_) > 2 else np.vstack([-machine.coef_, machine.coef_])
        return cls(vectorizer, counts, weights.astype(np.float32), machine.classes_)


def _tokenizer(texts: Sequence[str]) -> Callable[[str], list[str]]:
    """What finds words as the linear classifiers read them; single signs where no text has such a word."""
    for tokenizer in (words, re.compile(r"\S").findall):
        if any(tokenizer(clean(text)) for text in texts):
            return tokenizer
    raise InputError(f"expected words in at least one of {len(texts)} texts, found nothing but HTML")


class Teachability:
    """Scores a few labelled texts by what classifiers learn from them: mean accuracy on rows of the source.

    Logistic regression and naive Bayes over TF-IDF are trained on the texts alone, so a score takes some hundredths of a second.
    """

    def __init__(self, words: WordWeights, labels: np.ndarray, rng: np.random.Generator) -> None:
        """Draws the rows to score on."""
        rows = np.sort(rng.permutation(len(labels))[:SCORED_ROWS])
        self._counts, self._labels, self._vectorizer = words.counts[rows], labels[rows], words.vectorizer

    def score(self, texts: Sequence[str], labels: np.ndarray) -> float:
        """Mean accuracy, between 0 and 1, of the two classifiers trained on the texts; 0 if the texts teach nothing."""
        counts = self._vectorizer.transform(texts)
        occurring = np.unique(counts.indices)
        if not occurring.size or len(np.unique(labels)) < 2:
            return 0.0
        tfidf = TfidfTransformer().fit(counts[:, occurring])
        train, test = tfidf.transform(counts[:, occurring]), tfidf.transform(self._counts[:, occurring])
        models = (LogisticRegression(max_iter=1000), MultinomialNB())
        return float(np.mean([np.mean(model.fit(train, labels).predict(test) == self._labels) for model in models]))
