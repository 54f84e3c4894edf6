"""Written drafts: the summary of a cluster that they are written from, and the selection among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from dallme.data import DecodedText, LabelledTexts, Prototypes
from dallme.decoders.base import Context
from dallme.decoders.extractive.proxies import ProxyAccuracy, vector_probe
from dallme.decoders.extractive.weights import WordWeights, row_of
from dallme.decoders.postprocess import copied_spans, cut, embed_usable, tidy
from dallme.embedders.base import normalize
from dallme.text import clean

#: Maximum number of rows that the probe is trained on; more hardly change its predictions.
PROBE_ROWS = 20_000

#: Maximum number of drafts for which whole sets are scored; above it each draft is scored by itself.
SCORED_DRAFTS = 2000


@dataclass(frozen=True, eq=False)
class ProbeScore:
    """Scores of a text by its vector.

    Attributes:
        cosine: Cosine of its vector to the prototype.
        confidence: Probability of the prototype's class by the probe; None with one class only.
        agrees: Whether the probe predicts that class; None with one class only.
    """

    cosine: float
    confidence: float | None
    agrees: bool | None


class Probe:
    """Logistic regression on the vectors of the source."""

    def __init__(self, context: Context, rng: np.random.Generator) -> None:
        """Trains the probe on a sample of the rows."""
        self._context, self._model = context, None
        rows = np.sort(rng.permutation(len(context.vectors))[:PROBE_ROWS])
        labels = context.vectors.labels[rows]
        if len(np.unique(labels)) > 1:
            self._model = vector_probe().fit(context.vectors.vectors[rows], labels)

    def score(self, texts: Sequence[str], targets: np.ndarray, labels: np.ndarray) -> list[ProbeScore | None]:
        """Scores texts.

        Args:
            texts: n texts.
            targets: Vector of the prototype that each is written for, of shape (n, d).
            labels: Class of that prototype, of shape (n,).

        Returns:
            The scores of each; None for a text that the embedder cannot embed.
        """
        vectors = embed_usable(self._context.embed, list(dict.fromkeys(texts)))
        known = [position for position, text in enumerate(texts) if text in vectors]
        scores: list[ProbeScore | None] = [None] * len(texts)
        if not known:
            return scores
        own = np.stack([vectors[texts[position]] for position in known])
        cosines = np.einsum("ij,ij->i", own, normalize(targets[known])).tolist()
        confidences, agrees = self._predict(own, labels[known])
        for position, *values in zip(known, cosines, confidences, agrees, strict=True):
            scores[position] = ProbeScore(*values)
        return scores

    def _predict(self, vectors: np.ndarray, labels: np.ndarray) -> tuple[list[Any], list[Any]]:
        """Returns the probability of each label, and whether the probe predicts it."""
        if self._model is None:
            return [None] * len(vectors), [None] * len(vectors)
        probabilities, classes = self._model.predict_proba(vectors), self._model.classes_
        columns = np.minimum(np.searchsorted(classes, labels), len(classes) - 1)
        known = classes[columns] == labels  # the sample may lack a rare class
        own = np.where(known, probabilities[np.arange(len(labels)), columns], 0.0)
        return own.tolist(), (classes[probabilities.argmax(axis=1)] == labels).tolist()


@dataclass
class RejectionCounts:
    """Numbers of drafts that were not usable unchanged.

    Attributes:
        blank: Without a text.
        repeated: Written for the same prototype before.
        cut: Longer than the limit, and cut.
        copied: Rejected for too long a run of words from one source row.
    """

    blank: int = 0
    repeated: int = 0
    cut: int = 0
    copied: int = 0

    def as_dict(self) -> dict[str, int]:
        """Returns the counts by name."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Draft:
    """A usable draft.

    Attributes:
        text: The text.
        confidence: Probability of its class by the probe; None without a probe.
        cosine: Cosine of its vector to the prototype; None without an embedder.
    """

    text: DecodedText
    confidence: float | None = None
    cosine: float | None = None

    @property
    def score(self) -> float:
        """Confidence plus cosine; an unknown one counts as 0."""
        return (self.confidence or 0.0) + (self.cosine or 0.0)


