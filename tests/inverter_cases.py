"""Inverters of a few known words, and prototypes for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dallme.decoders.vec2text.inverter import Inverter
from dallme.decoders.vec2text.model import FILE, InverterConfig
from dallme.embedders.hashing import HashingEmbedder

WORDS = ("film", "play", "warm", "dull", "fun", "sad", "plot", "cast")
WORDS += ("music", "story", "great", "awful", "friends", "jokes", "end")


HASHING = HashingEmbedder()


CONFIG = InverterConfig("hashing", HASHING.fingerprint(), base="none", kind="causal", corrects=True)


@dataclass(frozen=True, eq=False)
class WordInverter(Inverter):
    """Knows fifteen words. It starts with one and corrects by one more: the one that helps most, or drawn ones."""

    calls: list[tuple[int, int]] = field(default_factory=list)

    def write(
        self,
        targets: np.ndarray,
        *,
        current: Sequence[str] | None = None,
        current_vectors: np.ndarray | None = None,
        samples: int = 1,
        temperature: float = 1.0,
        seeds: Sequence[int] | None = None,
        again: Sequence[bool] | None = None,
    ) -> list[list[str]]:
        """The word whose addition is nearest to the target, then words drawn at random."""
        self.calls.append((len(targets), samples))
        written = []
        for row, target in enumerate(targets):
            before = current[row] if current is not None else ""
            longer = [f"{before} {word}".strip() for word in WORDS]
            drawn = np.random.default_rng(seeds[row] if seeds is not None else row).integers(
                len(longer), size=samples - 1
            )
            best = int(np.argmax(HASHING.embed(longer) @ target))
            written.append([longer[place] for place in (best, *drawn)][1 if again and again[row] else 0 :])
        return written


def word_inverter(config: InverterConfig = CONFIG) -> WordInverter:
    return WordInverter(config, model=None, tokenizer=None)  # type: ignore[arg-type]


TEXTS = [f"{one} {two}" for one in WORDS for two in WORDS[:7] if one != two]


def write_config(folder: Path, config: InverterConfig) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / FILE).write_text(config.to_json())
    return folder
