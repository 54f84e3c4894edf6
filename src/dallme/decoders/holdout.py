"""Held-out splits of the source, on which decoders and text lengths are compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dallme import registry
from dallme.data import DecodedText, LabelledVectors, Prototypes
from dallme.decoders.base import Context, SourceCache
from dallme.decoders.extractive.proxies import vector_probe
from dallme.errors import DallmeError, InputError

#: The classifier that reads vectors. The vectors of the source are known, so only the few texts are embedded.
EMBEDDING_LR = "embedding-lr"

#: Minimum number of held-out rows that a comparison is made on.
MIN_HELD_OUT = 10


@dataclass(frozen=True, eq=False)
class HoldoutSplit:
    """A part of the source to write texts from, and held-out rows to test them on.

    Attributes:
        prototypes: The prototypes, each the mean of its members in the part.
        context: The part.
        texts: Held-out texts, none of which is in the part.
        labels: Their class ids.
        vectors: Their vectors.
    """

    prototypes: Prototypes
    context: Context
    texts: list[str]
    labels: np.ndarray
    vectors: np.ndarray

    @classmethod
    def split(
        cls, prototypes: Prototypes, context: Context, rng: np.random.Generator, *, share: float, most: int
    ) -> HoldoutSplit | None:
        """Holds out the same share of the members of each cluster, and never all of them.

        Args:
            prototypes: m prototypes.
            context: The source.
            rng: Source of randomness.
            share: Share of the rows that is held out.
            most: Maximum number of rows that are held out.

        Returns:
            The split; None if either side has too few rows, or rows or prototypes of one class only.
        """
        rows, source = len(context.source), context.source
        share = min(share, most / rows)
        held_out = np.zeros(rows, dtype=bool)
        for members in prototypes.members:
            count = min(round(share * len(members)), len(members) - 1)
            held_out[rng.choice(members, size=max(0, count), replace=False)] = True
        part = np.flatnonzero(~held_out)
        known = {source.texts[row] for row in part.tolist()}
        tested = [row for row in np.flatnonzero(held_out).tolist() if source.texts[row] not in known]
        labels = source.labels[tested]
        if len(tested) < MIN_HELD_OUT or len(np.unique(labels)) < 2 or len(np.unique(prototypes.labels)) < 2:
            return None
        return cls(
            _restrict(prototypes, part, context),
            _restrict_context(context, part),
            [source.texts[row] for row in tested],
            labels,
            context.vectors.vectors[tested],
        )

    def score(self, decoded: Sequence[DecodedText], classifiers: Sequence[str]) -> dict[str, float]:
        """Trains classifiers on the texts alone and returns the accuracy of each on the held-out rows.

        A classifier that finds no word in the texts has an accuracy of 0.
        """
        texts, labels = [text.text for text in decoded], self.prototypes.labels
        accuracies = {}
        for name in classifiers:
            try:
                if name == EMBEDDING_LR:
                    predicted = vector_probe().fit(self.context.embed(texts), labels).predict(self.vectors)
                else:
                    classifier = registry.make("classifiers", name)
                    classifier = classifier.with_label_names(self.context.source.label_names)
                    predicted = classifier.fit(texts, labels, seed=0).predict(self.texts)
            except InputError:
                accuracies[name] = 0.0
            else:
                accuracies[name] = float(np.mean(predicted == self.labels))
        return accuracies


def _restrict(prototypes: Prototypes, part: np.ndarray, context: Context) -> Prototypes:
    """Returns the prototypes of the rows of a part, with members as positions in the part."""
    positions = np.full(len(context.source), -1, dtype=np.int64)
    positions[part] = np.arange(len(part))
    remaining = [members[positions[members] >= 0] for members in prototypes.members]
    means = np.stack([context.vectors.vectors[members].mean(axis=0) for members in remaining])
    return replace(
        prototypes,
        vectors=means.astype(np.float32),
        weights=np.array([float(len(members)) for members in remaining]),
        members=tuple(positions[members] for members in remaining),
        responsibilities=None,
    )


def _restrict_context(context: Context, part: np.ndarray) -> Context:
    """Returns a context of some rows, without the test rows."""
    vectors = context.vectors
    return replace(
        context,
        source=context.source.take(part),
        vectors=LabelledVectors(vectors.vectors[part], vectors.labels[part], vectors.fingerprint),
        test=None,
        cache=SourceCache(),  # values of a part are of no use after the comparison
    )


#: Lengths are compared if a text may have more than this many times the tokens of the median row.
LENGTH_RATIO = 4

#: The lengths compared are the limit divided by these, and at least :data:`MIN_TOKENS`.
DIVISORS, MIN_TOKENS = (1, 2, 4, 6, 8), 12

#: Accuracy that a shorter length must gain, about two standard errors on a thousand rows.
MIN_GAIN = 0.02

#: Classifiers that lengths are compared with: one counts words, one reads vectors.
LENGTH_CLASSIFIERS = ("logistic-regression", EMBEDDING_LR)

#: Maximum number of classes and of texts in the sets that compare lengths; larger ones would take longer than
#: the set itself.
SAMPLE_CLASSES, SAMPLE_TEXTS = 100, 400

#: Share of the rows that is held out, the most of them, and rows that the median is taken over.
_SHARE, _MOST, _SAMPLE = 0.2, 4000, 1000

#: Writes texts for prototypes within the limits of a context.
Write = Callable[[Prototypes, Context, np.random.Generator], Sequence[DecodedText]]


@dataclass(frozen=True)
class LengthChoice:
    """The length of the texts that was chosen on held-out rows.

    Attributes:
        tokens: Maximum number of tokens per text.
        held_out_rows: Rows that the lengths were compared on.
        scores: Length to classifier to accuracy.
    """

    tokens: int
    held_out_rows: int
    scores: dict[int, dict[str, float]]

    def as_dict(self) -> dict[str, Any]:
        """Returns the manifest's entry ``decoding.length``."""
        scores = {
            str(length): accuracies for length, accuracies in self.scores.items()
        }  # JSON has no other keys
        return {"tokens": self.tokens, "held_out_rows": self.held_out_rows, "scores": scores}


