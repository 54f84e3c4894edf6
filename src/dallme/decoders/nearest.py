"""The real text nearest to each prototype."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dallme.data import DecodedText, LabelledVectors, Prototypes
from dallme.decoders.base import Context, Decoder, DecodingResult, TokenCounter
from dallme.embedders.base import normalize
from dallme.errors import InputError
from dallme.text import clean, sentences


@dataclass(frozen=True)
class NearestDecoder(Decoder):
    """Returns for each prototype the row of its class with the largest cosine, no text twice in a class.

    This is the paper's alternative without vec2text (section 5.5). HTML is removed, and the text is cut after
    the last whole sentence within the token limit.

    Attributes:
        language: ISO 639-1 code, for sentence boundaries.
    """

    language: str = "en"

    def _decode(self, prototypes: Prototypes, context: Context, rng: np.random.Generator) -> DecodingResult:
        taken: dict[int, set[str]] = {int(label): set() for label in np.unique(prototypes.labels)}
        decoded = []
        with context.progress.task("choosing rows", total=len(prototypes)) as task:
            for vector, label in zip(prototypes.vectors, prototypes.labels.tolist(), strict=True):
                decoded.append(nearest_unused(vector, label, taken[label], context, self.language))
                task.advance()
        return DecodingResult(tuple(decoded))


def nearest_unused(
    vector: np.ndarray, label: int, taken: set[str], context: Context, language: str
) -> DecodedText:
    """Returns the nearest row of a class whose text, cut to the limit, is not in `taken`, and adds it there.

    Raises:
        InputError: If the class has no other text.
    """
    rows = context.vectors.rows_of(label)
    for position in _descending(_cosines(context.vectors, rows, vector)):
        row = int(rows[position])
        decoded = first_sentences(
            context.source.texts[row], row, context.max_tokens, context.count_tokens, language
        )
        if decoded is not None and decoded.text not in taken:
            taken.add(decoded.text)
            return decoded
    raise InputError(
        f"expected at least {len(taken) + 1} different texts in class {context.source.label_names[label]!r} "
        f"without HTML and cut to {context.max_tokens} tokens, found {len(taken)}; "
        "ask for fewer texts or more tokens"
    )


def _cosines(vectors: LabelledVectors, rows: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Returns the cosine of each row to the target, or a positive multiple that all rows share."""
    own = vectors.vectors[rows]
    if not vectors.fingerprint.normalized:
        own, target = normalize(own), normalize(target[None])[0]
    cosines: np.ndarray = own @ target
    return cosines


def _descending(values: np.ndarray) -> Iterator[int]:
    """Yields the positions of the values, the largest first, equal ones in their order.

    Callers usually read only the first few, so the values are sorted in small blocks.
    """
    done, count = 0, 16
    while done < len(values):
        top = np.arange(len(values))
        if count < len(values):
            top = np.flatnonzero(values >= np.partition(values, -count)[-count])
        order = top[np.argsort(-values[top], kind="stable")]
        yield from order[done:].tolist()
        done, count = len(order), 16 * count


def first_sentences(
    text: str, row: int, max_tokens: int, count_tokens: TokenCounter, language: str
) -> DecodedText | None:
    """Returns the longest run of sentences from the start of a text that fits a token limit.

    A first sentence that is too long is cut between words, or between characters if it is a single word.

    Returns:
        The cut text with its lineage, or None if nothing is left of it.
    """
    parts = sentences(clean(text), language)
    fitting = longest_prefix(parts, " ", max_tokens, count_tokens)
    if parts and not fitting:
        start = longest_prefix(parts[0].split(), " ", max_tokens, count_tokens)
        characters = start or longest_prefix(list(parts[0].split()[0]), "", max_tokens, count_tokens)
        fitting = [(" " if start else "").join(characters)] if characters else []
    return DecodedText(" ".join(fitting), tuple(fitting), (row,) * len(fitting)) if fitting else None


def longest_prefix(
    parts: list[str], separator: str, max_tokens: int, count_tokens: TokenCounter
) -> list[str]:
    """Returns the longest prefix of `parts` that fits once joined, by bisection."""
    low, high = 0, len(parts)
    while low < high:
        middle = (low + high + 1) // 2
        if count_tokens([separator.join(parts[:middle])])[0] <= max_tokens:
            low = middle
        else:
            high = middle - 1
    return parts[:low]
