"""How well a few texts read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from dallme.copying import words_of

# Quotes and brackets may stand before the first and after the last sign.
_BEGINS = re.compile(r"^[^\w]*(?:[^\W_a-z]|\d)")
_ENDS = re.compile(r"[.!?…。！？][\"'”’»)\]]*$")


@dataclass(frozen=True)
class Readability:
    """Measures of the texts.

    Attributes:
        type_token_ratio: Different words of a text by its words, mean over the texts.
        distinct_1: Different words of all texts by all their words (Li et al. 2016, "A Diversity-Promoting Objective
            Function for Neural Conversation Models").
        distinct_2: The same of pairs of words within a text.
        complete_sentences: Share of the sentences that begin with a capital, a digit or a letter of a script without
            capitals, and end with a closing sign.
        perplexity: Of the texts under a language model; None if it was not asked for.
    """

    type_token_ratio: float
    distinct_1: float
    distinct_2: float
    complete_sentences: float
    perplexity: float | None = None


def measure(texts: Sequence[str], sentences: Sequence[str], *, perplexity: float | None = None) -> Readability:
    """Measures texts.

    Args:
        texts: The texts.
        sentences: Their sentences.
        perplexity: Passed on.
    """
    found = [words_of(text) for text in texts]
    pairs = [list(pairwise(words)) for words in found]
    whole = [bool(_BEGINS.search(sentence) and _ENDS.search(sentence)) for sentence in sentences]
    return Readability(
        float(np.mean([_distinct(words) for words in found])) if found else 0.0,
        _distinct([word for words in found for word in words]),
        _distinct([pair for of_text in pairs for pair in of_text]),
        float(np.mean(whole)) if whole else 0.0,
        perplexity,
    )


def _distinct(items: Sequence[object]) -> float:
    return len(set(items)) / len(items) if items else 0.0
