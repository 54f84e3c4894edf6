"""One natural row for each prototype, chosen jointly for a linear classifier on the vectors."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.special import log_softmax
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from dallme.data import DecodedText, Prototypes, rows_of_classes
from dallme.decoders.base import Context, Decoder, DecodingResult
from dallme.decoders.nearest import first_sentences, nearest_unused
from dallme.embedders.base import normalize
from dallme.errors import InputError
from dallme.validation import check_positive

#: Maximum number of rows that the held-out loss is measured on.
HELD_OUT_ROWS = 4_000

#: Maximum number of exact evaluations per prototype and pass, and of floating-point operations in total.
_EVALUATIONS, _OPERATIONS = 8, 2e11

#: Folds of the probes that decide whether a row's text agrees with its label.
_FOLDS = 5

#: Most rows that such a probe is trained on, besides a few of each class.
PROBE_ROWS = 20_000


@dataclass(frozen=True)
class SelectDecoder(Decoder):
    """Takes one row of each cluster, chosen jointly for a linear classifier on the vectors.

    A ridge classifier on the vectors X of the chosen rows has the closed form ``A = (XX' + ridge I)^-1 Y``.
    Its scores on held-out rows of the source, divided by a fitted temperature, give a cross-entropy.
    Coordinate descent replaces one row at a time by another of its cluster. The gradient of the loss ranks
    the candidates, the best few are evaluated exactly, and a swap that lowers the loss is accepted. It starts
    from the row nearest to each prototype.

    Rows whose text contradicts their label are excluded first: two cross-fitted probes, one on the words
    that fit the token limit and one on the vectors, must give the label the highest probability. Long rows
    are cut after the last whole sentence within the token limit.

    Prefer it for linear heads on an embedding model and for prompts: its texts are whole and natural.
    Classifiers that count words learn more from `teaching`.

    Attributes:
        passes: Maximum number of passes over the prototypes, at least 1; it stops when nothing changes.
        ridge: Ridge penalty; the vectors have length 1.
        consistent: Whether to exclude rows whose text contradicts their label.
        language: ISO 639-1 code, for sentence boundaries.
    """

    passes: int = 3
    ridge: float = 3.0
    consistent: bool = True
    language: str = "en"

    def __post_init__(self) -> None:
        """Checks the options."""
        check_positive(self.passes, "passes")
        if not self.ridge > 0:
            raise InputError(f"expected a ridge penalty above 0, found {self.ridge!r}")

    def _decode(self, prototypes: Prototypes, context: Context, rng: np.random.Generator) -> DecodingResult:
        vectors = normalize(context.vectors.vectors)
        held_out = _held_out_rows(context.vectors.labels, rng)
        agreeing = (
            context.cached(("select", context.max_tokens), lambda: consistent_rows(context))
            if self.consistent
            else None
        )
        clusters = _candidates(prototypes, context, agreeing, held_out)
        nearest = zip(clusters, normalize(prototypes.vectors), strict=True)
        start = np.array([rows[int(np.argmax(vectors[rows] @ centroid))] for rows, centroid in nearest])
        loss = _HeldOutLoss(vectors, context.vectors.labels, prototypes.labels, held_out, self.ridge)
        chosen = self._descend(loss, clusters, start, context, rng)
        texts = [_cut(row, context, self.language) for row in chosen.tolist()]
        return DecodingResult(tuple(_distinct(texts, prototypes, context, self.language)))

    def _descend(
        self,
        loss: _HeldOutLoss,
        clusters: list[np.ndarray],
        start: np.ndarray,
        context: Context,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """Coordinate descent over the prototypes."""
        chosen, texts, best = start.copy(), context.source.texts, loss.value(start)
        cost = len(chosen) ** 3 / 3 + len(loss.rows) * (len(chosen) * loss.classes + loss.dimension)
        count = int(np.clip(_OPERATIONS / (cost * len(chosen) * self.passes), 1, _EVALUATIONS))
        with context.progress.task("choosing rows", total=self.passes * len(chosen)) as task:
            for _ in range(self.passes):
                changed = False
                for at in rng.permutation(len(chosen)).tolist():
                    used = {texts[row] for other, row in enumerate(chosen.tolist()) if other != at}
                    for row in loss.most_promising(chosen, at, clusters[at], count):
                        if texts[row] in used:
                            continue
                        trial = chosen.copy()
                        trial[at] = row
                        value = loss.value(trial)
                        if value < best - 1e-7:
                            chosen, best, changed = trial, value, True
                    task.advance()
                if not changed:
                    break
        return chosen


class _HeldOutLoss:
    """Cross-entropy on held-out rows of a ridge classifier trained on chosen rows.

    Attributes:
        rows: Positions of the held-out rows.
        classes: Number of classes.
        dimension: Length of a vector.
    """

    def __init__(
        self, vectors: np.ndarray, labels: np.ndarray, wanted: np.ndarray, rows: np.ndarray, ridge: float
    ) -> None:
        ids = np.unique(wanted)
        rows = rows[np.isin(labels[rows], ids)]
        self.rows, self.classes, self.dimension = rows, len(ids), vectors.shape[1]
        self._vectors, self._held_out, self._ridge = vectors, vectors[rows].astype(np.float64), ridge
        targets = (wanted[:, None] == ids).astype(np.float64)
        self._targets = targets - targets.mean(axis=0)
        self._truth = np.searchsorted(ids, labels[rows])

    def value(self, chosen: np.ndarray) -> float:
        """Returns the loss of a selection at its best temperature."""
        return self._solve(chosen)[0]

    def most_promising(self, chosen: np.ndarray, at: int, candidates: np.ndarray, count: int) -> list[int]:
        """Returns the candidates that lower the loss most by its gradient, the most promising first."""
        _, inputs, factor, weights, errors = self._solve(chosen)
        by_scores = self._held_out.T @ (errors @ weights[at])
        adjoint = cho_solve(factor, (self._held_out @ inputs.T).T @ errors)
        by_kernel = (adjoint[at] @ weights.T + weights[at] @ adjoint.T) @ inputs
        gains = self._vectors[candidates] @ (by_scores - by_kernel).astype(np.float32)
        order = np.argsort(gains, kind="stable")
        return [int(row) for row in candidates[order[: count + 1]] if row != chosen[at]][:count]

    def _solve(
        self, chosen: np.ndarray
    ) -> tuple[float, np.ndarray, tuple[np.ndarray, bool], np.ndarray, np.ndarray]:
        """Returns the loss, inputs, factor of the kernel, dual weights, and gradient by the scores."""
        inputs = self._vectors[chosen].astype(np.float64)
        factor = cho_factor(inputs @ inputs.T + self._ridge * np.eye(len(inputs)))
        weights = cho_solve(factor, self._targets)
        scores = self._held_out @ (inputs.T @ weights)
        loss, scale = self._calibrated(scores)
        errors = np.exp(log_softmax(scale * scores, axis=1))
        errors[np.arange(len(errors)), self._truth] -= 1
        return loss, inputs, factor, weights, errors * (scale / len(errors))

    def _calibrated(self, scores: np.ndarray) -> tuple[float, float]:
        """Returns the smallest cross-entropy over a grid of inverse temperatures, and that temperature."""
        spread = float(scores.std()) or 1.0
        losses = {}
        for scale in (0.5, 1.0, 2.0, 4.0):
            logs = log_softmax(scale / spread * scores, axis=1)
            losses[scale / spread] = float(-logs[np.arange(len(logs)), self._truth].mean())
        best = min(losses, key=lambda scale: losses[scale])
        return losses[best], best


def consistent_rows(context: Context) -> np.ndarray:
    """Finds the rows whose text agrees with their label.

    Two probes are cross-fitted, one on the TF-IDF of the words within the token limit, one on the vectors.
    Both must give the row's own label the highest probability.

    Returns:
        Booleans of shape (n,); all True where a class has too few rows to cross-fit.
    """
    labels, counts = context.vectors.labels, context.vectors.class_counts
    consistent = np.ones(len(labels), dtype=bool)
    if min(counts.values()) < _FOLDS or len(counts) < 2:
        return consistent
    visible = [" ".join(text.split()[: context.max_tokens]) for text in context.source.texts]
    with suppress(ValueError):  # no word occurs twice
        tfidf = TfidfVectorizer(sublinear_tf=True, min_df=2).fit_transform(visible)
        consistent &= _cross_fitted(tfidf, labels) == labels
    consistent &= _cross_fitted(normalize(context.vectors.vectors), labels) == labels
    return consistent


def _cross_fitted(features: Any, labels: np.ndarray) -> np.ndarray:
    """Predicts each row with a logistic regression that was trained on other rows, of shape (n,)."""
    predicted = np.empty_like(labels)
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=0)
    for train, test in folds.split(np.zeros(len(labels)), labels):
        if len(train) > PROBE_ROWS:
            rare = np.concatenate([rows[:_FOLDS] for rows in rows_of_classes(labels[train]).values()])
            drawn = np.random.default_rng(0).choice(len(train), PROBE_ROWS, replace=False)
            train = train[np.union1d(rare, drawn)]
        probe = LogisticRegression(max_iter=300).fit(features[train], labels[train])
        predicted[test] = probe.predict(features[test])
    return predicted


def _held_out_rows(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draws at most half of the rows at random; returns sorted positions."""
    count = min(HELD_OUT_ROWS, len(labels) // 2)
    return np.sort(rng.permutation(len(labels))[: max(1, count)])


def _candidates(
    prototypes: Prototypes, context: Context, agreeing: np.ndarray | None, held_out: np.ndarray
) -> list[np.ndarray]:
    """Returns the candidate rows of each cluster: consistent and not held out, if there are any."""
    free = np.ones(len(context.source), dtype=bool)
    free[held_out] = False
    preferences = (
        [free, np.ones_like(free)] if agreeing is None else [free & agreeing, free, np.ones_like(free)]
    )
    clusters = []
    for members, label in zip(prototypes.members, prototypes.labels.tolist(), strict=True):
        rows = members if len(members) else context.vectors.rows_of(label)
        mask = next(mask for mask in preferences if mask[rows].any())
        clusters.append(rows[mask[rows]])
    return clusters


def _cut(row: int, context: Context, language: str) -> DecodedText | None:
    """Returns a row as a text within the token limit; None if nothing of it fits."""
    return first_sentences(context.source.texts[row], row, context.max_tokens, context.count_tokens, language)


def _distinct(
    texts: list[DecodedText | None], prototypes: Prototypes, context: Context, language: str
) -> list[DecodedText]:
    """Replaces missing texts, and those that their class has already, by the nearest unused row."""
    used: dict[int, set[str]] = {int(label): set() for label in np.unique(prototypes.labels)}
    distinct = []
    for text, vector, label in zip(texts, prototypes.vectors, prototypes.labels.tolist(), strict=True):
        if text is None or text.text in used[label]:
            text = nearest_unused(vector, label, used[label], context, language)
        used[label].add(text.text)
        distinct.append(text)
    return distinct
