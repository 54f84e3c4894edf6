"""The paper's third step (section 3.2): a model writes a text for each prototype."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from dallme.data import DecodedText, Prototypes
from dallme.decoders.base import Context, Decoder
from dallme.decoders.vec2text.alignment import fit_alignment
from dallme.decoders.vec2text.choosing import Choice, Chooser
from dallme.decoders.vec2text.fit import check_fit, find_inverter
from dallme.decoders.vec2text.inverter import Inverter
from dallme.decoders.vec2text.self_test import self_test
from dallme.decoders.vec2text.starting import real_starts
from dallme.errors import InputError
from dallme.validation import check_positive

#: What correction may start from.
STARTS = ("nearest", "hypothesis")

#: Source texts that a map between two embedders is fitted on, at most, and how many are embedded at once for it.
ALIGNED_TEXTS, ALIGNED_AT_ONCE = 20_000, 512


@dataclass(frozen=True, eq=False)
class _Space:
    """The inverter's space: the prototypes in it, and source texts to test and to learn the classes from."""

    targets: np.ndarray
    tried: np.ndarray
    vectors: np.ndarray
    rows: np.ndarray


@dataclass(frozen=True)
class Vec2TextDecoder(Decoder):
    """Writes a text for each prototype and corrects it until its vector is near (section 3.2; Morris et al. 2023).

    Of the texts held at the end the nearest one is kept whose class, by logistic regression over the full data's vectors, is
    that of the prototype; if there is none, the nearest. Prefer it to ``nearest`` and ``extractive`` where no text of the
    source may be copied, or where a good inverter for the embedder is at hand; see ``dallme invert-check``.

    Attributes:
        inverter: Folder of an inverter; blank for the one that comes with the package.
        steps: Correction steps at most; 0 writes from the vectors alone and needs the start ``hypothesis``.
        beam: Texts that are held for each prototype.
        start: ``nearest``: correction starts at the nearest real text of the class and at texts joined from pieces of the nearest
            ones, which are kept if nothing written is nearer; ``hypothesis``: at texts written from the prototype alone.
        align: Whether an inverter of another embedder may be used: a linear map between the spaces is fitted on the source.
        self_test: Whether the inverter is tried on 20 source texts first.
        language: ISO 639-1 code, for finding the ends of sentences.
    """

    argument: ClassVar[str] = "inverter"

    inverter: str = ""
    steps: int = 5
    beam: int = 4
    start: str = "nearest"
    align: bool = False
    self_test: bool = True
    language: str = "en"

    def __post_init__(self) -> None:
        """Checks the options; nothing is loaded."""
        check_positive(self.beam, "beam")
        if isinstance(self.steps, bool) or not isinstance(self.steps, int) or self.steps < 0:
            raise InputError(f"expected steps to be a whole number of at least 0, found {self.steps!r}")
        if self.start not in STARTS:
            raise InputError(f"expected start as one of {', '.join(STARTS)}, found {self.start!r}")
        if self.start == "nearest" and self.steps == 0:
            raise InputError(
                "expected at least 1 step to correct the nearest text, found 0; start from hypothesis, or use nearest"
            )

    def _decode(self, prototypes: Prototypes, context: Context, rng: np.random.Generator) -> list[DecodedText]:
        inverter, space = self._prepare(prototypes, context, rng)
        if self.self_test:
            texts = [context.source.texts[row] for row in space.rows.tolist()]
            found = self_test(inverter, space.tried, texts, rng)
            if found:
                context.progress.note(
                    f"{found.texts} source texts, decoded and embedded again, have a mean cosine of {found.cosine:.3f} to their "
                    f"vectors (chance: {found.chance:.3f})"
                )
        starts = None
        if self.start == "nearest":
            starts = real_starts(prototypes, space.targets, inverter, context, beam=self.beam, language=self.language)
        decoded = inverter.decode(
            space.targets,
            steps=self.steps,
            beam=self.beam,
            start="hypothesis" if starts is None else [[text.text for text in texts] for texts in starts],
            seed=int(rng.integers(2**32)),
            progress=context.progress,
            engine=context.engine,
        )
        probe = _fit_probe(space.vectors, context.vectors.labels[space.rows])
        chosen = Chooser(inverter, context, prototypes, space.targets, probe, self.language).choose(decoded, starts, rng)
        context.progress.note(_summary(chosen))
        return [choice.text for choice in chosen]

    def _prepare(self, prototypes: Prototypes, context: Context, rng: np.random.Generator) -> tuple[Inverter, _Space]:
        """Loads the inverter and takes the prototypes into its space."""
        folder = find_inverter(self.inverter)
        inverter = Inverter.load(folder)
        inverter.check_steps(self.steps)
        vectors = context.vectors.vectors
        if not inverter.config.misfits(context.vectors.fingerprint):
            inverter = replace(inverter, own_embedder=context.embedder)
            return inverter, _Space(prototypes.vectors, vectors, vectors, np.arange(len(vectors)))
        if not self.align:
            check_fit(inverter.config, folder, context.vectors.fingerprint)
        if context.embedder is not None and not inverter.config.misfits(context.embedder.fingerprint(inverter.config.prompt)):
            inverter = replace(inverter, own_embedder=context.embedder)  # the same but for the prompt
        rows = np.sort(rng.permutation(len(vectors))[:ALIGNED_TEXTS])
        own = _embed(inverter, [context.source.texts[row] for row in rows.tolist()], context)
        alignment = fit_alignment(vectors[rows], own, int(rng.integers(2**32)))
        context.progress.note(
            f"vectors of {context.vectors.fingerprint.model} mapped into the space of {inverter.config.embedder}: held-out texts "
            f"have a mean cosine of {alignment.cosine:.3f} to their own vectors there (chance: {alignment.chance:.3f})"
        )
        return inverter, _Space(alignment.map(prototypes.vectors), alignment.map(vectors[rows]), own, rows)


def _embed(inverter: Inverter, texts: Sequence[str], context: Context) -> np.ndarray:
    """The texts' vectors by the inverter's embedder, float32 of shape (n, e)."""
    made = []
    with context.progress.task("align", total=len(texts)) as task:
        for start in range(0, len(texts), ALIGNED_AT_ONCE):
            made.append(inverter.embed(texts[start : start + ALIGNED_AT_ONCE]))
            task.advance(len(made[-1]))
    return np.concatenate(made)


def _fit_probe(vectors: np.ndarray, labels: np.ndarray) -> Any:
    """A linear classifier of the full data's vectors, or None if there is one class."""
    from sklearn.linear_model import LogisticRegression

    if len(np.unique(labels)) < 2:
        return None
    return LogisticRegression(max_iter=1000, random_state=0).fit(vectors, labels)


def _summary(chosen: Sequence[Choice]) -> str:
    """What is to be known of the texts, in one line."""
    agree = [choice.text.label_agrees for choice in chosen if choice.text.label_agrees is not None]
    copied = sum(bool(choice.text.rows) for choice in chosen)
    parts = [f"{len(chosen)} texts with a mean cosine of {np.mean([choice.cosine for choice in chosen]):.3f} to their prototypes"]
    if agree:
        parts.append(f"{np.mean(agree):.0%} of them have the prototype's label by a linear probe of the full data")
    if copied:
        parts.append(f"{copied} are real texts, or joined from pieces of them, to which nothing better was written")
    return "; ".join(parts)
