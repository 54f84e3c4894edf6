"""What all decoders that write new texts share: cutting, tidying, embedding, and the audit of what they copied."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from dallme.data import DecodedText
from dallme.decoders.base import Context
from dallme.decoders.nearest import first_sentences
from dallme.embedders.base import TextError
from dallme.overlap import Contamination, SuffixAutomaton
from dallme.text import clean, sentences
from dallme.validation import text_problem

#: What models put around a text that they were asked for: a fence, a label, an introduction, quotes.
_FENCE = re.compile(r"^```\w*\s*|\s*```$")
_INTRODUCTION = re.compile(
    r"^(?:(?:sure|certainly|of course|here)\b[^\n:]{0,80}:|(?:text|title|example|answer)\s*:)\s*",
    re.IGNORECASE,
)
_QUOTES = (('"', '"'), ("“", "”"), ("'", "'"), ("«", "»"))

_WHOLE = re.compile(r"[.!?…。！？][\"”’')\]]*$")


def tidy(text: str) -> str:
    """A model's answer without what it puts around the text: fences, an introduction, one pair of quotes, markup."""
    text = _INTRODUCTION.sub("", _FENCE.sub("", text.strip()).strip())
    for first, last in _QUOTES:
        if len(text) > 2 and text.startswith(first) and text.endswith(last) and first not in text[1:-1]:
            text = text[1:-1]
    return clean(text)


def is_whole(text: str) -> bool:
    """Whether a text ends as a sentence does."""
    return _WHOLE.search(text) is not None


def without_half_sentence(text: str, language: str) -> str:
    """A tidy text without its last sentence, if that has no end and is not the only one."""
    parts = sentences(text, language)
    return " ".join(parts[:-1]) if len(parts) > 1 and not is_whole(parts[-1]) else text


def cut(text: str, context: Context, language: str) -> DecodedText | None:
    """A written text, cut after the last whole sentence within the limit; it comes from no row. None if nothing is left."""
    if text_problem(text) is not None:
        return None
    found = first_sentences(text, 0, context.max_tokens, context.count_tokens, language)
    return None if found is None else replace(found, rows=())


def embed_usable(embed: Callable[[Sequence[str]], np.ndarray], texts: Sequence[str]) -> dict[str, np.ndarray]:
    """The vector of each text; texts that are blank, or that the embedder can make nothing of, are left out."""
    left = [text for text in texts if text_problem(text) is None]
    while left:
        try:
            return dict(zip(left, embed(left), strict=True))
        except TextError as error:
            del left[error.row]
    return {}


def copied_spans(texts: Sequence[DecodedText], context: Context) -> list[DecodedText]:
    """The texts, each with the longest run of words that it shares with any one source row."""
    found = SuffixAutomaton([text.text for text in texts]).read(
        _cleaned(context.source.texts, "copies: source", context)
    )
    return [
        replace(text, copied_span=copied.longest, copied_row=copied.row)
        for text, copied in zip(texts, found, strict=True)
    ]


def audit_written(texts: Sequence[DecodedText], context: Context) -> dict[str, Any]:
    """What texts give away, for the manifest: in the words of ``dallme audit``, without a source or test row.

    Args:
        texts: The decoded texts, with their copied spans.
        context: The source, and the test rows where there are any.
    """
    contamination = None
    if context.test is not None:
        phrases = SuffixAutomaton([text.text for text in texts])
        contamination = Contamination.find(
            phrases, _cleaned(context.test.texts, "copies: test", context)
        ).as_dict()
    spans = [text.copied_span or 0 for text in texts]
    return {
        "longest_copied_span": max(spans, default=0),
        "mean_copied_span": float(np.mean(spans)) if spans else 0.0,
        "real_texts": [index for index, text in enumerate(texts) if text.rows],
        "contamination": contamination,
    }


def note_of_audit(found: dict[str, Any]) -> str:
    """The audit in one line."""
    parts = [f"the longest run of words shared with one source row has {found['longest_copied_span']} words"]
    if found["real_texts"]:
        parts.append(f"{len(found['real_texts'])} are real texts, as nothing usable was written")
    if contamination := found["contamination"]:
        shared = len(contamination["shared_13grams"])
        parts.append(
            f"{shared} share thirteen words in a row with a test row, {len(contamination['exact'])} are one"
        )
    return "; ".join(parts)


def _cleaned(rows: Sequence[str], what: str, context: Context) -> Iterator[str]:
    with context.progress.task(what, total=len(rows)) as task:
        for row in rows:
            yield clean(row)
            task.advance()
