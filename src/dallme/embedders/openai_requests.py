"""The form of requests and answers in OpenAI's protocol: what is sent, in which portions, and what must come back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dallme.errors import InputError
from dallme.services import tokens
from dallme.services.pricing import Usage

#: What the service takes: tokens of a text, texts of a request, tokens of a request.
MAX_TOKENS, MAX_INPUTS, MAX_REQUEST_TOKENS = 8192, 2048, 300_000
#: Numbers of an answer, at most: as JSON text they take some 25 MB, and several answers are under way at a time.
MAX_NUMBERS = 2**20


@dataclass(frozen=True, eq=False)
class Prepared:
    """Texts as they are sent.

    Attributes:
        texts: With the prefix, cut where they are too long.
        tokens: Tokens of each, int64 of shape (n,).
        cut: How many were cut.
    """

    texts: list[str]
    tokens: np.ndarray
    cut: int


def prepare(texts: Sequence[str], prefix: str, limit: int | None) -> Prepared:
    """Puts the prefix before each text, counts tokens and cuts what is longer than the limit.

    Raises:
        InputError: If the prefix alone fills the limit.
    """
    sent = [prefix + text for text in texts]
    counts = tokens.count_tokens(sent)
    if limit is None:
        return Prepared(sent, counts, 0)
    if prefix and (used := int(tokens.count_tokens([prefix])[0])) >= limit:
        raise InputError(f"expected a prompt of fewer than {limit:,} tokens, which leaves room for a text, found {used:,}")
    long = np.flatnonzero(counts > limit)
    for row in long:
        sent[row] = tokens.cut(sent[row], limit)
    counts[long] = limit
    return Prepared(sent, counts, len(long))


def pack(counts: np.ndarray, max_inputs: int, dimension: int | None, max_tokens: int | None) -> list[np.ndarray]:
    """Divides texts, in their order, into requests that keep to the limits of the service and of this machine's memory.

    Args:
        counts: Tokens of each text, of shape (n,).
        max_inputs: Texts in a request, at most.
        dimension: Length of a vector, None if it is not known yet.
        max_tokens: Tokens in a request, at most, None for as many as the service takes.

    Returns:
        Positions of the texts of each request.
    """
    most_inputs = min(max_inputs, MAX_INPUTS, max(1, MAX_NUMBERS // (dimension or 1024)))
    most_tokens = min(MAX_REQUEST_TOKENS, max_tokens or MAX_REQUEST_TOKENS)
    starts, total = [0], 0
    for row, count in enumerate(counts.tolist()):
        if row - starts[-1] >= most_inputs or (row > starts[-1] and total + count > most_tokens):
            starts.append(row)
            total = 0
        total += count
    return [np.arange(start, stop) for start, stop in zip(starts, [*starts[1:], len(counts)], strict=True)]


def parse(body: bytes, rows: int) -> tuple[np.ndarray, Usage | None]:
    """Reads an answer.

    Args:
        body: The answer, as JSON.
        rows: Texts that were sent.

    Returns:
        float32 of shape (rows, d) in the order of the texts, and the tokens that the service charges, None if it does not say.

    Raises:
        ValueError: If it is not one finite vector a text; so are KeyError, TypeError, IndexError and AttributeError, for
            answers of another form.
    """
    answer = json.loads(body)
    items = answer["data"]
    if len(items) != rows:
        raise ValueError(f"{len(items)} vectors for {rows} texts")
    places = [item.get("index", row) for row, item in enumerate(items)]
    if sorted(places) != list(range(rows)):
        raise ValueError("indexes that are not those of the texts")
    vectors = np.empty((rows, len(items[0]["embedding"])), dtype=np.float32)
    for place, item in zip(places, items, strict=True):
        if len(item["embedding"]) != vectors.shape[1]:
            raise ValueError("vectors of different lengths")
        vectors[place] = item["embedding"]
    if not vectors.size or not np.isfinite(vectors).all():
        raise ValueError("vectors with NaN or infinity" if vectors.size else "empty vectors")
    charged = (answer.get("usage") or {}).get("prompt_tokens")
    return vectors, Usage(int(charged)) if charged else None


def note_of_cut(count: int, limit: int | None) -> str:
    """Says how many texts are longer than the limit."""
    return f"{count:,} {'text is' if count == 1 else 'texts are'} cut at {limit:,} tokens"
