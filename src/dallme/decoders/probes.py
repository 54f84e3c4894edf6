"""What a linear probe of the source says of written texts: which class, and how surely."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dallme.decoders.base import Context
from dallme.decoders.written import embed_usable
from dallme.embedders.base import normalize

#: Rows that the probe is trained on, at most; more change its judgement of a text very little.
PROBE_ROWS = 20_000


@dataclass(frozen=True, eq=False)
class Judged:
    """What is known of a text by its vector.

    Attributes:
        vector: Its vector, float32 of shape (d,).
        cosine: Cosine of it to the prototype.
        confidence: The probability that the probe gives to the prototype's class; None where there is one class only.
        agrees: Whether the probe gives it that class; None likewise.
    """

    vector: np.ndarray
    cosine: float
    confidence: float | None
    agrees: bool | None


class Probe:
    """Logistic regression on the vectors of the source."""

    def __init__(self, context: Context, rng: np.random.Generator) -> None:
        """Trains it, on a sample of the rows where there are many."""
        from sklearn.linear_model import LogisticRegression

        self._context, self._model = context, None
        rows = np.sort(rng.permutation(len(context.vectors))[:PROBE_ROWS])
        labels = context.vectors.labels[rows]
        if len(np.unique(labels)) > 1:
            self._model = LogisticRegression(max_iter=1000, random_state=0).fit(context.vectors.vectors[rows], labels)

    def judge(self, texts: Sequence[str], targets: np.ndarray, labels: np.ndarray) -> list[Judged | None]:
        """Judges texts.

        Args:
            texts: n texts.
            targets: The prototype that each is written for, of shape (n, d).
            labels: Its class, of shape (n,).

        Returns:
            What is known of each; None for one that the embedder can make nothing of.
        """
        vectors = embed_usable(self._context.embed, list(dict.fromkeys(texts)))
        known = [place for place, text in enumerate(texts) if text in vectors]
        found: list[Judged | None] = [None] * len(texts)
        if not known:
            return found
        own = np.stack([vectors[texts[place]] for place in known])
        cosines = np.einsum("ij,ij->i", own, normalize(targets[known]))
        confidence, agrees = self._confidence(own, labels[known])
        for row, place in enumerate(known):
            found[place] = Judged(own[row], float(cosines[row]), confidence[row], agrees[row])
        return found

    def _confidence(self, vectors: np.ndarray, labels: np.ndarray) -> tuple[list[Any], list[Any]]:
        if self._model is None:
            return [None] * len(vectors), [None] * len(vectors)
        table, classes = self._model.predict_proba(vectors), self._model.classes_
        columns = np.searchsorted(classes, labels)
        right = columns < len(classes)
        right &= classes[np.minimum(columns, len(classes) - 1)] == labels  # the sample may lack a rare class
        own = np.where(right, table[np.arange(len(labels)), np.minimum(columns, len(classes) - 1)], 0.0)
        return own.tolist(), (classes[table.argmax(axis=1)] == labels).tolist()
