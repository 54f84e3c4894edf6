"""From vectors to places on a plane, by UMAP or, where that is not installed, by principal components."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dallme.progress import Progress, SilentProgress
from dallme.report.escaping import to_json
from dallme.validation import check_positive

if TYPE_CHECKING:
    from dallme.auditing.inputs import AuditInput
    from dallme.progress import Progress

#: Characters of a row's text that the map shows at most.
CHARACTERS = 160

#: Bytes that the texts and ids of the map's rows may take in the page; longer texts are cut shorter, all alike.
TEXT_BYTES = 3_350_000

#: Places on the map are whole numbers below this.
SIDE = 10_000


def map_data(
    evidence: AuditInput, classes: Sequence[int], points: int = 25_000, *, progress: Progress | None = None
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


#: Rows that a projection is fitted on; the others are placed among them.
FIT_ROWS = 5_000

#: Rows below which UMAP has too little to go by, and is not worth the ten seconds that it takes to start.
LEAST_ROWS = 200

#: Neighbours that UMAP looks at, and those between which a row is placed that it was not fitted on.
NEIGHBOURS, ANCHORS = 15, 4


@dataclass(frozen=True, eq=False)
class Projection:
    """Places on a plane.

    Attributes:
        method: ``UMAP`` or ``PCA``.
        rows: float64 of shape (n, 2), from 0 to 1.
        own: float64 of shape (m, 2), from 0 to 1.
        note: What the reader should know of the method; None if nothing.
    """

    method: str
    rows: np.ndarray
    own: np.ndarray
    note: str | None = None


def project(vectors: np.ndarray, own: np.ndarray, *, progress: Progress | None = None) -> Projection:
    """Lays vectors out on a plane, so that near ones come to lie near each other; the same vectors give the same places.

    At most :data:`FIT_ROWS` rows, drawn at random, are fitted. UMAP learns from their exact nearest neighbours, and each
    other row is placed between its :data:`ANCHORS` nearest of them: a search that takes a second where UMAP's own, with
    what it compiles for it, takes two minutes.

    Args:
        vectors: The source's rows, float32 of shape (n, d), n at least 1.
        own: The distilled texts, float32 of shape (m, d).
        progress: Where to show progress.

    Returns:
        The places, scaled to the unit square.
    """
    chosen = np.sort(np.random.default_rng(0).permutation(len(vectors))[:FIT_ROWS])
    everything = np.concatenate([vectors, own])
    umap = _find_umap() if len(vectors) >= LEAST_ROWS else None
    with (progress or SilentProgress()).task("map", 1) as task:
        places = (
            _by_components(vectors[chosen], everything)
            if umap is None
            else _by_umap(umap, chosen, everything)
        )
        task.advance()
    note = None
    if umap is None and len(vectors) >= LEAST_ROWS:
        note = "drawn by principal components, which tear groups apart less well than UMAP; for that: pip install 'dallme[map]'"
    places = _to_unit_square(places)
    return Projection("PCA" if umap is None else "UMAP", places[: len(vectors)], places[len(vectors) :], note)


def _find_umap() -> Any:
    """The module, or None where it is not installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it speaks of its own optional parts
            import umap
    except ImportError:
        return None
    return umap


def _by_umap(umap: Any, chosen: np.ndarray, everything: np.ndarray) -> np.ndarray:
    """Fits the chosen rows and places all."""
    fitted = everything[chosen]
    nearest, distances = _search(fitted, fitted, min(NEIGHBOURS, len(fitted)))
    reducer = umap.UMAP(
        n_neighbors=nearest.shape[1],
        init="pca",
        random_state=0,
        precomputed_knn=(nearest, distances),
        force_approximation_algorithm=True,  # else it would compare all rows again, few as they are
    )
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # that a seed means one thread, and that the search cannot be asked again
        learned = reducer.fit_transform(fitted)
    nearest, distances = _search(fitted, everything, ANCHORS)
    pull = 1 / np.maximum(distances, 1e-6)
    places: np.ndarray = (learned[nearest] * (pull / pull.sum(axis=1, keepdims=True))[..., None]).sum(axis=1)
    places[chosen] = learned
    return places


def _search(among: np.ndarray, vectors: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The nearest rows of one matrix to each of another, nearest first: positions and Euclidean distances."""
    from sklearn.neighbors import NearestNeighbors

    distances, nearest = NearestNeighbors(n_neighbors=count, algorithm="brute").fit(among).kneighbors(vectors)
    return nearest.astype(np.int32), distances.astype(np.float32)


def _by_components(fitted: np.ndarray, everything: np.ndarray) -> np.ndarray:
    """The first two principal components of the fitted rows; a plane that the rows do not fill is left at 0."""
    from sklearn.decomposition import PCA

    places = np.zeros((len(everything), 2))
    components = min(2, *fitted.shape)
    if len(fitted) > 1:
        model = PCA(components, svd_solver="randomized", random_state=0).fit(fitted)
        places[:, :components] = model.transform(everything)
    return places


def _to_unit_square(places: np.ndarray) -> np.ndarray:
    """Stretches each axis to reach from 0 to 1; an axis on which all is one stays in the middle."""
    low, high = places.min(axis=0), places.max(axis=0)
    width = high - low
    unit: np.ndarray = np.where(width > 0, (places - low) / np.where(width > 0, width, 1), 0.5)
    return unit
