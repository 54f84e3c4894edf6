"""Which draft is kept for each prototype: what probes say of each, and what classifiers learn from all together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from dallme.data import DecodedText, Prototypes
from dallme.decoders.base import Context
from dallme.decoders.extractive.weights import Teachability, WordWeights
from dallme.decoders.postprocess import copied_spans, cut, embed_usable, tidy
from dallme.embedders.base import normalize

#: Rows that the probe is trained on, at most; more change its judgement of a text very little.
PROBE_ROWS = 20_000


@dataclass(frozen=True, eq=False)
class ProbeScore:
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
            self._model = LogisticRegression(max_iter=1000, random_state=0).fit(
                context.vectors.vectors[rows], labels
            )

    def judge(self, texts: Sequence[str], targets: np.ndarray, labels: np.ndarray) -> list[ProbeScore | None]:
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
        found: list[ProbeScore | None] = [None] * len(texts)
        if not known:
            return found
        own = np.stack([vectors[texts[place]] for place in known])
        cosines = np.einsum("ij,ij->i", own, normalize(targets[known]))
        confidence, agrees = self._confidence(own, labels[known])
        for row, place in enumerate(known):
            found[place] = ProbeScore(own[row], float(cosines[row]), confidence[row], agrees[row])
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


@dataclass
class RejectionCounts:
    """What became of drafts that were not usable as they came.

    Attributes:
        blank: Had no text.
        repeated: Were written for the same prototype before.
        cut: Were longer than the limit, and cut.
        copied: Shared too long a run of words with a source row, and were left out.
    """

    blank: int = 0
    repeated: int = 0
    cut: int = 0
    copied: int = 0

    def as_dict(self) -> dict[str, int]:
        """The counts by name."""
        return asdict(self)


class CandidatePool:
    """The drafts of m prototypes.

    Attributes:
        words: What each word of the source says about each class; None where there is one class only.
        tally: What was not usable as it came.
    """

    def __init__(
        self,
        prototypes: Prototypes,
        context: Context,
        rng: np.random.Generator,
        *,
        language: str,
        max_copied_span: int | None,
    ) -> None:
        """Trains what judges the drafts.

        Args:
            prototypes: What they are written for.
            context: The source and its limits.
            rng: Source of randomness.
            language: ISO 639-1 code, for finding the ends of sentences.
            max_copied_span: Longest run of words that a draft may share with one source row; None for any.
        """
        labels, several = context.vectors.labels, len(context.vectors.class_counts) > 1
        self.words = WordWeights.of(context, rng) if several else None
        self.tally = RejectionCounts()
        self._judge = Teachability(self.words, labels, rng) if self.words else None
        self._probe = Probe(context, rng) if context.embedder else None
        self._prototypes, self._context = prototypes, context
        self._language, self._most_copied = language, max_copied_span
        self._drafts: list[list[Draft]] = [[] for _ in range(len(prototypes))]

    def add(self, places: Sequence[int], texts: Sequence[str]) -> None:
        """Adds what is usable of written texts.

        Args:
            places: The prototype that each was written for.
            texts: The texts, as they came.
        """
        found = self._new(places, texts)
        if self._most_copied is not None and found:
            spans = copied_spans([text for _, text in found], self._context)
            kept = [(place, text) for (place, _), text in zip(found, spans, strict=True)]
            kept = [(place, text) for place, text in kept if (text.copied_span or 0) <= self._most_copied]
            self.tally.copied += len(found) - len(kept)
            found = kept
        rows = [place for place, _ in found]
        judged: list[ProbeScore | None] = [None] * len(found)
        if self._probe and found:
            targets, labels = self._prototypes.vectors[rows], self._prototypes.labels[rows]
            judged = self._probe.judge([text.text for _, text in found], targets, labels)
        for (place, text), said in zip(found, judged, strict=True):
            if said:
                text, confidence, cosine = (
                    replace(text, label_agrees=said.agrees),
                    said.confidence,
                    said.cosine,
                )
                self._drafts[place].append(Draft(text, confidence, cosine))
            else:
                self._drafts[place].append(Draft(text))

    def choose(self) -> list[DecodedText | None]:
        """The text that is kept for each prototype; None where there is no usable one."""
        chosen = choose(self._drafts, self._prototypes.labels, self._judge)
        return [None if draft is None else draft.text for draft in chosen]

    def _new(self, places: Sequence[int], texts: Sequence[str]) -> list[tuple[int, DecodedText]]:
        """Those that have a text, and one that their prototype does not have yet, cut to the limit."""
        known = {(place, draft.text.text) for place, own in enumerate(self._drafts) for draft in own}
        found = []
        for place, text in zip(places, texts, strict=True):
            tidied = tidy(text)
            kept = cut(tidied, self._context, self._language)
            if kept is None:
                self.tally.blank += 1
            elif (place, kept.text) in known:
                self.tally.repeated += 1
            else:
                known.add((place, kept.text))
                self.tally.cut += kept.text != tidied
                found.append((place, kept))
        return found


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


def choose(
    drafts: Sequence[Sequence[Draft]], labels: np.ndarray, judge: Teachability | None
) -> list[Draft | None]:
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


def _free(
    drafts: Sequence[Draft], place: int, chosen: Sequence[Draft | None], labels: np.ndarray
) -> list[Draft]:
    """The drafts of a prototype whose text no other prototype of the class has."""
    taken = {
        other.text.text
        for row, other in enumerate(chosen)
        if other is not None and row != place and labels[row] == labels[place]
    }
    return [draft for draft in drafts if draft.text.text not in taken]


def _total(
    draft: Draft, place: int, chosen: Sequence[Draft | None], labels: np.ndarray, judge: Teachability
) -> float:
    """What the set is worth with this draft, but for the part that is the same for all drafts of the prototype."""
    kept = [draft if row == place else other for row, other in enumerate(chosen)]
    rows = [row for row, other in enumerate(kept) if other is not None]
    texts = [other.text.text for other in kept if other is not None]
    return judge.score(texts, labels[rows]) + draft.score / len(rows)
