"""Texts as people read them: without markup, in whole sentences, in words."""

from __future__ import annotations

import hashlib
import html
import re
from collections.abc import Sequence

import numpy as np
import sentencex

# None holds the start of another of its kind, so that time grows with the length of the text, whatever is left open.
_COMMENT_OR_BLOCK = re.compile(
    r"<!--(?:(?!<!--).)*?-->|<(script|style)\b[^<>]*>(?:(?!<\1\b).)*?</\1\s*>", re.DOTALL | re.IGNORECASE
)
# Tags within a word or a sentence, where a browser shows no space.
_INLINE = re.compile(
    r"</?(?:a|abbr|b|big|code|em|font|i|mark|s|small|span|strong|sub|sup|tt|u)(?:\s[^<>]*)?>", re.IGNORECASE
)
# A tag starts with a letter or a slash, so that "a < b" and "<3" stay.
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>|<![a-zA-Z][^<>]*>")

#: Words of spaced languages, as scikit-learn's vectorizers read them: two letters or more.
WORD = r"(?u)\b\w\w+\b"
_WORD = re.compile(WORD)
# Scripts written without spaces: Thai, Lao, Tibetan, Myanmar, Khmer, kana, Han.
_UNSPACED = (
    "\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003ffff"
)
_RUN = re.compile(f"([{_UNSPACED}]+)|[^\\W{_UNSPACED}]{{2,}}")
# Indic scripts: their vowel signs are marks, no letters to `\\w`, which would cut words in pieces. The danda ends a sentence.
_INDIC = "\u0900-\u0963\u0966-\u0dff"
_INDIC_WORD = re.compile(f"[\\w\u200c\u200d{_INDIC}]{{2,}}")
_KINDS = re.compile(f"([{_UNSPACED}])|([{_INDIC}])|\\w")
# Signs that stand for a thing or a feeling, with what changes their colour or joins them to one.
_SIGN = "[\u2190-\u2bff\u3030\u303d\U0001f000-\U0001faff]"
_CHANGES = "[\ufe0f\u20e3\U0001f3fb-\U0001f3ff]*"
_EMOJI = re.compile(f"[\U0001f1e6-\U0001f1ff]{{2}}|{_SIGN}{_CHANGES}(?:\u200d{_SIGN}{_CHANGES})*")

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


def words(text: str) -> list[str]:
    """The words of a text, for those who count them.

    They are scikit-learn's, runs of two letters or more, but where a quarter of the letters are of a script without spaces (Han,
    kana, Thai, Lao, Khmer, Myanmar, Tibetan): its runs become overlapping pairs of characters, as
    Lucene's CJKBigramFilter makes them. Indic words keep their vowel signs. A text without any letter has its emoji as words.
    """
    if text.isascii():
        return _WORD.findall(text)
    letters = unspaced = indic = 0
    for kind in _KINDS.finditer(text):
        letters += 1
        unspaced += kind.lastindex == 1
        indic += kind.lastindex == 2
    if not letters:
        return _EMOJI.findall(text)
    if unspaced * 4 > letters:
        return [word for run in _RUN.finditer(text) for word in (_pairs(run[0]) if run[1] else [run[0]])]
    return (_INDIC_WORD if indic * 2 > letters else _WORD).findall(text)


def _pairs(run: str) -> list[str]:
    return [run[at : at + 2] for at in range(len(run) - 1)] or [run]


#: Bytes of a key; at this length two different texts never share one.
KEY_BYTES = 16


def text_keys(texts: Sequence[str]) -> np.ndarray:
    """Hashes texts with BLAKE2b.

    Args:
        texts: n strings of valid Unicode.

    Returns:
        The 16 bytes of each hash as two little-endian numbers, uint64 of shape (n, 2).

    Example:
        >>> text_keys(["a text", "another", "a text"]).shape
        (3, 2)
    """
    digests = [hashlib.blake2b(text.encode(), digest_size=KEY_BYTES).digest() for text in texts]
    return np.frombuffer(b"".join(digests), dtype="<u8").reshape(-1, 2)
