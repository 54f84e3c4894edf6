"""A trial of decoders: each writes from a part of the source, and classifiers trained on its texts are tested on the rest."""

from __future__ import annotations

from collections.abc import Sequence
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
class Trial:
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
    ) -> Trial | None:
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
            vectors=LabelledVectors(context.vectors.vectors[kept], context.vectors.labels[kept], context.vectors.fingerprint),
            test=None,
            findings={},
            kept={},  # what is found in a part of the rows is of no use after the trial
        )
        texts = [source.texts[row] for row in tested]
        return cls(_without(prototypes, held, kept, context), part, texts, labels, context.vectors.vectors[tested])

    def score(self, decoded: Sequence[DecodedText], students: Sequence[str]) -> dict[str, float]:
        """Accuracy, between 0 and 1, on the held-out rows of each student that is trained on the texts alone.

        A student that can learn nothing from the texts, as they have no word for it, has an accuracy of 0.
        """
        texts, labels = [text.text for text in decoded], self.prototypes.labels
        found = {}
        for student in students:
            try:
                if student == EMBEDDING_STUDENT:
                    model = LogisticRegression(max_iter=1000, random_state=0).fit(self.context.embed(texts), labels)
                    predicted = model.predict(self.vectors)
                else:
                    classifier = registry.make("classifiers", student).with_label_names(self.context.source.label_names)
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
