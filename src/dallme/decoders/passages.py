"""Passages: the part of a long row that fits the token limit, in whole sentences."""

from __future__ import annotations

from dallme.data import DecodedText
from dallme.decoders.base import TokenCounter
from dallme.decoders.nearest import first_sentences, longest_prefix
from dallme.text import clean, sentences

#: Parts of a row that a text can be: its first sentences, its last ones, or some from either end.
PASSAGES = ("first", "last", "ends")


def cut_passage(
    text: str, row: int, passage: str, max_tokens: int, count_tokens: TokenCounter, language: str
) -> DecodedText | None:
    """Returns a passage of a row; the whole row if that fits.

    Args:
        text: Text of the row.
        row: Its position, for the lineage.
        passage: One of :data:`PASSAGES`. Of ``ends``, the first sentences get half of the tokens.
        max_tokens: Maximum number of tokens.
        count_tokens: Counts the tokens of each text, special tokens included.
        language: ISO 639-1 code, for sentence boundaries.

    Returns:
        The passage with its lineage. Where no whole sentence fits, that of
        :func:`~dallme.decoders.nearest.first_sentences`, which may be None.
    """
    if passage == "first":
        return first_sentences(text, row, max_tokens, count_tokens, language)
    parts = sentences(clean(text), language)
    if passage == "ends":
        head = longest_prefix(parts, " ", max_tokens // 2, count_tokens)
        left = max_tokens - int(count_tokens([" ".join(head)])[0]) if head else max_tokens
    else:
        head, left = [], max_tokens
    tail = longest_prefix(parts[len(head) :][::-1], " ", left, count_tokens)[::-1]
    chosen = [*head, *tail]
    if not chosen:
        return first_sentences(text, row, max_tokens, count_tokens, language)
    return DecodedText(" ".join(chosen), tuple(chosen), (row,) * len(chosen))


def visible_words(text: str, passage: str, count: int) -> str:
    """Returns about the words that a passage of that many tokens shows: a cheap stand-in for it."""
    words = text.split()
    if passage == "last":
        words = words[-count:]
    elif passage == "ends" and len(words) > count:
        words = words[: count // 2] + words[-(count - count // 2) :]
    return " ".join(words[:count])
