"""The origin of each distilled text in its source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dallme.data import DecodedText, Prototypes

RowId = int | str


@dataclass(frozen=True)
class Lineage:
    """Origin of one distilled text.

    Attributes:
        decoder: Name of the decoder that wrote it.
        member_rows: Ids of the source rows of its cluster, nearest to the prototype first.
        nearest_rows: Ids of the source rows of its class nearest to the prototype.
        sentences: The sentences of the text.
        sentence_rows: For each sentence the id of the source row it was taken from; empty if none was copied.
        cosine: Cosine of the text's own vector to the prototype, or None without an embedder.
        label_agrees: Whether a linear probe of the full data gives the text its label, or None if no probe
            was used.
        copied_span: Words of the longest run that the text shares with any one source row, or None if it was
            not measured.
        copied_rows: Id of a row that holds that run; empty if it was not measured, or no word is shared.
    """

    decoder: str
    member_rows: tuple[RowId, ...] = ()
    nearest_rows: tuple[RowId, ...] = ()
    sentences: tuple[str, ...] = ()
    sentence_rows: tuple[RowId, ...] = ()
    cosine: float | None = None
    label_agrees: bool | None = None
    copied_span: int | None = None
    copied_rows: tuple[RowId, ...] = ()


def trace(
    prototypes: Prototypes,
    decoded: Sequence[DecodedText],
    row_ids: np.ndarray,
    vectors: np.ndarray | None,
    decoder: str,
) -> tuple[Lineage, ...]:
    """Traces decoded texts back to their source.

    Args:
        prototypes: m prototypes.
        decoded: The text of each.
        row_ids: Ids of the source rows, by position.
        vectors: The texts' own vectors, of length 1, of shape (m, d); None if they are not known.
        decoder: Name of the decoder.

    Returns:
        The lineage of each text.
    """
    ids = row_ids.tolist()
    cosines: list[float | None] = [None] * len(decoded)
    if vectors is not None:
        lengths = np.linalg.norm(prototypes.vectors, axis=1)
        cosines = ((vectors * prototypes.vectors).sum(axis=1) / np.where(lengths == 0, 1, lengths)).tolist()
    return tuple(
        Lineage(
            decoder=decoder,
            member_rows=tuple(ids[row] for row in members.tolist()),
            nearest_rows=tuple(ids[row] for row in members[:3].tolist()),
            sentences=text.sentences,
            sentence_rows=tuple(ids[row] for row in text.rows),
            cosine=cosine,
            label_agrees=text.label_agrees,
            copied_span=text.copied_span,
            copied_rows=() if text.copied_row is None else (ids[text.copied_row],),
        )
        for members, text, cosine in zip(prototypes.members, decoded, cosines, strict=True)
    )
