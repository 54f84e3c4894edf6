"""What exactly an embedder is given: the string, its tokens, and how much of the texts it never sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dallme.embedders.base import Embedder
from dallme.validation import check_texts


@dataclass(frozen=True)
class Explanation:
    """How an embedder sees some texts.

    Attributes:
        embedder: Its name.
        prefix: What stands before each text.
        strings: The strings that are embedded, prefix and text, uncut.
        tokens: Tokens of each, special tokens included.
        token_limit: Tokens that are read of a string; None if all are.
        share_cut: Share of the strings, in [0, 1], that have more.
    """

    embedder: str
    prefix: str
    strings: tuple[str, ...]
    tokens: tuple[int, ...]
    token_limit: int | None
    share_cut: float


def explain(embedder: Embedder, texts: Sequence[str], *, prompt: str | None = None) -> Explanation:
    """Says what an embedder is given for each text, without embedding any.

    Args:
        embedder: The embedder.
        texts: n texts.
        prompt: Task prompt, or the name of a template.

    Raises:
        InputError: If there is no text or one is unusable.
    """
    prefix = embedder.prefix(prompt)
    strings = tuple(prefix + text for text in check_texts(texts))
    tokens = embedder.count_tokens(strings)
    limit = embedder.token_limit
    share_cut = 0.0 if limit is None else float(np.mean(tokens > limit))
    return Explanation(embedder.name, prefix, strings, tuple(tokens.tolist()), limit, share_cut)
