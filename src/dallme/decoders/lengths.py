"""How long texts should be, tried on held-out rows where they may be many times as long as the rows they stand for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from dallme.data import DecodedText, Prototypes
from dallme.decoders.base import Context
from dallme.decoders.trial import EMBEDDING_STUDENT, Trial

#: Lengths are tried where a text may have over this many times the tokens of the median row.
MANY_TIMES = 4

#: The length that is allowed is divided by these, down to :data:`SHORTEST` tokens.
DIVISORS, SHORTEST = (1, 2, 4, 6, 8), 12

#: Accuracy by which a shorter length has to be better, about two standard errors on a thousand rows.
CLEARLY = 0.02

#: Who is trained on the texts of each length: one that counts words, one that reads vectors.
STUDENTS = ("logistic-regression", EMBEDDING_STUDENT)

#: Share of the rows that is held out, the most of them, and rows that the median is taken over.
_SHARE, _MOST, _SAMPLE = 0.2, 4000, 1000

#: Writes texts for prototypes within the limits of a context.
Write = Callable[[Prototypes, Context, np.random.Generator], list[DecodedText]]


def fitting_length(write: Write, prototypes: Prototypes, context: Context, rng: np.random.Generator) -> int:
    """Chooses the most tokens of a text.

    Long texts hold more words, which classifiers that count words learn from; but where rows are short, the vector of a text
    of ten sentences lies far from that of any row, and classifiers that read vectors learn little from it. So a set of each
    length is written from a part of the rows, students are trained on it alone, and the length is taken at which their mean
    accuracy on the other rows is best, if that is clearly better than with the longest. What was found goes into the manifest
    (``decoding.length``).

    Args:
        write: Writes a set.
        prototypes: m prototypes.
        context: The source and its limits.
        rng: Draws the rows that are held out.

    Returns:
        Tokens, ``context.max_tokens`` at most. That itself where rows are not much shorter, where there is no embedder or
        one that asks a service, which takes money for each try, and where too few rows can be held out.
    """
    if context.embedder is None or context.embedder.paid or context.max_tokens <= MANY_TIMES * _median_tokens(context):
        return context.max_tokens
    seed = int(rng.integers(2**32))
    trial = Trial.split(prototypes, context, rng, share=_SHARE, most=_MOST)
    if trial is None:
        return context.max_tokens
    scores: dict[int, dict[str, float]] = {}
    for divisor in DIVISORS:
        length = min(context.max_tokens, max(context.max_tokens // divisor, SHORTEST))
        if length not in scores:
            part = replace(trial.context, max_tokens=length, findings={})
            scores[length] = trial.score(write(trial.prototypes, part, np.random.default_rng(seed)), STUDENTS)
    means = {length: float(np.mean(list(found.values()))) for length, found in scores.items()}
    longest, best = context.max_tokens, max(means, key=lambda length: (means[length], length))
    chosen = best if means[best] - means[longest] > CLEARLY else longest
    told = {str(length): found for length, found in scores.items()}  # JSON has no other keys
    context.findings["length"] = {"tokens": chosen, "held_out_rows": len(trial.texts), "scores": told}
    shown = ", ".join(f"{length} tokens {mean:.3f}" for length, mean in means.items())
    context.progress.note(
        f"texts of at most {chosen} tokens; mean accuracy of {', '.join(STUDENTS)} on {len(trial.texts):,} held-out rows: {shown}"
    )
    return chosen


def _median_tokens(context: Context) -> float:
    """Tokens of the median row, of an even sample of the rows."""
    step = -(-len(context.source) // _SAMPLE)
    return float(np.median(context.count_tokens([context.source.texts[row] for row in range(0, len(context.source), step)])))
