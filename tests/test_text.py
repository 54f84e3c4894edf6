"""Cleaning and splitting of texts."""

from __future__ import annotations

import re
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dallme.text import _marks, clean, sentences

_CLEANED = {
    "plain text": "plain text",
    "  two\t lines\n\nfolded ": "two lines folded",
    "one<br /><br />two": "one two",
    "<p>one</p><P class='x'>two</P>": "one two",
    "<a\nhref='x'>link</a>": "link",
    "<!DOCTYPE html>text": "text",
    "a<!-- hidden > -->b": "a b",
    'It <i>fits</i>. See <a href="x">here</a>, <br>or th<b>er</b>e.': "It fits. See here, or there.",
    "a<script>alert('<b>')</script >b<STYLE>p {}</STYLE>c": "a b c",
    "fish &amp; chips &quot;now&quot; &#39;": 'fish & chips "now" \'',
    "&nbsp;a&nbsp;&nbsp;b": "a b",
    "&lt;br&gt;a &lt;a href='x'&gt;b&lt;/a&gt;": "a b",
    "twice &amp;amp; &amp;lt;br /&amp;gt;": "twice &",
    "a tag <b<i>> in a tag": "a tag in a tag",
    "a < b and b > a, I <3 you, 1<2": "a < b and b > a, I <3 you, 1<2",
    "R&D, Q&A, AT&T, a & b": "R&D, Q&A, AT&T, a & b",
    "left <!-- open, <script> too": "left <!-- open, too",
    "<br />": "",
    "&nbsp; \n": "",
    "": "",
    "&#0;&#xD800;": "\ufffd\ufffd",  # no NUL byte and no lone surrogate comes out of an entity
    "très bien 很好 😀": "très bien 很好 😀",
}


@pytest.mark.parametrize("text", _CLEANED)
def test_clean(text: str) -> None:
    assert clean(text) == _CLEANED[text]


_PIECES = [
    "<",
    ">",
    "&",
    "amp;",
    "lt;",
    "gt;",
    "#39;",
    "<b>",
    "</b>",
    "<br />",
    "<!--",
    "-->",
    "<script>",
    "</script>",
    "a",
    " ",
    "\n",
]


@given(st.lists(st.sampled_from(_PIECES), max_size=5).map("".join))
def test_cleaning_is_idempotent(text: str) -> None:
    assert clean(clean(text)) == clean(text)


@pytest.mark.parametrize("piece", ["<!--", "<script>", "<script ", "<style", "<a", "&", "&#", "<"])
def test_unclosed_markup_is_cleaned_in_linear_time(piece: str) -> None:
    # Looking for each end up to the end of the text would take hours here.
    cleaned = clean(piece * (900_000 // len(piece)))
    assert clean(cleaned[:1000]) == cleaned[:1000].strip()


def test_sentences() -> None:
    assert sentences("Hello there. How are you? Fine!") == ["Hello there.", "How are you?", "Fine!"]
    assert sentences("Dr. Smith saw it. He left.") == ["Dr. Smith saw it.", "He left."]
    assert sentences("no end") == ["no end"]
    assert sentences("这部电影很好。我喜欢！") == ["这部电影很好。", "我喜欢！"]
    assert sentences("¿Qué tal? Bien.", "es") == ["¿Qué tal?", "Bien."]
    assert sentences("") == sentences("  ") == []


@given(st.text(st.sampled_from("ab. !?\"'。\n…"), max_size=40))
def test_sentences_leave_nothing_out(text: str) -> None:
    found = sentences(clean(text))
    assert all(sentence == sentence.strip() != "" for sentence in found)
    assert "".join("".join(found).split()) == "".join(text.split())


def test_every_combining_mark_belongs_to_words() -> None:
    marks = [chr(code) for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code))[0] == "M"]
    pattern = re.compile(f"[{_marks()}]")
    assert all(pattern.fullmatch(mark) for mark in marks if ord(mark) >= 0x300)