class CandidatePool:
    """The drafts of m prototypes.

    Attributes:
        words: Weights of the words of the source; None with one class only.
        counts: Numbers of drafts that were not usable unchanged.
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
        """Trains the models that score the drafts.

        Args:
            prototypes: The prototypes that drafts are written for.
            context: The source and its limits.
            rng: Source of randomness.
            language: ISO 639-1 code, for sentence boundaries.
            max_copied_span: Longest run of words that a draft may share with one source row; None for any.
        """
        labels, several = context.vectors.labels, len(context.vectors.class_counts) > 1
        self.words = WordWeights.of(context, rng) if several else None
        self.counts = RejectionCounts()
        self._proxies = ProxyAccuracy(self.words, labels, rng) if self.words else None
        self._probe = Probe(context, rng) if context.embedder else None
        self._prototypes, self._context = prototypes, context
        self._language, self._max_copied_span = language, max_copied_span
        self._drafts: list[list[Draft]] = [[] for _ in range(len(prototypes))]

    def add(self, owners: Sequence[int], texts: Sequence[str]) -> None:
        """Adds the usable texts among those written.

        Args:
            owners: Prototype of each text.
            texts: The unprocessed texts.
        """
        usable = self._tidy_new(owners, texts)
        if self._max_copied_span is not None and usable:
            spans = copied_spans([text for _, text in usable], self._context)
            allowed = [
                (owner, text)
                for (owner, _), text in zip(usable, spans, strict=True)
                if (text.copied_span or 0) <= self._max_copied_span
            ]
            self.counts.copied += len(usable) - len(allowed)
            usable = allowed
        rows = [owner for owner, _ in usable]
        scores: list[ProbeScore | None] = [None] * len(usable)
        if self._probe and usable:
            targets, labels = self._prototypes.vectors[rows], self._prototypes.labels[rows]
            scores = self._probe.score([text.text for _, text in usable], targets, labels)
        for (owner, text), score in zip(usable, scores, strict=True):
            draft = Draft(text)
            if score:
                text = replace(text, label_agrees=score.agrees)
                draft = Draft(text, score.confidence, score.cosine)
            self._drafts[owner].append(draft)

    def select(self) -> list[DecodedText | None]:
        """Returns the selected text of each prototype; None without a usable one."""
        selected = select_drafts(self._drafts, self._prototypes.labels, self._proxies)
        return [None if draft is None else draft.text for draft in selected]

    def _tidy_new(self, owners: Sequence[int], texts: Sequence[str]) -> list[tuple[int, DecodedText]]:
        """Tidies and cuts texts; drops blank texts and those that their prototype has already."""
        known = {(owner, draft.text.text) for owner, own in enumerate(self._drafts) for draft in own}
        new = []
        for owner, text in zip(owners, texts, strict=True):
            tidied = tidy(text)
            shortened = cut(tidied, self._context, self._language)
            if shortened is None:
                self.counts.blank += 1
            elif (owner, shortened.text) in known:
                self.counts.repeated += 1
            else:
                known.add((owner, shortened.text))
                self.counts.cut += shortened.text != tidied
                new.append((owner, shortened))
        return new


def select_drafts(
    drafts: Sequence[Sequence[Draft]], labels: np.ndarray, proxies: ProxyAccuracy | None
) -> list[Draft | None]:
    """Selects a draft for each prototype, no text twice in a class.

    The set S is selected for a large

        J(S) = A(S) + mean over its texts of (confidence + cosine),

    where A(S) is the mean accuracy, on source rows, of proxy classifiers trained on S alone. The start is the
    best free draft of each prototype by itself. Each in turn is then replaced by the one with the largest J.

    Args:
        drafts: The drafts of each of m prototypes.
        labels: Class id of each, of shape (m,).
        proxies: Scores sets; None scores each draft by itself.

    Returns:
        m drafts; None for a prototype without a free one.
    """
    selected: list[Draft | None] = [None] * len(drafts)
    for owner, own in enumerate(drafts):
        selected[owner] = max(
            _free(own, owner, selected, labels), key=lambda draft: draft.score, default=None
        )
    if proxies is None or sum(map(len, drafts)) > SCORED_DRAFTS:
        return selected
    for owner, own in enumerate(drafts):
        free = _free(own, owner, selected, labels)
        if len(free) > 1:
            totals = [_set_score(draft, owner, selected, labels, proxies) for draft in free]
            selected[owner] = free[int(np.argmax(totals))]
    return selected


def _free(
    drafts: Sequence[Draft], owner: int, selected: Sequence[Draft | None], labels: np.ndarray
) -> list[Draft]:
    """Returns the drafts of a prototype whose text is not selected for another one of its class."""
    taken = {
        other.text.text
        for row, other in enumerate(selected)
        if other is not None and row != owner and labels[row] == labels[owner]
    }
    return [draft for draft in drafts if draft.text.text not in taken]


def _set_score(
    draft: Draft, owner: int, selected: Sequence[Draft | None], labels: np.ndarray, proxies: ProxyAccuracy
) -> float:
    """Returns J of the set with this draft, without the terms that all drafts of the prototype share."""
    drafts = [draft if row == owner else other for row, other in enumerate(selected)]
    rows = [row for row, other in enumerate(drafts) if other is not None]
    texts = [other.text.text for other in drafts if other is not None]
    return proxies.score(texts, labels[rows]) + draft.score / len(rows)


#: Words per token of the limit: English has about four tokens to three words.
WORDS_A_TOKEN = 0.75


@dataclass(frozen=True)
class ClusterSummary:
    """The class, keywords and examples of a cluster.

    Attributes:
        label: Name of the class.
        keywords: Words of the class that occur in many rows of the cluster, the best first.
        examples: Rows nearest to the prototype, without HTML.
    """

    label: str
    keywords: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        members: np.ndarray,
        label: int,
        words: WordWeights | None,
        source: LabelledTexts,
        *,
        examples: int,
        keywords: int,
    ) -> ClusterSummary:
        """Summarises a cluster.

        Args:
            members: Positions of its rows, nearest first.
            label: Class id.
            words: Weights of the words; None with one class only.
            source: The source texts.
            examples: Maximum number of rows to show.
            keywords: Maximum number of words to name.
        """
        texts = (clean(source.texts[row]) for row in members.tolist()) if examples else ()
        shown = list(dict.fromkeys(text for text in texts if text))[:examples]
        best = best_words(words, members, label, keywords) if words is not None else ()
        return cls(source.label_names[label], best, tuple(shown))


def best_words(words: WordWeights, members: np.ndarray, label: int, count: int) -> tuple[str, ...]:
    """Returns the keywords of a cluster with a positive weight, the best first.

    The score is the weight for the class × the share of the rows with the word × its inverse document
    frequency.
    """
    positions = np.searchsorted(words.rows, members)  # the weights may be learned from a sample of the rows
    known = positions[words.rows[np.minimum(positions, len(words.rows) - 1)] == members]
    if not len(known):
        return ()
    share = np.asarray((words.counts[known] > 0).mean(axis=0)).ravel()
    documents = np.bincount(words.counts.indices, minlength=words.counts.shape[1])
    idf = np.log((1 + words.counts.shape[0]) / (1 + documents))
    scores = row_of(words.positive, int(np.searchsorted(words.classes, label))) * share * idf
    order = np.argsort(-scores, kind="stable")[:count]
    names = words.vectorizer.get_feature_names_out()
    return tuple(str(names[word]) for word in order.tolist() if scores[word] > 0)


def messages(summary: ClusterSummary, max_tokens: int) -> list[dict[str, str]]:
    """Returns the messages of a request for one new text.

    Args:
        summary: The cluster.
        max_tokens: Maximum number of tokens of the text.
    """
    most = max(3, int(max_tokens * WORDS_A_TOKEN))
    parts = [f'Write one new text of the kind "{summary.label}", of at most {most} words.']
    if summary.keywords:
        parts.append(f"Use some of these words: {', '.join(summary.keywords)}.")
    if summary.examples:
        shown = "\n".join(f"- {first_words(text, most)}" for text in summary.examples)
        parts.append(f"Real texts of this kind, not to be copied:\n{shown}")
    parts.append("Answer with the new text alone.")
    return [{"role": "user", "content": "\n".join(parts)}]


def first_words(text: str, count: int) -> str:
    """Returns the first words of a text, as separated by spaces."""
    words = text.split()
    return text if len(words) <= count else " ".join(words[:count])
