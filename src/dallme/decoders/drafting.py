"""Drafts for each prototype: taken in, judged, and one kept of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from dallme.data import DecodedText, Prototypes
from dallme.decoders.base import Context
from dallme.decoders.probes import Judged, Probe
from dallme.decoders.ranking import Draft, choose
from dallme.decoders.words import Teachability, WordWeights
from dallme.decoders.written import copied_spans, cut, tidy


@dataclass
class Tally:
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


class Drafts:
    """The drafts of m prototypes.

    Attributes:
        words: What each word of the source says about each class; None where there is one class only.
        tally: What was not usable as it came.
    """

    def __init__(
        self, prototypes: Prototypes, context: Context, rng: np.random.Generator, *, language: str, max_copied_span: int | None
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
        self.tally = Tally()
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
        judged: list[Judged | None] = [None] * len(found)
        if self._probe and found:
            targets, labels = self._prototypes.vectors[rows], self._prototypes.labels[rows]
            judged = self._probe.judge([text.text for _, text in found], targets, labels)
        for (place, text), said in zip(found, judged, strict=True):
            if said:
                text, confidence, cosine = replace(text, label_agrees=said.agrees), said.confidence, said.cosine
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
