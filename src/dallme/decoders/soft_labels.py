"""Soft labels: class probabilities of the texts by probes that were trained on the source."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from dallme.decoders.base import Context
from dallme.decoders.extractive.proxies import vector_probe
from dallme.decoders.passages import visible_words
from dallme.decoders.select import PROBE_ROWS
from dallme.embedders.base import normalize

#: Share of the true label in a soft label; the teachers' probabilities are the rest.
TRUE_SHARE = 0.5

#: Rows of each class that stay in a sample of the source.
_KEPT = 5


def soft_labels(texts: Sequence[str], labels: np.ndarray, quoted: np.ndarray, context: Context) -> np.ndarray:
    """Computes soft labels.

    Two teachers are trained on the source: logistic regression on the words that fit the token limit, and,
    with an embedder, on the vectors. Rows that the texts quote are left out, so that no teacher has seen the
    label of what it is asked about. A soft label is half the text's own label, half the teachers' mean.

    Reference: Hinton et al., "Distilling the Knowledge in a Neural Network", 2015.

    Args:
        texts: m texts.
        labels: Their class ids, int64 of shape (m,).
        quoted: Positions of the source rows that the texts quote, int64.
        context: The source.

    Returns:
        float64 of shape (m, c), c the number of classes of the source, in ascending order of the ids. Rows
        add up to 1.
    """
    classes = np.array(sorted(context.source.label_names))
    own: np.ndarray = (np.asarray(labels)[:, None] == classes).astype(np.float64)
    rows = _training_rows(context.source.labels, quoted)
    known = context.source.labels[rows]
    if len(np.unique(known)) < 2:
        return own
    columns = np.searchsorted(classes, np.unique(known))
    visible = [visible_words(context.source.texts[row], "first", context.max_tokens) for row in rows.tolist()]
    opinions = []
    words = TfidfVectorizer(sublinear_tf=True)
    try:
        counts = words.fit_transform(visible)
    except ValueError:  # no row has a word
        pass
    else:
        regression = LogisticRegression(max_iter=300).fit(counts, known)
        opinions.append(regression.predict_proba(words.transform(texts)))
    if context.embedder is not None:
        probe = vector_probe().fit(normalize(context.vectors.vectors[rows]), known)
        opinions.append(probe.predict_proba(normalize(context.embed(texts))))
    if not opinions:
        return own
    expected = np.zeros_like(own)
    expected[:, columns] = np.mean(opinions, axis=0)
    return np.asarray(TRUE_SHARE * own + (1 - TRUE_SHARE) * expected)


def _training_rows(labels: np.ndarray, quoted: np.ndarray) -> np.ndarray:
    """Draws the rows that teachers are trained on, ascending: at most PROBE_ROWS and a few of each class."""
    rows: np.ndarray = np.setdiff1d(np.arange(len(labels)), quoted)
    if len(rows) <= PROBE_ROWS:
        return rows
    rng = np.random.default_rng(0)
    rare = [rows[labels[rows] == label][:_KEPT] for label in np.unique(labels[rows])]
    return np.asarray(np.union1d(rng.choice(rows, PROBE_ROWS, replace=False), np.concatenate(rare)))
