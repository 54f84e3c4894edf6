"""Readability of texts: diversity of words, complete sentences, and perplexity."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from dallme.overlap import words_of
from dallme.progress import Progress, SilentProgress

#: Maximum number of tokens of a text whose perplexity is computed.
MAX_TOKENS = 512


def perplexity_of(texts: Sequence[str], model: str, *, progress: Progress | None = None) -> float | None:
    """Computes the perplexity of texts under a causal model: exp of the mean negative log-likelihood.

    Each text is scored on its own, up to :data:`MAX_TOKENS` tokens. The first token is scored only if the
    model has a token for the beginning.

    Args:
        texts: The texts.
        model: Name or folder, as for :func:`dallme.models.language.find_model`, such as ``smollm2``.
        progress: Progress display.

    Returns:
        The perplexity; None if no text has a token to predict.

    Raises:
        DallmeError: If the model cannot be loaded.
    """
    import torch

    from dallme.models.language import load_causal, token_limit

    network, tokenizer = load_causal(model)
    limit = token_limit(network, tokenizer, MAX_TOKENS, reserve=1)
    total, tokens = 0.0, 0
    with (
        (progress or SilentProgress()).task("audit: perplexity", total=len(texts)) as task,
        torch.inference_mode(),
    ):
        for text in texts:
            ids = tokenizer(text, add_special_tokens=False, truncation=True, max_length=limit).input_ids
            if tokenizer.bos_token_id is not None:
                ids = [tokenizer.bos_token_id, *ids]
            if len(ids) > 1:
                batch = torch.tensor([ids])
                scores = network(input_ids=batch).logits[0, :-1].float().log_softmax(dim=-1)
                total -= float(scores.gather(1, batch[0, 1:, None]).sum())
                tokens += len(ids) - 1
            task.advance()
    return math.exp(total / tokens) if tokens else None


# Quotes and brackets may precede the first letter and follow the last sign.
_BEGINS = re.compile(r"^[^\w]*(?:[^\W_a-z]|\d)")
_ENDS = re.compile(r"[.!?…。！？][\"'”’»)\]]*$")


@dataclass(frozen=True)
class Readability:
    """Measures of the texts.

    Attributes:
        type_token_ratio: Distinct words of a text divided by its words, averaged over the texts.
        distinct_1: Distinct words of all texts divided by their words (Li et al. 2016, "A Diversity-Promoting
            Objective Function for Neural Conversation Models").
        distinct_2: The same for pairs of adjacent words.
        complete_sentences: Share of sentences that begin with a capital, a digit or a letter without case,
            and end with a closing sign.
        perplexity: Perplexity under a language model; None if it was not measured.
    """

    type_token_ratio: float
    distinct_1: float
    distinct_2: float
    complete_sentences: float
    perplexity: float | None = None


def measure(
    texts: Sequence[str], sentences: Sequence[str], *, perplexity: float | None = None
) -> Readability:
    """Measures texts.

    Args:
        texts: The texts.
        sentences: Their sentences.
        perplexity: Perplexity of the texts, if measured.
    """
    words_by_text = [words_of(text) for text in texts]
    pairs = [list(pairwise(words)) for words in words_by_text]
    complete = [bool(_BEGINS.search(sentence) and _ENDS.search(sentence)) for sentence in sentences]
    return Readability(
        float(np.mean([_distinct(words) for words in words_by_text])) if texts else 0.0,
        _distinct([word for words in words_by_text for word in words]),
        _distinct([pair for text_pairs in pairs for pair in text_pairs]),
        float(np.mean(complete)) if complete else 0.0,
        perplexity,
    )


def _distinct(items: Sequence[object]) -> float:
    return len(set(items)) / len(items) if items else 0.0
