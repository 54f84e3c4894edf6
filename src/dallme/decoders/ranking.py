"""Which draft is kept for each prototype: what probes say of each, and what classifiers learn from all together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dallme.data import DecodedText
from dallme.decoders.words import Teachability

#: Sets that are scored by training classifiers on them, at most; beyond, each draft is judged by itself.
SCORED_SETS = 2000


@dataclass(frozen=True, eq=False)
class Draft:
    """A text that may be kept.

    Attributes:
        text: The text.
        confidence: The probability that a linear probe of the source gives to its class; None if there is none to ask.
        cosine: Cosine of its vector to the prototype; None without an embedder.
    """

    text: DecodedText
    confidence: float | None = None
    cosine: float | None = None

    @property
    def score(self) -> float:
        """Confidence and cosine together; what is not known counts as 0."""
        return (self.confidence or 0.0) + (self.cosine or 0.0)


def choose(drafts: Sequence[Sequence[Draft]], labels: np.ndarray, judge: Teachability | None) -> list[Draft | None]:
    """Chooses a draft for each prototype, none of a text that its class has already.

    The set S is to have a large

        J(S) = T(S) + mean over its texts of (confidence + cosine),

    where T(S) is the mean accuracy, on source rows, of logistic regression and naive Bayes trained on S alone. The start
    is the best free draft of each prototype by itself; then each in turn is replaced by the one that makes J largest.

    Args:
        drafts: The drafts of each of m prototypes.
        labels: Class id of each, of shape (m,).
        judge: Trains the classifiers; None judges each draft by itself.

    Returns:
        m drafts; None where a prototype has no free one.
    """
    chosen: list[Draft | None] = [None] * len(drafts)
    for place in range(len(drafts)):
        free = _free(drafts[place], place, chosen, labels)
        chosen[place] = max(free, key=lambda draft: draft.score, default=None)
    if judge is None or sum(map(len, drafts)) > SCORED_SETS:
        return chosen
    for place in range(len(drafts)):
        free = _free(drafts[place], place, chosen, labels)
        if len(free) > 1:
            totals = [_total(draft, place, chosen, labels, judge) for draft in free]
            chosen[place] = free[int(np.argmax(totals))]
    return chosen


def _free(drafts: Sequence[Draft], place: int, chosen: Sequence[Draft | None], labels: np.ndarray) -> list[Draft]:
    """The drafts of a prototype whose text no other prototype of the class has."""
    taken = {
        other.text.text for row, other in enumerate(chosen) if other is not None and row != place and labels[row] == labels[place]
    }
    return [draft for draft in drafts if draft.text.text not in taken]


def _total(draft: Draft, place: int, chosen: Sequence[Draft | None], labels: np.ndarray, judge: Teachability) -> float:
    """What the set is worth with this draft, but for the part that is the same for all drafts of the prototype."""
    kept = [draft if row == place else other for row, other in enumerate(chosen)]
    rows = [row for row, other in enumerate(kept) if other is not None]
    texts = [other.text.text for other in kept if other is not None]
    return judge.score(texts, labels[rows]) + draft.score / len(rows)