def select_max_tokens(
    write: Write, prototypes: Prototypes, context: Context, rng: np.random.Generator
) -> LengthChoice | None:
    """Chooses the maximum number of tokens per text on held-out rows.

    Long texts hold more words, which classifiers that count words learn from. If rows are short, however, the
    vector of a text of ten sentences is far from that of any row. Classifiers of vectors then learn little
    from it. A set of each length is therefore written from a part of the rows, and classifiers trained on it
    are tested on the others. A shorter length than the limit is chosen if its mean accuracy is clearly
    better.

    Args:
        write: Writes a set.
        prototypes: m prototypes.
        context: The source and its limits.
        rng: Source of randomness.

    Returns:
        The choice among the lengths in which a set can be written. None means the limit: rows are not much
        shorter, too few can be held out, or the embedder is missing or paid.
    """
    limit = context.max_tokens
    if context.embedder is None or context.embedder.paid or limit <= LENGTH_RATIO * _median_tokens(context):
        return None
    seed = int(rng.integers(2**32))
    sample = _sample_prototypes(prototypes, context, rng)
    split = HoldoutSplit.split(*sample, rng, share=_SHARE, most=_MOST)
    if split is None:
        return None
    scores: dict[int, dict[str, float]] = {}
    for divisor in DIVISORS:
        length = min(limit, max(limit // divisor, MIN_TOKENS))
        if length not in scores:
            part = replace(split.context, max_tokens=length)
            try:
                texts = write(split.prototypes, part, np.random.default_rng(seed))
            except DallmeError:  # no set of this length can be written, for example if all rows begin alike
                continue
            scores[length] = split.score(texts, LENGTH_CLASSIFIERS)
    if limit not in scores:
        return None
    means = {length: float(np.mean(list(accuracies.values()))) for length, accuracies in scores.items()}
    best = max(means, key=lambda length: (means[length], length))
    choice = LengthChoice(best if means[best] - means[limit] > MIN_GAIN else limit, len(split.texts), scores)
    by_length = ", ".join(f"{mean:.3f} with {length} tokens" for length, mean in means.items())
    reason = "no shorter length was clearly better" if choice.tokens == limit else "shorter texts were better"
    context.progress.note(
        f"the texts have at most {choice.tokens} tokens, as {reason} on {choice.held_out_rows:,} held-out "
        f"rows: classifiers ({', '.join(LENGTH_CLASSIFIERS)}) had a mean accuracy of {by_length}"
    )
    return choice


def _sample_prototypes(
    prototypes: Prototypes, context: Context, rng: np.random.Generator
) -> tuple[Prototypes, Context]:
    """Samples classes, and prototypes of them, if there are many; restricts the source to their rows."""
    classes = np.unique(prototypes.labels)
    if len(classes) <= SAMPLE_CLASSES and len(prototypes) <= SAMPLE_TEXTS:
        return prototypes, context
    drawn = rng.permutation(classes)[:SAMPLE_CLASSES].tolist()
    by_class = [np.flatnonzero(prototypes.labels == label) for label in drawn]
    share = min(1.0, SAMPLE_TEXTS / sum(map(len, by_class)))
    chosen = np.sort(
        np.concatenate(
            [rng.choice(own, size=max(1, int(share * len(own))), replace=False) for own in by_class]
        )
    )
    selected = Prototypes(
        prototypes.vectors[chosen],
        prototypes.labels[chosen],
        prototypes.weights[chosen],
        tuple(prototypes.members[position] for position in chosen.tolist()),
        prototypes.spread[chosen],
    )
    rows = np.sort(np.concatenate(selected.members))
    return _restrict(selected, rows, context), _restrict_context(context, rows)


def _median_tokens(context: Context) -> float:
    """Returns the tokens of the median row of an even sample of the rows."""
    step = -(-len(context.source) // _SAMPLE)
    rows = range(0, len(context.source), step)
    return float(np.median(context.count_tokens([context.source.texts[row] for row in rows])))
