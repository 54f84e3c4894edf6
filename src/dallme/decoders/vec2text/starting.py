"""The real texts that correction starts from: the nearest one of each prototype, and texts joined from pieces of the nearest."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dallme.data import DecodedText, Prototypes
from dallme.decoders.base import Context
from dallme.decoders.nearest import nearest_unused
from dallme.decoders.vec2text.assembly import assemble, pool_of
from dallme.decoders.vec2text.search import Writer


def real_starts(
    prototypes: Prototypes, targets: np.ndarray, writer: Writer, context: Context, *, beam: int, language: str
) -> list[list[DecodedText]]:
    """Real texts, and texts joined from pieces of real texts, near each prototype.

    Args:
        prototypes: m prototypes.
        targets: Their vectors in the space of `writer`, float32 of shape (m, d).
        writer: What embeds.
        context: The source and its limits.
        beam: Joined texts for each prototype at most.
        language: ISO 639-1 code, for finding the ends of sentences.

    Returns:
        For each prototype the nearest real text of its class, none twice in a class, and after it what was joined; the lineage
        of each names the row of each piece.
    """
    taken: dict[int, set[str]] = {int(label): set() for label in np.unique(prototypes.labels)}
    nearest, pools = [], []
    for vector, label in zip(prototypes.vectors, prototypes.labels.tolist(), strict=True):
        nearest.append(nearest_unused(vector, label, taken[label], context, language))
        rows = np.flatnonzero(context.vectors.labels == label)
        order = rows[np.argsort(-(context.vectors.vectors[rows] @ vector), kind="stable")]
        pools.append(pool_of(context.source.texts, order, language))
    joined = assemble(
        writer,
        targets,
        [text.sentences for text in nearest],
        [list(pool) for pool in pools],
        count_tokens=context.count_tokens,
        max_tokens=context.max_tokens,
        beam=beam,
    )
    return [
        [start, *(_with_rows(parts, start, pool) for parts in found if " ".join(parts) != start.text)]
        for start, pool, found in zip(nearest, pools, joined, strict=True)
    ]


def _with_rows(parts: tuple[str, ...], start: DecodedText, pool: Mapping[str, int]) -> DecodedText:
    """A joined text with the row that each piece was taken from."""
    return DecodedText(" ".join(parts), parts, tuple(pool.get(piece, start.rows[0]) for piece in parts))
