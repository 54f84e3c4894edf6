"""How long texts should be, tried on held-out rows where they may be many times as long as the rows they stand for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from sklearn.linear_model import LogisticRegression

from dallme import registry
from dallme.data import DecodedText, LabelledVectors, Prototypes
from dallme.decoders.base import Context
from dallme.errors import InputError

#: The student that reads vectors; the source's are at hand, so that nothing is embedded for it but the few texts.
EMBEDDING_STUDENT = "embedding-lr"

#: Held-out rows below which a trial tells nothing.
FEWEST_ROWS = 10


@dataclass(frozen=True, eq=False)
class HoldoutSplit:
    """A part of the source to write from, and the rest of it to test on.

    Attributes:
        prototypes: The prototypes, each the mean of those of its members that are in the part.
        context: The part.
        texts: Held-out texts, none of which stands in the part.
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
        """Holds out the same share of the members of each cluster, and always leaves one.

        Args:
            prototypes: m prototypes.
            context: The source.
            rng: Draws the rows.
            share: Share of the rows that is held out.
            most: Most rows that are held out.

        Returns:
            The trial; None if too few rows, or rows or prototypes of one class only, are left on one of the sides.
        """
        rows, source = len(context.source), context.source
        share = min(share, most / rows)
        held = np.zeros(rows, dtype=bool)
        for members in prototypes.members:
            count = min(round(share * len(members)), len(members) - 1)
            held[rng.choice(members, size=max(0, count), replace=False)] = True
        kept = np.flatnonzero(~held)
        known = {source.texts[row] for row in kept.tolist()}
        tested = [row for row in np.flatnonzero(held).tolist() if source.texts[row] not in known]
        labels = source.labels[tested]
        if len(tested) < FEWEST_ROWS or len(np.unique(labels)) < 2 or len(np.unique(prototypes.labels)) < 2:
            return None
        part = replace(
            context,
            source=source.take(kept),
            vectors=LabelledVectors(
                context.vectors.vectors[kept], context.vectors.labels[kept], context.vectors.fingerprint
            ),
            test=None,
            findings={},
            kept={},  # what is found in a part of the rows is of no use after the trial
        )
        texts = [source.texts[row] for row in tested]
        return cls(
            _without(prototypes, held, kept, context), part, texts, labels, context.vectors.vectors[tested]
        )

    def score(self, decoded: Sequence[DecodedText], students: Sequence[str]) -> dict[str, float]:
        """Accuracy, between 0 and 1, on the held-out rows of each student that is trained on the texts alone.

        A student that can learn nothing from the texts, as they have no word for it, has an accuracy of 0.
        """
        texts, labels = [text.text for text in decoded], self.prototypes.labels
        found = {}
        for student in students:
            try:
                if student == EMBEDDING_STUDENT:
                    model = LogisticRegression(max_iter=1000, random_state=0).fit(
                        self.context.embed(texts), labels
                    )
                    predicted = model.predict(self.vectors)
                else:
                    classifier = registry.make("classifiers", student).with_label_names(
                        self.context.source.label_names
                    )
                    predicted = classifier.fit(texts, labels, seed=0).predict(self.texts)
            except InputError:
                found[student] = 0.0
            else:
                found[student] = float(np.mean(predicted == self.labels))
        return found


def _without(prototypes: Prototypes, held: np.ndarray, kept: np.ndarray, context: Context) -> Prototypes:
    """The prototypes without the rows that are held out, in the positions of the part."""
    position = np.full(len(held), -1, dtype=np.int64)
    position[kept] = np.arange(len(kept))
    left = [members[~held[members]] for members in prototypes.members]
    means = np.stack([context.vectors.vectors[members].mean(axis=0) for members in left]).astype(np.float32)
    return replace(
        prototypes,
        vectors=means,
        weights=np.array([float(len(members)) for members in left]),
        members=tuple(position[members] for members in left),
        responsibilities=None,
    )


#: Lengths are tried where a text may have over this many times the tokens of the median row.
MANY_TIMES = 4

#: The length that is allowed is divided by these, down to :data:`SHORTEST` tokens.
DIVISORS, SHORTEST = (1, 2, 4, 6, 8), 12

#: Accuracy by which a shorter length has to be better, about two standard errors on a thousand rows.
CLEARLY = 0.02

#: Who is trained on the texts of each length: one that counts words, one that reads vectors.
STUDENTS = ("logistic-regression", EMBEDDING_STUDENT)

#: Share of the rows that is held out, the most of them, and rows that the median is taken over.
_SHARE, _MOST, _SAMPLE = 0.2, 4000, 1000

#: Writes texts for prototypes within the limits of a context.
Write = Callable[[Prototypes, Context, np.random.Generator], list[DecodedText]]


def select_max_tokens(
    write: Write, prototypes: Prototypes, context: Context, rng: np.random.Generator
) -> int:
    """Chooses the most tokens of a text.

    Long texts hold more words, which classifiers that count words learn from; but where rows are short, the vector of a text
    of ten sentences lies far from that of any row, and classifiers that read vectors learn little from it. So a set of each
    length is written from a part of the rows, students are trained on it alone, and the length is taken at which their mean
    accuracy on the other rows is best, if that is clearly better than with the longest. What was found goes into the manifest
    (``decoding.length``).

    Args:
        write: Writes a set.
        prototypes: m prototypes.
        context: The source and its limits.
        rng: Draws the rows that are held out.

    Returns:
        Tokens, ``context.max_tokens`` at most. That itself where rows are not much shorter, where there is no embedder or
        one that asks a service, which takes money for each try, and where too few rows can be held out.
    """
    if (
        context.embedder is None
        or context.embedder.paid
        or context.max_tokens <= MANY_TIMES * _median_tokens(context)
    ):
        return context.max_tokens
    seed = int(rng.integers(2**32))
    trial = HoldoutSplit.split(prototypes, context, rng, share=_SHARE, most=_MOST)
    if trial is None:
        return context.max_tokens
    scores: dict[int, dict[str, float]] = {}
    for divisor in DIVISORS:
        length = min(context.max_tokens, max(context.max_tokens // divisor, SHORTEST))
        if length not in scores:
            part = replace(trial.context, max_tokens=length, findings={})
            scores[length] = trial.score(write(trial.prototypes, part, np.random.default_rng(seed)), STUDENTS)
    means = {length: float(np.mean(list(found.values()))) for length, found in scores.items()}
    longest, best = context.max_tokens, max(means, key=lambda length: (means[length], length))
    chosen = best if means[best] - means[longest] > CLEARLY else longest
    told = {str(length): found for length, found in scores.items()}  # JSON has no other keys
    context.findings["length"] = {"tokens": chosen, "held_out_rows": len(trial.texts), "scores": told}
    shown = ", ".join(f"{length} tokens {mean:.3f}" for length, mean in means.items())
    context.progress.note(
        f"texts of at most {chosen} tokens; mean accuracy of {', '.join(STUDENTS)} on {len(trial.texts):,} held-out rows: {shown}"
    )
    return chosen


def _median_tokens(context: Context) -> float:
    """Tokens of the median row, of an even sample of the rows."""
    step = -(-len(context.source) // _SAMPLE)
    return float(
        np.median(
            context.count_tokens([context.source.texts[row] for row in range(0, len(context.source), step)])
        )
    )
