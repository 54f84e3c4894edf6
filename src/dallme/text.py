"""Preparation of texts: removal of markup, sentences, words, hashes, and escaping for HTML pages."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import unicodedata
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import sentencex

# No alternative may contain its own opening, so that time is linear in the length even without an end.
_COMMENT_OR_BLOCK = re.compile(
    r"<!--(?:(?!<!--).)*?-->|<(script|style)\b[^<>]*>(?:(?!<\1\b).)*?</\1\s*>", re.DOTALL | re.IGNORECASE
)
# Tags within a word or a sentence, where a browser shows no space.
_INLINE = re.compile(
    r"</?(?:a|abbr|b|big|code|em|font|i|mark|s|small|span|strong|sub|sup|tt|u)(?:\s[^<>]*)?>", re.IGNORECASE
)
# A tag starts with a letter or a slash, so that "a < b" and "<3" stay; "<EMAIL_1>" is a placeholder.
_TAG = re.compile(r"<(?![A-Z]+_[0-9]+>)/?[a-zA-Z][^<>]*>|<![a-zA-Z][^<>]*>")

# Characters without a visible sign: white space, controls, joiners, directional marks, fillers, selectors.
_INVISIBLE = re.compile(
    "[\\s\\x00-\\x1f\\x7f-\\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e0fff]*"
)

# Words of spaced languages as scikit-learn's vectorizers define them: two letters or more.
_WORD = re.compile(r"(?u)\b\w\w+\b")
# Scripts written without spaces: Thai, Lao, Tibetan, Myanmar, Khmer, kana, Han.
_UNSPACED = (
    "\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u9fff"
    "\uf900-\ufaff\U00020000-\U0003ffff"
)
# Indic scripts: `\\w` does not match their vowel signs. The danda, which ends a sentence, is left out.
_INDIC = "\u0900-\u0963\u0966-\u0dff"
_INDIC_WORD = re.compile(f"[\\w\u200c\u200d{_INDIC}]{{2,}}")
_KINDS = re.compile(f"([{_UNSPACED}])|([{_INDIC}])|\\w")
# Emoji with their modifiers (skin tone, keycap) and joiners.
_SIGN = "[\u2190-\u2bff\u3030\u303d\U0001f000-\U0001faff]"
_MODIFIERS = "[\ufe0f\u20e3\U0001f3fb-\U0001f3ff]*"
_EMOJI = re.compile(f"[\U0001f1e6-\U0001f1ff]{{2}}|{_SIGN}{_MODIFIERS}(?:\u200d{_SIGN}{_MODIFIERS})*")

# Layers of escaping that are removed: "&amp;lt;br&amp;gt;" is a tag behind two.
_LAYERS = 5


def is_blank(text: str) -> bool:
    """Returns whether a text has no visible character."""
    return _INVISIBLE.fullmatch(text) is not None


def nfc(text: str) -> str:
    """Composes a text (Unicode normalization form C): ``e`` and a combining accent become ``é``."""
    if text.isascii() or unicodedata.is_normalized("NFC", text):
        return text
    return unicodedata.normalize("NFC", text)


def clean(text: str) -> str:
    """Removes HTML from a text and folds white space.

    Inline tags such as ``<b>`` are removed, other tags become spaces, and entities are decoded.
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
        text: A text returned by :func:`clean`.
        language: ISO 639-1 code of the language.

    Returns:
        The sentences in order, none blank; a text without sentence ends is one sentence.
    """
    return [stripped for sentence in sentencex.segment(language, text) if (stripped := sentence.strip())]


def words(text: str) -> list[str]:
    """Splits a text into words for counting.

    Words are those of scikit-learn: runs of two letters or more. If over a quarter of the letters belong to a
    script without spaces, its runs become overlapping character bigrams, as in Lucene's CJKBigramFilter.
    These scripts are Han, kana, Thai, Lao, Khmer, Myanmar and Tibetan. Combining marks, such as Arabic
    vowels, Hebrew points and Indic vowel signs, belong to the word of their letter. In a text without
    letters, emoji are the words.
    """
    if text.isascii():
        return _WORD.findall(text)
    text = nfc(text)
    letters = unspaced = indic = 0
    for kind in _KINDS.finditer(text):
        letters += 1
        unspaced += kind.lastindex == 1
        indic += kind.lastindex == 2
    if not letters:
        return _EMOJI.findall(text)
    if unspaced * 4 > letters:
        runs = _mixed_runs().finditer(text)
        return [word for run in runs for word in (_bigrams(run[0]) if run[1] else [run[0]])]
    return (_INDIC_WORD if indic * 2 > letters else _marked_word()).findall(text)


#: Code points among which all combining marks are; the others are letters of Han, unassigned or private.
_MARKED = (range(0x300, 0x20000), range(0xE0100, 0xE0200))


@cache
def _marks() -> str:
    """All combining marks, as a range expression of `re`."""
    codes = [code for part in _MARKED for code in part if unicodedata.category(chr(code))[0] == "M"]
    starts = [code for code, before in zip(codes, [0, *codes], strict=False) if code != before + 1]
    ends = [code for code, after in zip(codes, [*codes[1:], 0], strict=True) if after != code + 1]
    return "".join(f"{chr(start)}-{chr(end)}" for start, end in zip(starts, ends, strict=True))


@cache
def _marked_word() -> re.Pattern[str]:
    return re.compile(f"(?:\\w[{_marks()}]*){{2,}}")


@cache
def _mixed_runs() -> re.Pattern[str]:
    return re.compile(f"([{_UNSPACED}]+)|(?:[^\\W{_UNSPACED}][{_marks()}]*){{2,}}")


def _bigrams(run: str) -> list[str]:
    return [run[start : start + 2] for start in range(len(run) - 1)] or [run]


#: Bytes of a text's hash; collisions are not to be expected at this length.
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


#: Characters that could end a script, open a comment in it, or break a line of JavaScript.
_UNSAFE = str.maketrans({sign: f"\\u{ord(sign):04x}" for sign in "<>&\u2028\u2029"})


def to_json(value: Any) -> str:
    """Encodes a value for ``<script type="application/json">``: nothing in it is markup."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str).translate(_UNSAFE)


def to_script(code: str) -> str:
    """Escapes trusted JavaScript for a ``<script>``, with the line ends that the browser hashes."""
    code = code.replace("\r\n", "\n").replace("\r", "\n")
    return code.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def hash_source(script: str) -> str:
    """Returns the SHA-256 of a script as a Content-Security-Policy names it."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def to_unicode(text: str) -> str:
    """Replaces each lone surrogate, which UTF-8 cannot encode, by U+FFFD."""
    try:
        text.encode()  # many times faster than a look at each character
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
