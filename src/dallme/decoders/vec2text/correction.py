"""Multi-step correction (Morris et al., section 4): write texts, embed them again, keep the nearest, write better ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from dallme.decoders import postprocess as written
from dallme.embedders.base import normalize

#: A row whose best text did not get nearer for this many steps is done.
PATIENCE = 2

#: A row whose best text has at least this cosine to its target is done.
CLOSE_ENOUGH = 0.999

#: How freely the texts beside the likeliest one are drawn; 1 is the model's own distribution.
TEMPERATURE = 0.7


class Writer(Protocol):
    """What the search needs: an :class:`~dallme.decoders.vec2text.inverter.Inverter`, or anything that writes and embeds."""

    def write(
        self,
        targets: np.ndarray,
        *,
        current: Sequence[str] | None = None,
        current_vectors: np.ndarray | None = None,
        samples: int = 1,
        seeds: Sequence[int] | None = None,
        again: Sequence[bool] | None = None,
    ) -> list[list[str]]:
        """Writes `samples` texts for each target, or better ones than the current texts: the likeliest and drawn ones.

        Where a current text is corrected `again`, for the same target, the likeliest is known and left out.
        """

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Embeds texts; float32 of shape (n, d), of length 1."""


@dataclass(frozen=True)
class Candidate:
    """A text that may be the one.

    Attributes:
        text: The text.
        cosine: Cosine of its vector to the target.
        vector: Its vector, float32 of shape (d,).
    """

    text: str
    cosine: float
    vector: np.ndarray = field(compare=False, repr=False)


@dataclass(frozen=True)
class Decoded:
    """What was written for one vector.

    Attributes:
        text: The nearest text; blank if none could be written.
        cosine: Cosine of its vector to the target; 0 if none could be written.
        steps: Correction steps that were made.
        candidates: The final beam, nearest first; the first is `text`.
    """

    text: str
    cosine: float
    steps: int
    candidates: tuple[Candidate, ...]


@dataclass
class _Row:
    """One vector on its way to a text."""

    target: np.ndarray
    rng: np.random.Generator
    held: list[Candidate] = field(default_factory=list)
    corrected: set[str] = field(default_factory=set)
    steps: int = 0
    stale: int = 0

    @property
    def done(self) -> bool:
        return not self.held or self.held[0].cosine >= CLOSE_ENOUGH or self.stale >= PATIENCE

    @property
    def decoded(self) -> Decoded:
        best = self.held[0] if self.held else Candidate("", 0.0, np.zeros_like(self.target))
        return Decoded(best.text, best.cosine, self.steps, tuple(self.held))

    def seed(self) -> int:
        """The seed of its next draws."""
        return int(self.rng.integers(2**62))

    def hold(self, found: list[Candidate], beam: int) -> None:
        """Keeps the nearest of the texts held and found; those held come first among equals, so the best never gets worse."""
        before = self.held[0].text if self.held else None
        pool = {candidate.text: candidate for candidate in [*found, *self.held]}
        order = {
            text: place
            for place, text in enumerate([each.text for each in self.held] + [each.text for each in found])
        }
        self.held = sorted(pool.values(), key=lambda each: (-each.cosine, order[each.text]))[:beam]
        self.stale = self.stale + 1 if self.held and self.held[0].text == before else 0


def trajectory(
    writer: Writer,
    targets: np.ndarray,
    *,
    steps: int,
    beam: int,
    starts: Sequence[Sequence[str]] | None = None,
    seed: int = 0,
    first: int = 0,
) -> Iterator[list[Decoded]]:
    """Decodes vectors and shows what stands after each step.

    The first texts are hypotheses written from the vectors alone, `beam` for each, or the given ones. A step writes for
    each text held `beam` corrections, the likeliest and `beam` - 1 drawn at random, embeds them again and holds the `beam`
    nearest of all. A text that is held on gets `beam` - 1 drawn ones in later steps: its likeliest correction is known. A row
    that no longer gets nearer leaves the batch. The draws of a row depend on the seed and its number
    alone, not on the rows beside it.

    Args:
        writer: What writes and embeds.
        targets: float32 of shape (n, d).
        steps: Correction steps.
        beam: Texts held for each vector.
        starts: For each of the n vectors texts to start from in place of hypotheses.
        seed: Seed of every draw.
        first: Number of the first row, where these are some of many.

    Yields:
        What is written for the n vectors: `steps` + 1 lists, the first before any correction.
    """
    rows = [
        _Row(vector, np.random.default_rng([seed, first + place]))
        for place, vector in enumerate(normalize(targets))
    ]
    _hold(
        writer,
        rows,
        _hypotheses(writer, rows, beam) if starts is None else [list(texts) for texts in starts],
        beam,
    )
    yield [row.decoded for row in rows]
    for _ in range(steps):
        active = [row for row in rows if not row.done]
        if active:
            _hold(writer, active, _corrections(writer, active, beam), beam)
        for row in active:
            row.steps += 1
        yield [row.decoded for row in rows]


def _hypotheses(writer: Writer, rows: list[_Row], count: int) -> list[list[str]]:
    """For each row the likeliest text and `count` - 1 drawn ones."""
    return writer.write(
        np.stack([row.target for row in rows]), samples=count, seeds=[row.seed() for row in rows]
    )


def _corrections(writer: Writer, rows: list[_Row], count: int) -> list[list[str]]:
    """For each text that a row holds the likeliest correction and `count` - 1 drawn ones.

    The likeliest correction of a text that was corrected before was held then, or was farther than all that are held since.
    """
    held = [(row, candidate) for row in rows for candidate in row.held]
    written = iter(
        writer.write(
            np.stack([row.target for row, _ in held]),
            current=[candidate.text for _, candidate in held],
            current_vectors=np.stack([candidate.vector for _, candidate in held]),
            samples=count,
            seeds=[row.seed() for row, _ in held],
            again=[candidate.text in row.corrected for row, candidate in held],
        )
    )
    for row, candidate in held:
        row.corrected.add(candidate.text)
    return [[text for _ in row.held for text in next(written)] for row in rows]


def _hold(writer: Writer, rows: list[_Row], proposals: list[list[str]], beam: int) -> None:
    """Embeds what is new, each text once, and lets each row hold what is nearest to it."""
    cleaned = [list(dict.fromkeys(" ".join(text.split()) for text in texts)) for texts in proposals]
    known = [{candidate.text for candidate in row.held} for row in rows]
    new = [[text for text in texts if text not in seen] for texts, seen in zip(cleaned, known, strict=True)]
    vectors = embed_usable(writer, list(dict.fromkeys(text for texts in new for text in texts)))
    for row, texts in zip(rows, new, strict=True):
        found = [
            Candidate(text, float(vectors[text] @ row.target), vectors[text])
            for text in texts
            if text in vectors
        ]
        row.hold(found, beam)


def embed_usable(writer: Writer, texts: Sequence[str]) -> dict[str, np.ndarray]:
    """The vector of each text; texts that are blank, or that the embedder can make nothing of, are left out."""
    return written.embed_usable(writer.embed, texts)
