"""Detection of planted triggers: words whose labels contradict the rest of their rows.

A backdoor (Gu et al. 2017, "BadNets") puts a rare trigger into some rows of other classes and gives them one
label. A classifier that does not see the trigger predicts the true class of those rows, so it disagrees with
their labels far more often than elsewhere. A binomial test decides whether that is chance.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix
from scipy.stats import binom
from sklearn.feature_extraction.text import CountVectorizer

from dallme.data import LabelledTexts
from dallme.text import clean, words

#: Folds of the source; each is classified by a model of the others.
FOLDS = 5
#: Minimum number of rows of a word.
LEAST_ROWS = 8
#: Maximum number of rows of a trigger, as a share of all; a more frequent word is no secret.
MOST_ROWS = 0.05
#: Minimum share of a word's rows with one label; a trigger makes its rows one class.
PURITY = 0.9
#: Minimum share of a word's rows whose predicted class is not their label.
DISPUTED = 0.5
#: Significance level over all words of a source. The rows of a word are not independent, so the rate of false
#: alarms is higher; a benchmark measures it.
CHANCE = 1e-6


@dataclass(frozen=True)
class Suspect:
    """A word whose rows have a label that contradicts their other words.

    Attributes:
        word: The word, or a pair of adjacent words; of a planted sentence, one of its words.
        label: Class of the rows.
        rows: Their positions in the source.
        disputed: Rows with another predicted class.
        expected: Rows with another predicted class at the error rate of the class.
    """

    word: str
    label: int
    rows: tuple[int, ...]
    disputed: int
    expected: float


def suspects(source: LabelledTexts) -> list[Suspect]:
    """Finds words that may be planted triggers.

    Args:
        source: n texts.

    Returns:
        The words, the most disputed first; none for a source that is too small.
    """
    ids, labels = np.unique(source.labels, return_inverse=True)
    if len(ids) < 2 or len(labels) < FOLDS * LEAST_ROWS:
        return []
    folds = np.random.default_rng(0).permutation(len(labels)) % FOLDS
    return _distinct(list(_suspicious_words(source.texts, labels, ids, folds)))


def _suspicious_words(
    texts: Sequence[str], labels: np.ndarray, ids: np.ndarray, folds: np.ndarray
) -> Iterator[Suspect]:
    """Tests words and pairs of words by a naive Bayes classifier without them."""
    vectorizer = CountVectorizer(
        tokenizer=words,
        token_pattern=None,
        ngram_range=(1, 2),
        min_df=LEAST_ROWS,
        binary=True,
        dtype=np.float64,
    )
    try:
        presence = vectorizer.fit_transform(clean(text) for text in texts)
    except ValueError:  # no word is that frequent
        return
    names = vectorizer.get_feature_names_out()
    single = np.array([" " not in name for name in names])
    evidence = _evidence(presence.multiply(single).tocsr(), labels, folds)
    scores = np.vstack([presence[row] @ evidence[fold] for row, fold in enumerate(folds)])
    base = _errors(scores.argmax(axis=1), labels)
    columns, frequency = presence.tocsc(), presence.sum(axis=0).A1
    rare = np.flatnonzero(frequency <= max(LEAST_ROWS, MOST_ROWS * len(labels)))
    for column in rare:
        rows = columns.indices[columns.indptr[column] : columns.indptr[column + 1]]
        counts = np.bincount(labels[rows])
        label = int(counts.argmax())
        if counts[label] < PURITY * len(rows):
            continue
        own = rows[labels[rows] == label]
        # Words that nearly always occur with it, as in a planted sentence, are excluded as well.
        own_presence = presence[own]
        left_out = np.flatnonzero(single & (PURITY * len(own) <= own_presence.sum(axis=0).A1))
        without = scores[own].copy()
        for fold in range(FOLDS):
            inside = folds[own] == fold
            without[inside] -= own_presence[inside][:, left_out] @ evidence[fold, left_out]
        disputed = int(np.sum(without.argmax(axis=1) != label))
        if _is_significant(disputed, len(own), base[label], len(rare)):
            expected = float(base[label] * len(own))
            yield Suspect(str(names[column]), int(ids[label]), tuple(own.tolist()), disputed, expected)


def _evidence(presence: csr_matrix, labels: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Computes centred log-likelihoods without each fold, float64 of shape (folds, words, classes)."""
    one_hot = np.eye(int(labels.max()) + 1)[labels]
    counts = np.stack([presence[folds == fold].T @ one_hot[folds == fold] for fold in range(FOLDS)])
    others = counts.sum(axis=0) - counts + 1.0
    shares: np.ndarray = np.log(others) - np.log(others.sum(axis=1, keepdims=True))
    centred: np.ndarray = shares - shares.mean(axis=2, keepdims=True)
    return centred


def _errors(predicted: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Computes the error rate of each class, at least 0.01, of shape (classes,)."""
    wrong = np.bincount(labels, weights=predicted != labels) / np.bincount(labels)
    clipped: np.ndarray = np.clip(wrong, 0.01, None)
    return clipped


def _is_significant(disputed: int, rows: int, error: float, tests: int) -> bool:
    if rows < LEAST_ROWS or disputed < DISPUTED * rows:
        return False
    return float(binom.sf(disputed - 1, rows, error)) * tests < CHANCE


def _distinct(suspicious: list[Suspect]) -> list[Suspect]:
    """Keeps the most disputed of words with the same rows, as in one planted sentence."""
    distinct: list[Suspect] = []
    for suspect in sorted(suspicious, key=lambda one: (-one.disputed, one.word)):
        rows = set(suspect.rows)
        if all(len(rows & set(other.rows)) < 0.5 * len(rows) for other in distinct):
            distinct.append(suspect)
    return distinct
