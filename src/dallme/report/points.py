"""What the map shows: a place, a class, a cluster and the start of the text of each source row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dallme.report.escaping import to_json
from dallme.report.projection import project
from dallme.validation import check_positive

if TYPE_CHECKING:
    from dallme.audit.evidence import Evidence
    from dallme.progress import Progress

#: Characters of a row's text that the map shows at most.
CHARACTERS = 160

#: Bytes that the texts and ids of the map's rows may take in the page; longer texts are cut shorter, all alike.
TEXT_BYTES = 3_350_000

#: Places on the map are whole numbers below this.
SIDE = 10_000


def map_data(
    evidence: Evidence, classes: Sequence[int], points: int = 25_000, *, progress: Progress | None = None
) -> dict[str, Any] | None:
    """Gathers what the map shows; the same evidence gives the same.

    Args:
        evidence: The set beside its source.
        classes: Class ids; a class is named by its place among them.
        points: Rows that are shown at most; of more, some are drawn at random.
        progress: Where to show progress.

    Returns:
        ``method``, ``note`` and ``total`` (rows of the source), columns ``x``, ``y``, ``class``, ``cluster`` (the distilled
        text that stands for the row; -1 if none does), ``row`` (id) and ``text`` of the rows, and ``own``: the ``x`` and
        ``y`` of the distilled texts. None without vectors.

    Raises:
        InputError: If `points` is no whole number of at least 1.
    """
    check_positive(points, "points")
    if evidence.vectors is None or evidence.own is None:
        return None
    source = evidence.source
    # In random order, so that no class is drawn over another.
    rows = np.random.default_rng(0).permutation(len(source))[:points]
    found = project(evidence.vectors.vectors[rows], evidence.own, progress=progress)
    places, own = (np.round(part * (SIDE - 1)).astype(int) for part in (found.rows, found.own))
    cluster = np.full(len(source), -1)
    for number, members in enumerate(evidence.members):
        cluster[members] = number
    number_of = {label: number for number, label in enumerate(classes)}
    ids = source.row_ids[rows].tolist()
    return {
        "method": found.method,
        "note": found.note,
        "total": len(source),
        "x": places[:, 0].tolist(),
        "y": places[:, 1].tolist(),
        "class": [number_of[label] for label in source.labels[rows].tolist()],
        "cluster": cluster[rows].tolist(),
        "row": ids,
        "text": cut_all([source.texts[row] for row in rows.tolist()], TEXT_BYTES - _bytes(ids)),
        "own": {"x": own[:, 0].tolist(), "y": own[:, 1].tolist()},
    }


def cut(text: str, characters: int) -> str:
    """The start of a text on one line, of at most so many characters; a sign at its end says that there is more."""
    start = " ".join(text[: 4 * characters].split())  # a text may be a million characters long
    if len(start) <= characters and len(text) <= 4 * characters:
        return start
    return start[: characters - 1].rstrip() + "…"


def cut_all(texts: Sequence[str], budget: int) -> list[str]:
    """Cuts texts to :data:`CHARACTERS`, or to fewer if they would take more than `budget` bytes in the page."""
    characters = CHARACTERS
    while True:
        found = [cut(text, characters) for text in texts]
        size = _bytes(found)
        if size <= budget or characters <= 8:
            return found
        characters = max(8, min(characters - 4, int(characters * budget / size)))


def _bytes(values: Sequence[Any]) -> int:
    """How many bytes values take in the page."""
    return len(to_json(values).encode(errors="replace"))
