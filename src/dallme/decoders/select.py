"""One natural row for each prototype, chosen jointly for a linear classifier on the vectors."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import log_softmax
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from dallme.data import DecodedText, Prototypes, rows_of_classes
from dallme.decoders.base import Context, Decoder, DecodingResult
from dallme.decoders.nearest import nearest_unused
from dallme.decoders.passages import PASSAGES, cut_passage, visible_words
from dallme.embedders.base import normalize
from dallme.errors import InputError
from dallme.validation import check_positive

#: Maximum number of rows that the held-out loss is measured on.
HELD_OUT_ROWS = 4_000

#: Maximum number of exact evaluations per prototype and pass, and of floating-point operations in total.
_EVALUATIONS, _OPERATIONS = 8, 2e11

#: Smallest decrease of the loss that counts.
_LEAST_GAIN = 1e-7

#: Scores of held-out rows and classes; with many classes fewer rows are held out, but not fewer than these.
_HELD_OUT_SCORES, _LEAST_HELD_OUT = 400_000, 1_000

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
        passage: Part of a row that is longer than the token limit: ``first``, ``last`` or ``ends``
            (:mod:`dallme.decoders.passages`). Other passages than the first are embedded.
        language: ISO 639-1 code, for sentence boundaries.
    """

    passes: int = 3
    ridge: float = 3.0
    consistent: bool = True
    passage: str = "first"
    language: str = "en"

    def __post_init__(self) -> None:
        """Checks the options."""
        check_positive(self.passes, "passes")
        if not self.ridge > 0:
            raise InputError(f"expected a ridge penalty above 0, found {self.ridge!r}")
        if self.passage not in PASSAGES:
            raise InputError(f"expected passage as one of {', '.join(PASSAGES)}, found {self.passage!r}")

    def check(self, context: Context) -> None:
        """Checks that there is an embedder if passages have to be embedded."""
        if self.passage != "first" and context.embedder is None:
            raise InputError(
                f"expected an embedder for the passage {self.passage!r}, found ready vectors of whole rows; "
                "leave the option out"
            )

    def _decode(self, prototypes: Prototypes, context: Context, rng: np.random.Generator) -> DecodingResult:
        vectors = normalize(context.vectors.vectors)
        held_out = _held_out_rows(context.vectors.labels, rng)
        agreeing = (
            context.cached(
                ("select", context.max_tokens, self.passage), lambda: consistent_rows(context, self.passage)
            )
            if self.consistent
            else None
        )
        clusters = _candidates(prototypes, context, agreeing, held_out)
        vectors = self._with_passages(vectors, clusters, context)
        nearest = zip(clusters, normalize(prototypes.vectors), strict=True)
        start = np.array([rows[int(np.argmax(vectors[rows] @ centroid))] for rows, centroid in nearest])
        classifier = _Ridge(vectors, context.vectors.labels, prototypes.labels, held_out, self.ridge, start)
        chosen = self._descend(classifier, clusters, context, rng)
        texts = [self._cut(row, context) for row in chosen.tolist()]
        return DecodingResult(tuple(_distinct(texts, prototypes, context, self.language)))

    def _cut(self, row: int, context: Context) -> DecodedText | None:
        """Returns a row as a text within the token limit; None if nothing of it fits."""
        limit, count = context.max_tokens, context.count_tokens
        return cut_passage(context.source.texts[row], row, self.passage, limit, count, self.language)

    def _with_passages(self, vectors: np.ndarray, clusters: list[np.ndarray], context: Context) -> np.ndarray:
        """Returns the vectors with those of passages in place of the long candidates' own."""
        if self.passage == "first":  # an embedder reads the first tokens of a row
            return vectors
        rows = np.unique(np.concatenate(clusters))
        tokens = context.count_tokens([context.source.texts[row] for row in rows.tolist()])
        long = rows[tokens > context.max_tokens].tolist()
        passages = {row: text.text for row in long if (text := self._cut(row, context)) is not None}
        if passages:
            vectors = vectors.copy()
            vectors[list(passages)] = normalize(context.embed(list(passages.values())))
        return vectors

    def _descend(
        self,
        classifier: _Ridge,
        clusters: list[np.ndarray],
        context: Context,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """Coordinate descent over the prototypes."""
        chosen, texts = classifier.chosen, context.source.texts
        count = int(np.clip(_OPERATIONS / (classifier.cost * len(chosen) * self.passes), 1, _EVALUATIONS))
        with context.progress.task("choosing rows", total=self.passes * len(chosen)) as task:
            for _ in range(self.passes):
                changed = False
                for at in rng.permutation(len(chosen)).tolist():
                    used = {texts[row] for other, row in enumerate(chosen.tolist()) if other != at}
                    promising = classifier.most_promising(at, clusters[at], count)
                    changed |= classifier.replace(at, [row for row in promising if texts[row] not in used])
                    task.advance()
                if not changed:
                    break
        return chosen


class _Ridge:
    """A ridge classifier trained on chosen rows, and its cross-entropy on held-out rows.

    The inverse of the kernel matrix is kept and updated when a row is replaced, so that the loss of another
    choice takes no new factorisation.

    Attributes:
        chosen: Positions of the chosen rows, of shape (m,); :meth:`replace` changes it in place.
        loss: Cross-entropy on the held-out rows, at the best inverse temperature.
        cost: Floating-point operations of one loss.
    """

    def __init__(
        self,
        vectors: np.ndarray,
        labels: np.ndarray,
        wanted: np.ndarray,
        rows: np.ndarray,
        ridge: float,
        chosen: np.ndarray,
    ) -> None:
        """Trains the classifier.

        Args:
            vectors: Vectors of length 1 of the source, of shape (n, d).
            labels: Class ids of the source, of shape (n,).
            wanted: Class id of each chosen row, of shape (m,).
            rows: Positions of the held-out rows.
            ridge: Ridge penalty.
            chosen: Positions of the chosen rows, of shape (m,).
        """
        ids = np.unique(wanted)
        rows = rows[np.isin(labels[rows], ids)][: max(_LEAST_HELD_OUT, _HELD_OUT_SCORES // len(ids))]
        self.chosen, self._vectors, self._ridge = chosen.copy(), vectors, ridge
        self._held_out = vectors[rows].astype(np.float64)
        self._truth = np.searchsorted(ids, labels[rows])
        targets = (wanted[:, None] == ids).astype(np.float64)
        self._targets = targets - targets.mean(axis=0)
        self._inputs = vectors[chosen].astype(np.float64)
        self._inverse = np.linalg.inv(self._inputs @ self._inputs.T + ridge * np.eye(len(chosen)))
        texts, dimension, classes = len(chosen), vectors.shape[1], len(ids)
        self.cost = texts * (texts + dimension * classes) + len(rows) * dimension * classes
        self._weights = self._inverse @ self._targets
        self.loss, self._scale = self._calibrated(self._scores())

    def most_promising(self, at: int, candidates: np.ndarray, count: int) -> list[int]:
        """Returns the candidates that lower the loss most by its gradient, the most promising first."""
        errors = np.exp(log_softmax(self._scale * self._scores(), axis=1))
        errors[np.arange(len(errors)), self._truth] -= 1
        gradient = self._held_out.T @ (errors * (self._scale / len(errors)))
        adjoint = self._inverse @ (self._inputs @ gradient)
        by_kernel = (adjoint[at] @ self._weights.T + self._weights[at] @ adjoint.T) @ self._inputs
        slope = gradient @ self._weights[at] - by_kernel
        gains = self._vectors[candidates] @ slope.astype(np.float32)
        order = np.argsort(gains, kind="stable")
        ranked = [int(row) for row in candidates[order[: count + 1]] if row != self.chosen[at]]
        return ranked[:count]

    def replace(self, at: int, candidates: Sequence[int]) -> bool:
        """Replaces a chosen row by the best of the candidates, if one lowers the loss; returns whether."""
        column, best = self._inverse[:, at], self.loss - _LEAST_GAIN
        others = self._inverse - np.outer(column, column / column[at])  # without the row
        without = others @ self._targets
        found = None
        for row in candidates:
            vector = self._vectors[row].astype(np.float64)
            products = self._inputs @ vector
            direction = others @ products
            complement = vector @ vector + self._ridge - products @ direction
            own = (self._targets[at] - products @ without) / complement
            weights = without - np.outer(direction, own)
            weights[at] = 0
            scores = self._held_out @ (self._inputs.T @ weights + np.outer(vector, own))
            loss, scale = self._calibrated(scores)
            if loss < best:
                best = loss
                weights[at] = own
                found = row, vector, direction, complement, weights, loss, scale
        if found is None:
            return False
        row, vector, direction, complement, self._weights, self.loss, self._scale = found
        direction[at] = -1
        self._inverse = others + np.outer(direction, direction / complement)
        self._inputs[at], self.chosen[at] = vector, row
        return True

    def _scores(self) -> np.ndarray:
        """Returns the scores of the held-out rows, of shape (rows, classes)."""
        return np.asarray(self._held_out @ (self._inputs.T @ self._weights))

    def _calibrated(self, scores: np.ndarray) -> tuple[float, float]:
        """Returns the smallest cross-entropy over a grid of inverse temperatures, and that temperature."""
        spread = float(scores.std()) or 1.0
        losses = {}
        for scale in (0.5, 1.0, 2.0, 4.0):
            logs = log_softmax(scale / spread * scores, axis=1)
            losses[scale / spread] = float(-logs[np.arange(len(logs)), self._truth].mean())
        best = min(losses, key=lambda scale: losses[scale])
        return losses[best], best


def consistent_rows(context: Context, passage: str = "first") -> np.ndarray:
    """Finds the rows whose text agrees with their label.

    Two probes are cross-fitted, one on the TF-IDF of the words of the passage that fits the token limit, one
    on the vectors. Both must give the row's own label the highest probability.

    Returns:
        Booleans of shape (n,); all True where a class has too few rows to cross-fit.
    """
    labels, counts = context.vectors.labels, context.vectors.class_counts
    consistent = np.ones(len(labels), dtype=bool)
    if min(counts.values()) < _FOLDS or len(counts) < 2:
        return consistent
    visible = [visible_words(text, passage, context.max_tokens) for text in context.source.texts]
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
