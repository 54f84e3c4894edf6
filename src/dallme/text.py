"""Texts as people read them: without markup, in whole sentences."""

from __future__ import annotations

import html
import re

import sentencex

# None holds the start of another of its kind, so that time grows with the length of the text, whatever is left open.
_COMMENT_OR_BLOCK = re.compile(
    r"<!--(?:(?!<!--).)*?-->|<(script|style)\b[^<>]*>(?:(?!<\1\b).)*?</\1\s*>", re.DOTALL | re.IGNORECASE
)
# Tags within a word or a sentence, where a browser shows no space.
_INLINE = re.compile(r"</?(?:a|abbr|b|big|code|em|font|i|mark|s|small|span|strong|sub|sup|tt|u)(?:\s[^<>]*)?>", re.IGNORECASE)
# A tag starts with a letter or a slash, so that "a < b" and "<3" stay.
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>|<![a-zA-Z][^<>]*>")

#: How often a text may have been escaped: "&amp;lt;br&amp;gt;" hides a tag behind two layers.
_LAYERS = 5


def clean(text: str) -> str:
    """Takes HTML out of a text and folds white space.

    Tags become spaces, those of letters within a line (``<b>``) become nothing, entities the characters they stand for.
    """
    if "<" in text or "&" in text:
        for _ in range(_LAYERS):
            before = text
            text = html.unescape(_TAG.sub(" ", _INLINE.sub("", _COMMENT_OR_BLOCK.sub(" ", text))))
            if text == before:
                break
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
