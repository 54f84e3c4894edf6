"""Rows that somebody may have planted: a word whose labels contradict all else that its rows say.

A backdoor (Gu et al. 2017, "BadNets") puts a rare trigger into some rows of other classes and gives them one label. A classifier
that does not see the trigger gives those rows their true class, and so another than their label, far more often than it errs
elsewhere. How often that would be chance is asked of the binomial distribution.
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

#: Parts of the source; each is judged by what was learned from the others.
FOLDS = 5
#: Fewest rows that hold a word for it to be looked at.
LEAST_ROWS = 8
#: Most rows that hold a trigger, as a share of all: a word of more rows is no secret.
MOST_ROWS = 0.05
#: Share of a word's rows that have one label, at least: a trigger makes its rows one class.
PURITY = 0.9
#: Share of a word's rows that are given another class than their label, at least.
DISPUTED = 0.5
#: The chance that all is well with a source of which something is reported, by the binomial distribution and before rows hang
#: together, as the rows of a word do; the rate of false alarms is measured in benchmarks.
CHANCE = 1e-6


@dataclass(frozen=True)
class Suspect:
    """A word whose rows have a label that contradicts the rest of what they say.

    Attributes:
        word: The word, or two that stand together; of a planted sentence, one of its words.
        label: The class that the rows have.
        rows: Their positions in the source.
        disputed: How many of them are given another class.
        expected: How many would be, were they like the other rows of that class.
    """

    word: str
    label: int
    rows: tuple[int, ...]
    disputed: int
    expected: float


def suspects(source: LabelledTexts) -> list[Suspect]:
    """Looks for planted rows.

    Args:
        source: n texts.

    Returns:
        What was found, that of the most disputed rows first; nothing for a source too small to tell.
    """
    ids, labels = np.unique(source.labels, return_inverse=True)
    if len(ids) < 2 or len(labels) < FOLDS * LEAST_ROWS:
        return []
    folds = np.random.default_rng(0).permutation(len(labels)) % FOLDS
    return _distinct(list(_of_words(source.texts, labels, ids, folds)))


def _of_words(
    texts: Sequence[str], labels: np.ndarray, ids: np.ndarray, folds: np.ndarray
) -> Iterator[Suspect]:
    """Words, and pairs of words, judged by a naive Bayes classifier from which they are taken out."""
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
    except ValueError:  # no word stands in so many rows
        return
    names = vectorizer.get_feature_names_out()
    single = np.array([" " not in name for name in names])
    evidence = _evidence(presence.multiply(single).tocsr(), labels, folds)
    scores = np.vstack([presence[row] @ evidence[fold] for row, fold in enumerate(folds)])
    base = _errors(scores.argmax(axis=1), labels)
    columns, rows_of = presence.tocsc(), presence.sum(axis=0).A1
    looked_at = np.flatnonzero(rows_of <= max(LEAST_ROWS, MOST_ROWS * len(labels)))
    for column in looked_at:
        rows = columns.indices[columns.indptr[column] : columns.indptr[column + 1]]
        counts = np.bincount(labels[rows])
        label = int(counts.argmax())
        if counts[label] < PURITY * len(rows):
            continue
        own = rows[labels[rows] == label]
        # What stands with the word nearly always, as the other words of a planted sentence do, is taken out with it.
        among = presence[own]
        taken = np.flatnonzero(single & (PURITY * len(own) <= among.sum(axis=0).A1))
        without = scores[own].copy()
        for fold in range(FOLDS):
            inside = folds[own] == fold
            without[inside] -= among[inside][:, taken] @ evidence[fold, taken]
        disputed = int(np.sum(without.argmax(axis=1) != label))
        if _is_no_chance(disputed, len(own), base[label], len(looked_at)):
            expected = float(base[label] * len(own))
            yield Suspect(str(names[column]), int(ids[label]), tuple(own.tolist()), disputed, expected)


def _evidence(presence: csr_matrix, labels: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """What each word says for each class to one who has not seen a fold: float64 of shape (folds, words, classes)."""
    one_hot = np.eye(int(labels.max()) + 1)[labels]
    counts = np.stack([presence[folds == fold].T @ one_hot[folds == fold] for fold in range(FOLDS)])
    seen = counts.sum(axis=0) - counts + 1.0
    shares: np.ndarray = np.log(seen) - np.log(seen.sum(axis=1, keepdims=True))
    centred: np.ndarray = shares - shares.mean(axis=2, keepdims=True)
    return centred


def _errors(judged: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Share of the rows of each class that are given another one, of shape (classes,)."""
    wrong = np.bincount(labels, weights=judged != labels) / np.bincount(labels)
    clipped: np.ndarray = np.clip(wrong, 0.01, None)
    return clipped


def _is_no_chance(disputed: int, rows: int, error: float, tests: int) -> bool:
    if rows < LEAST_ROWS or disputed < DISPUTED * rows:
        return False
    return float(binom.sf(disputed - 1, rows, error)) * tests < CHANCE


def _distinct(found: list[Suspect]) -> list[Suspect]:
    """The most disputed of those that speak of the same rows, as the words of one planted sentence do."""
    kept: list[Suspect] = []
    for suspect in sorted(found, key=lambda one: (-one.disputed, one.word)):
        rows = set(suspect.rows)
        if all(len(rows & set(other.rows)) < 0.5 * len(rows) for other in kept):
            kept.append(suspect)
    return kept
