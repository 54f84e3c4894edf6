"""Texts as people read them: without markup, in whole sentences."""

from __future__ import annotations

import html
import re

import sentencex

_COMMENT_OR_BLOCK = re.compile(r"<!--.*?-->|<(script|style)\b[^>]*>.*?</\1\s*>", re.DOTALL | re.IGNORECASE)
# A tag starts with a letter or a slash, so that "a < b" and "<3" stay.
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>|<![a-zA-Z][^<>]*>")


def clean(text: str) -> str:
    """Takes HTML out of a text and folds white space: tags become spaces, entities the characters they stand for."""
    if "<" in text or "&" in text:
        text = _TAG.sub(" ", _COMMENT_OR_BLOCK.sub(" ", text))
        # An entity may hide a tag: "&lt;br&gt;" is read as "<br>" and taken out as well.
        text = _TAG.sub(" ", _COMMENT_OR_BLOCK.sub(" ", html.unescape(text)))
    return " ".join(text.split())


def sentences(text: str, language: str = "en") -> list[str]:
    """Splits a clean text into sentences.

    Args:
        text: A text that went through :func:`clean`.
        language: ISO 639-1 code of the language.

    Returns:
        The sentences in order, none blank; a text without sentence ends is one sentence.
    """
    return [stripped for sentence in sentencex.segment(language, text) if (stripped := sentence.strip())]
