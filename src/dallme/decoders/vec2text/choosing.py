"""Of the texts that were written for each prototype, the one that is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dallme.data import DecodedText, Prototypes
from dallme.decoders.base import Context
from dallme.decoders.nearest import first_sentences, nearest_unused
from dallme.decoders.vec2text.inverter import Inverter
from dallme.decoders.vec2text.search import Decoded, embed_usable
from dallme.embedders.base import normalize

#: Texts that are drawn more freely where all of a prototype's texts are taken already.
MORE_SAMPLES, MORE_TEMPERATURE = 8, 1.0


@dataclass(frozen=True, eq=False)
class Choice:
    """A text that may be kept.

    Attributes:
        text: The text as it would stand in the result.
        cosine: Cosine of its vector to the prototype.
    """

    text: DecodedText
    cosine: float


@dataclass(frozen=True, eq=False)
class Chooser:
    """Chooses for each prototype the nearest text, those with the label of the prototype before the others.

    Attributes:
        inverter: Writes more texts where they are needed.
        context: The source and its limits.
        prototypes: m prototypes.
        targets: Their vectors in the inverter's space, float32 of shape (m, d).
        probe: Tells the class of vectors in the inverter's space, fitted on the source; None where there is one class only.
        language: ISO 639-1 code, for finding the ends of sentences.
    """

    inverter: Inverter
    context: Context
    prototypes: Prototypes
    targets: np.ndarray
    probe: Any
    language: str

    def choose(
        self, decoded: Sequence[Decoded], starts: Sequence[Sequence[DecodedText]] | None, rng: np.random.Generator
    ) -> list[Choice]:
        """One text for each prototype, none twice in a class.

        Args:
            decoded: What was written for each prototype.
            starts: The real texts, and those joined from them, that each was started from; one of them may be kept as well.
            rng: Seed of what is written in addition.

        Raises:
            InputError: If a class has neither a written nor a real text left.
        """
        texts = [[candidate.text for candidate in row.candidates] for row in decoded]
        first: Sequence[Sequence[DecodedText]] = [()] * len(texts) if starts is None else starts
        taken: dict[int, set[str]] = {int(label): set() for label in np.unique(self.prototypes.labels)}
        chosen = []
        for place, options in enumerate(self._choices(texts, first)):
            used = taken[int(self.prototypes.labels[place])]
            free = self._free(options, used) or self._free(self._more(place, int(rng.integers(2**31))), used)
            kept = free[0] if free else self._real(place, used)
            used.add(kept.text.text)
            chosen.append(kept)
        return chosen

    def _choices(
        self, texts: Sequence[Sequence[str]], starts: Sequence[Sequence[DecodedText]], places: Sequence[int] | None = None
    ) -> list[list[Choice]]:
        """Cuts texts to the limit, embeds what is left, and says how near and of which class it is."""
        places = range(len(texts)) if places is None else places
        cut = [{found.text: found for text in row if (found := self._cut(text))} for row in texts]
        for options, given in zip(cut, starts, strict=True):
            options.update({start.text: start for start in given})
        vectors = embed_usable(self.inverter, list(dict.fromkeys(text for options in cut for text in options)))
        classes = self._classes(vectors)
        directions = normalize(self.targets[list(places)])
        return [
            [
                Choice(
                    replace(text, label_agrees=None if self.probe is None else classes[text.text] == label),
                    float(vectors[text.text] @ direction),
                )
                for text in options.values()
                if text.text in vectors
            ]
            for label, direction, options in zip(self.prototypes.labels[list(places)].tolist(), directions, cut, strict=True)
        ]

    def _cut(self, text: str) -> DecodedText | None:
        """A written text, cut after a whole sentence; it comes from no row."""
        found = first_sentences(text, 0, self.context.max_tokens, self.context.count_tokens, self.language)
        return None if found is None else replace(found, rows=())

    def _classes(self, vectors: dict[str, np.ndarray]) -> dict[str, int]:
        if self.probe is None or not vectors:
            return {}
        return dict(zip(vectors, self.probe.predict(np.stack(list(vectors.values()))).tolist(), strict=True))

    @staticmethod
    def _free(options: Sequence[Choice], used: set[str]) -> list[Choice]:
        """The texts that are not taken, the best first."""
        left = [option for option in options if option.text.text not in used]
        return sorted(left, key=lambda option: (option.text.label_agrees is False, -option.cosine))

    def _more(self, place: int, seed: int) -> list[Choice]:
        target = normalize(self.targets[place : place + 1])
        texts = self.inverter.write(target, samples=MORE_SAMPLES, temperature=MORE_TEMPERATURE, seeds=[seed])
        return self._choices(texts, [()], [place])[0]

    def _real(self, place: int, used: set[str]) -> Choice:
        """The nearest real text, where nothing that can be used was written."""
        label = int(self.prototypes.labels[place])
        found = nearest_unused(self.prototypes.vectors[place], label, set(used), self.context, self.language)
        choices = self._choices([[]], [[found]], [place])[0]
        return choices[0] if choices else Choice(found, 0.0)  # the inverter's embedder may make nothing of it
