"""Evaluation of an inverter on held-out texts, with the nearest known text as a baseline."""

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

#: Known texts that are compared with all test texts at once.
_BLOCK = 8_192


@dataclass(frozen=True)
class Measures:
    """Similarity of texts written from vectors to the original texts.

    Attributes:
        texts: Number of texts.
        bleu: Corpus BLEU of sacrebleu, from 0 to 100.
        bleu_uncased: The same in lower case: many embedders ignore case.
        token_f1: Mean over the texts of the F1 of their bags of lower-cased words, in [0, 1].
        exact: Share of the texts that equal the original, ignoring white space.
        cosine: Mean cosine of the written texts' vectors to the vectors that they were written from; None if
            unknown.
    """

    texts: int
    bleu: float
    bleu_uncased: float
    token_f1: float
    exact: float
    cosine: float | None = None

    def as_dict(self) -> dict[str, float | int | None]:
        """Returns the fields as the command line prints them as JSON."""
        return asdict(self)


def measure(
    written: Sequence[str], originals: Sequence[str], cosines: Sequence[float] | np.ndarray | None = None
) -> Measures:
    """Compares written texts with the originals, one by one.

    Args:
        written: n texts; blank ones count as wrong.
        originals: n texts.
        cosines: Cosine of each written text's vector to its target, of shape (n,), if known.

    Raises:
        InputError: If there is no text, or the numbers differ.
        MissingDependencyError: If sacrebleu is not installed.
    """
    if not len(written) == len(originals) > 0:
        raise InputError(
            f"expected as many written texts as originals, found {len(written)} and {len(originals)}"
        )
    texts, references = ([" ".join(text.split()) for text in each] for each in (written, originals))
    pairs = list(zip(texts, references, strict=True))
    return Measures(
        texts=len(pairs),
        bleu=bleu(texts, references),
        bleu_uncased=bleu(texts, references, lowercase=True),
        token_f1=float(np.mean([token_f1(*pair) for pair in pairs])),
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
    """Computes the F1 of the bags of lower-cased words, in [0, 1]; 1 for two texts without words."""
    words, reference = (Counter(_WORD.findall(each.lower())) for each in (text, original))
    if not words and not reference:
        return 1.0
    return 2 * (words & reference).total() / (words.total() + reference.total())


@dataclass(frozen=True)
class CheckRow:
    """One row of the table of ``dallme invert-check``.

    Attributes:
        method: ``vec2text`` or ``nearest``.
        steps: Correction steps; None for ``nearest``.
        beam: Width of the beam; None for ``nearest``.
        measures: The scores.
    """

    method: str
    steps: int | None
    beam: int | None
    measures: Measures

    def as_dict(self) -> dict[str, Any]:
        """Returns the fields as the command line prints them as JSON."""
        return {"method": self.method, "steps": self.steps, "beam": self.beam, **self.measures.as_dict()}


def cut_corpus(
    inverter: Inverter, texts: Sequence[str], embed: Embed, max_tokens: int | None = None
) -> Corpus:
    """Cleans texts, cuts them to the inverter's token limit and embeds them.

    Args:
        inverter: The inverter.
        texts: Any texts; those that are blank without HTML are left out.
        embed: Embeds as the inverter's embedder does.
        max_tokens: Maximum number of tokens by the inverter's tokenizer; by default as many as it writes.

    Raises:
        InputError: If no text is left, or more tokens are asked for than it writes.
    """
    limit = inverter.config.max_tokens
    most = limit if max_tokens is None else max_tokens
    if not 1 < most <= limit:
        raise InputError(f"expected from 2 to {limit} tokens, which the inverter writes, found {most}")
    cleaned = [each for text in texts if (each := clean(text))]
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
    """Decodes the vectors of texts and compares the written texts with them.

    Args:
        inverter: The inverter.
        test: Held-out texts, see :func:`cut_corpus`.
        steps: Numbers of correction steps.
        beams: Widths of the beam.
        seed: Seed of all sampling.
        progress: Where to show progress.

    Returns:
        One row for each beam and number of steps; those of one beam come from one run.
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
    """Scores the baseline without an inverter: the known text with the nearest vector."""
    best = np.full(len(test), -np.inf, dtype=np.float32)
    nearest = np.zeros(len(test), dtype=np.int64)
    for start in range(0, len(known), _BLOCK):
        cosines = test.vectors @ known.vectors[start : start + _BLOCK].T
        columns = cosines.argmax(axis=1)
        largest = cosines[np.arange(len(test)), columns]
        better = largest > best
        nearest[better], best[better] = start + columns[better], largest[better]
    texts = [known.texts[row] for row in nearest.tolist()]
    return CheckRow("nearest", None, None, measure(texts, test.texts, best))
