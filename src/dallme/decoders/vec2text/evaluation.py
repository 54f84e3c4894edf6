"""What an inverter reaches on texts that it has not seen, beside what the nearest known text reaches."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np

from dallme.decoders.vec2text.corpus import Corpus, Embed, make_corpus
from dallme.decoders.vec2text.inverter import Inverter
from dallme.errors import InputError, MissingDependencyError
from dallme.progress import Progress
from dallme.text import clean

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


def measure(
    written: Sequence[str], originals: Sequence[str], cosines: Sequence[float] | np.ndarray | None = None
) -> Measures:
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
        raise InputError(
            f"expected as many written texts as originals, found {len(written)} and {len(originals)}"
        )
    pairs = [
        (" ".join(text.split()), " ".join(original.split()))
        for text, original in zip(written, originals, strict=True)
    ]
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


#: Rows of known texts that are compared with all others at once.
_BLOCK = 8_192


@dataclass(frozen=True)
class CheckRow:
    """One row of the table.

    Attributes:
        method: ``vec2text`` or ``nearest``.
        steps: Correction steps; None for ``nearest``.
        beam: Texts held; None for ``nearest``.
        measures: What was reached.
    """

    method: str
    steps: int | None
    beam: int | None
    measures: Measures

    def as_dict(self) -> dict[str, Any]:
        """The fields of the command line's JSON."""
        return {"method": self.method, "steps": self.steps, "beam": self.beam, **self.measures.as_dict()}


def cut_corpus(
    inverter: Inverter, texts: Sequence[str], embed: Embed, max_tokens: int | None = None
) -> Corpus:
    """Texts as the inverter is to write them: without HTML, cut to its tokens, and their vectors.

    Args:
        inverter: The inverter.
        texts: Any texts; those of which nothing is left are left out.
        embed: Embeds as the inverter's embedder does.
        max_tokens: Most tokens by the inverter's tokenizer; by default as many as it writes.

    Raises:
        InputError: If no text is left, or more tokens are asked for than it writes.
    """
    most = inverter.config.max_tokens if max_tokens is None else max_tokens
    if not 1 < most <= inverter.config.max_tokens:
        raise InputError(
            f"expected from 2 to {inverter.config.max_tokens} tokens, which the inverter writes, found {most}"
        )
    cleaned = [found for text in texts if (found := clean(text))]
    if not cleaned:
        raise InputError("expected texts to check an inverter on, found none that is not blank")
    return make_corpus(cleaned, inverter.tokenizer, inverter.model.eos_id, most, embed)


def check_inverter(
    inverter: Inverter,
    test: Corpus,
    *,
    steps: Sequence[int],
    beams: Sequence[int],
    seed: int,
    progress: Progress,
) -> list[CheckRow]:
    """Decodes the vectors of texts and compares what is written with them.

    Args:
        inverter: The inverter.
        test: Held-out texts, see :func:`cut_corpus`.
        steps: Numbers of correction steps.
        beams: Numbers of texts held.
        seed: Seed of the draws.
        progress: Where to show progress.

    Returns:
        A row for each beam and number of steps; those of one beam are of one run.
    """
    rows = []
    for beam in beams:
        states = inverter.trajectory(test.vectors, steps=max(steps), beam=beam, seed=seed, progress=progress)
        for step in steps:
            texts = [decoded.text for decoded in states[step]]
            cosines = [decoded.cosine for decoded in states[step]]
            rows.append(CheckRow("vec2text", step, beam, measure(texts, test.texts, cosines)))
    return rows


def check_nearest(known: Corpus, test: Corpus) -> CheckRow:
    """What one reaches without an inverter: the known text whose vector is nearest."""
    best = np.full(len(test), -np.inf, dtype=np.float32)
    nearest = np.zeros(len(test), dtype=np.int64)
    for start in range(0, len(known), _BLOCK):
        cosines = test.vectors @ known.vectors[start : start + _BLOCK].T
        found = cosines.argmax(axis=1)
        better = cosines[np.arange(len(test)), found] > best
        nearest[better] = start + found[better]
        best[better] = cosines[better, found[better]]
    return CheckRow(
        "nearest", None, None, measure([known.texts[row] for row in nearest.tolist()], test.texts, best)
    )
