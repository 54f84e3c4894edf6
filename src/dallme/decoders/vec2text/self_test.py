"""Whether an inverter decodes the vectors at hand: a few real texts through embed, decode and embed again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dallme.decoders.vec2text.alignment import matched_and_mismatched
from dallme.decoders.vec2text.inverter import Inverter
from dallme.decoders.vec2text.search import embed_usable
from dallme.errors import InputError

#: Texts that are tried.
TEXTS = 20

#: What decoded texts must be nearer to their own vectors than to those of others, in cosine. An inverter of another space gives
#: about 0.00 +- 0.02; a barely trained one of the right space gives 0.1.
MARGIN = 0.05


@dataclass(frozen=True)
class RoundTrip:
    """What came back.

    Attributes:
        cosine: Mean cosine of the decoded texts' vectors to the vectors that they were written from.
        chance: Mean cosine to the vectors of the other texts.
        texts: Texts that were tried.
    """

    cosine: float
    chance: float
    texts: int

    @property
    def passes(self) -> bool:
        """Whether the decoded texts are clearly nearer to their own vectors."""
        return self.cosine - self.chance >= MARGIN


def round_trip(inverter: Inverter, vectors: np.ndarray) -> RoundTrip:
    """Decodes vectors without correction, embeds the texts, and compares. Texts that cannot be embedded count as zeros.

    Args:
        inverter: The inverter.
        vectors: Vectors of real texts in the inverter's space, float32 of shape (n, d), n >= 2.
    """
    written = [texts[0] for texts in inverter.write(vectors)]
    known = embed_usable(inverter, list(dict.fromkeys(written)))
    zeros = np.zeros(vectors.shape[1], dtype=np.float32)
    returned = np.stack([known.get(text, zeros) for text in written])
    return RoundTrip(*matched_and_mismatched(returned, vectors), len(vectors))


def self_test(inverter: Inverter, vectors: np.ndarray, texts: Sequence[str], rng: np.random.Generator) -> RoundTrip | None:
    """Tries an inverter on some of the source.

    Args:
        inverter: The inverter.
        vectors: Vectors of the source in the inverter's space, float32 of shape (n, d).
        texts: The n source texts.
        rng: Chooses the texts.

    Returns:
        The round trip, or None where there are not two different texts.

    Raises:
        InputError: If the decoded texts are not clearly nearer to their own vectors than to those of others.
    """
    chosen: dict[str, int] = {}
    for row in rng.permutation(len(texts)).tolist():
        chosen.setdefault(texts[row], row)
        if len(chosen) == TEXTS:
            break
    if len(chosen) < 2:
        return None
    found = round_trip(inverter, vectors[list(chosen.values())])
    if not found.passes:
        raise InputError(
            f"expected an inverter that decodes these vectors, found that {found.texts} decoded texts have a mean cosine of "
            f"{found.cosine:.3f} to their own vectors and {found.chance:.3f} to those of others, less than {MARGIN} apart; "
            "train one on texts like these, or longer"
        )
    return found
