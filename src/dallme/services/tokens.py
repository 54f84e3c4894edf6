"""Tokens of OpenAI's embedding models, counted on this machine and without a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dallme.errors import MissingDependencyError

#: What the embedding models of OpenAI read.
ENCODING = "cl100k_base"


def count_tokens(texts: Sequence[str]) -> np.ndarray:
    """Counts the tokens of each text; int64 of shape (n,). For models of others it is an estimate."""
    return np.array(_tokenizer().batch_count(list(texts), ENCODING), dtype=np.int64)


def cut(text: str, limit: int) -> str:
    """The longest start of a text, in whole characters, that has at most `limit` tokens."""
    kept = limit
    while True:
        start: str = _tokenizer().truncate(text, kept, ENCODING)[0]
        if _tokenizer().batch_count([start], ENCODING)[0] <= limit:
            return start
        kept -= 1  # the start alone can fall into other tokens than it did within the text


def _tokenizer() -> Any:
    try:
        import toktok
    except ImportError:
        raise MissingDependencyError("counting tokens for OpenAI's protocol", "toktok-rs", "openai") from None
    return toktok
