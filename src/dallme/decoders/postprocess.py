"""Steps after a model has written a text: tidying, cutting, embedding, and the audit of copied words."""

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

#: Wrapping that models put around a text: a code fence, a label or introduction, quotes.
_FENCE = re.compile(r"^```\w*\s*|\s*```$")
_INTRODUCTION = re.compile(
    r"^(?:(?:sure|certainly|of course|here)\b[^\n:]{0,80}:|(?:text|title|example|answer)\s*:)\s*",
    re.IGNORECASE,
)
_QUOTES = (('"', '"'), ("“", "”"), ("'", "'"), ("«", "»"))

_WHOLE = re.compile(r"[.!?…。！？][\"”’')\]]*$")


def tidy(text: str) -> str:
    """Removes fences, an introduction, one pair of quotes and markup from a model's answer."""
    text = _INTRODUCTION.sub("", _FENCE.sub("", text.strip()).strip())
    for first, last in _QUOTES:
        if len(text) > 2 and text.startswith(first) and text.endswith(last) and first not in text[1:-1]:
            text = text[1:-1]
    return clean(text)


def is_whole(text: str) -> bool:
    """Returns whether a text ends as a sentence does."""
    return _WHOLE.search(text) is not None


def without_half_sentence(text: str, language: str) -> str:
    """Removes the last sentence of a tidy text if it has no end and is not the only one."""
    parts = sentences(text, language)
    return " ".join(parts[:-1]) if len(parts) > 1 and not is_whole(parts[-1]) else text


def cut(text: str, context: Context, language: str) -> DecodedText | None:
    """Cuts a written text after the last whole sentence within the limit; None if nothing is left.

    The result has no source rows.
    """
    if text_problem(text) is not None:
        return None
    prefix = first_sentences(text, 0, context.max_tokens, context.count_tokens, language)
    return None if prefix is None else replace(prefix, rows=())


def embed_usable(embed: Callable[[Sequence[str]], np.ndarray], texts: Sequence[str]) -> dict[str, np.ndarray]:
    """Returns the vector of each text, without blank texts and texts that the embedder cannot embed."""
    usable = [text for text in texts if text_problem(text) is None]
    while usable:
        try:
            return dict(zip(usable, embed(usable), strict=True))
        except TextError as error:
            del usable[error.row]
    return {}


def copied_spans(texts: Sequence[DecodedText], context: Context) -> list[DecodedText]:
    """Returns the texts, each with the longest run of words that it shares with one source row."""
    overlaps = SuffixAutomaton([text.text for text in texts]).read(
        _cleaned(context.source.texts, "copies: source", context)
    )
    return [
        replace(text, copied_span=overlap.longest, copied_row=overlap.row)
        for text, overlap in zip(texts, overlaps, strict=True)
    ]


def audit_written(texts: Sequence[DecodedText], context: Context) -> dict[str, Any]:
    """Returns the manifest's entry ``decoding.audit``, with the keys of ``dallme audit``; it quotes no row.

    Args:
        texts: The decoded texts, with their copied spans.
        context: The source, and the test rows if there are any.
    """
    contamination = None
    if context.test is not None:
        automaton = SuffixAutomaton([text.text for text in texts])
        test_rows = _cleaned(context.test.texts, "copies: test", context)
        contamination = Contamination.find(automaton, test_rows).as_dict()
    spans = [text.copied_span or 0 for text in texts]
    return {
        "longest_copied_span": max(spans, default=0),
        "mean_copied_span": float(np.mean(spans)) if spans else 0.0,
        "real_texts": [index for index, text in enumerate(texts) if text.rows],
        "contamination": contamination,
    }


def note_of_audit(audit: dict[str, Any]) -> str:
    """Returns the audit in one line."""
    parts = [f"the longest run of words shared with one source row has {audit['longest_copied_span']} words"]
    if audit["real_texts"]:
        parts.append(f"{len(audit['real_texts'])} are real texts, as nothing usable was written")
    if contamination := audit["contamination"]:
        shared = len(contamination["shared_13grams"])
        parts.append(
            f"{shared} share thirteen words in a row with a test row, {len(contamination['exact'])} are one"
        )
    return "; ".join(parts)


def _cleaned(rows: Sequence[str], name: str, context: Context) -> Iterator[str]:
    """Yields the rows without markup, showing progress."""
    with context.progress.task(name, total=len(rows)) as task:
        for row in rows:
            yield clean(row)
            task.advance()
