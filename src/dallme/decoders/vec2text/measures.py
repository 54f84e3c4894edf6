"""How near written texts are to the texts that they should be: BLEU, token F1, exact match, cosine."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec

import numpy as np

from dallme.errors import InputError, MissingDependencyError

_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Measures:
    """What texts written from vectors are worth beside the texts that the vectors were made of.

    Attributes:
        texts: Number of texts.
        bleu: Corpus BLEU of sacrebleu, from 0 to 100.
        bleu_uncased: The same without upper case: many embedders read none, so that nobody could write it again.
        token_f1: Mean over the texts of the F1 of their bags of lower-cased words, in [0, 1].
        exact: Share of the texts that are the original, but for white space.
        cosine: Mean cosine of the written text's vector to the vector that it was written from; None if not known.
    """

    texts: int
    bleu: float
    bleu_uncased: float
    token_f1: float
    exact: float
    cosine: float | None = None

    def as_dict(self) -> dict[str, float | int | None]:
        """The fields of the command line's JSON."""
        return asdict(self)


def measure(written: Sequence[str], originals: Sequence[str], cosines: Sequence[float] | np.ndarray | None = None) -> Measures:
    """Compares written texts with the originals, one by one.

    Args:
        written: n texts; blank ones count as wrong.
        originals: n texts.
        cosines: Cosine of each written text's vector to the vector that it was written from, of shape (n,), if known.

    Raises:
        InputError: If there is no text, or not as many of each.
        MissingDependencyError: If sacrebleu is not installed.
    """
    if not len(written) == len(originals) > 0:
        raise InputError(f"expected as many written texts as originals, found {len(written)} and {len(originals)}")
    pairs = [(" ".join(text.split()), " ".join(original.split())) for text, original in zip(written, originals, strict=True)]
    return Measures(
        texts=len(pairs),
        bleu=bleu(*zip(*pairs, strict=True)),
        bleu_uncased=bleu(*zip(*pairs, strict=True), lowercase=True),
        token_f1=float(np.mean([token_f1(text, original) for text, original in pairs])),
        exact=float(np.mean([text == original for text, original in pairs])),
        cosine=None if cosines is None else float(np.mean(cosines)),
    )


def bleu(written: Sequence[str], originals: Sequence[str], *, lowercase: bool = False) -> float:
    """Corpus BLEU of sacrebleu with its defaults, from 0 to 100.

    Raises:
        MissingDependencyError: If sacrebleu is not installed.
    """
    if find_spec("sacrebleu") is None:
        raise MissingDependencyError("BLEU", "sacrebleu", "vec2text")
    import sacrebleu

    return float(sacrebleu.corpus_bleu(list(written), [list(originals)], lowercase=lowercase).score)


def token_f1(text: str, original: str) -> float:
    """F1 of two bags of lower-cased words, in [0, 1]; 1 for two texts without words."""
    found, wanted = (Counter(_WORD.findall(each.lower())) for each in (text, original))
    if not found and not wanted:
        return 1.0
    return 2 * (found & wanted).total() / (found.total() + wanted.total())
