"""The map of the source: a projection of its vectors onto a plane, by UMAP or principal components."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dallme.personal import mask
from dallme.progress import Progress, SilentProgress
from dallme.text import to_json
from dallme.validation import check_positive

if TYPE_CHECKING:
    from dallme.auditing.inputs import AuditInput
    from dallme.progress import Progress

#: Maximum number of characters of a row's text on the map.
CHARACTERS = 160

#: Characters of a row in which personal data is masked before the row is cut to :data:`CHARACTERS`.
MASKED = 4 * CHARACTERS

#: Maximum bytes of all texts and ids of the map in the page; above it, texts are cut shorter.
TEXT_BYTES = 3_350_000

#: Coordinates on the map are whole numbers below this.
SIDE = 10_000


def map_data(
    evidence: AuditInput, classes: Sequence[int], points: int = 25_000, *, progress: Progress | None = None
) -> dict[str, Any] | None:
    """Computes the data of the map; the same evidence gives the same map.

    Args:
        evidence: The set with its source.
        classes: Class ids; the map refers to a class by its position.
        points: Maximum number of rows to show, drawn at random.
        progress: Progress display.

    Returns:
        ``method``, ``note`` and ``total`` (rows of the source), columns ``x``, ``y``, ``class``, ``cluster``
        (index of the distilled text, or -1), ``row`` (id) and ``text`` of the rows, and ``own``: the ``x``
        and ``y`` of the distilled texts. None without vectors.

    Raises:
        InputError: If `points` is no whole number of at least 1.
    """
    check_positive(points, "points")
    if evidence.vectors is None or evidence.own is None:
        return None
    source = evidence.source
    # A random order draws no class over another.
    rows = np.random.default_rng(0).permutation(len(source))[:points]
    projection = project(evidence.vectors.vectors[rows], evidence.own, progress=progress)
    dots, own = (np.round(part * (SIDE - 1)).astype(int) for part in (projection.rows, projection.own))
    cluster = np.full(len(source), -1)
    for number, members in enumerate(evidence.members):
        cluster[members] = number
    number_of = {label: number for number, label in enumerate(classes)}
    ids = source.row_ids[rows].tolist()
    return {
        "method": projection.method,
        "note": projection.note,
        "total": len(source),
        "x": dots[:, 0].tolist(),
        "y": dots[:, 1].tolist(),
        "class": [number_of[label] for label in source.labels[rows].tolist()],
        "cluster": cluster[rows].tolist(),
        "row": ids,
        "text": cut_all(
            [mask(source.texts[row][:MASKED]) for row in rows.tolist()], TEXT_BYTES - _bytes(ids)
        ),
        "own": {"x": own[:, 0].tolist(), "y": own[:, 1].tolist()},
    }


def cut(text: str, characters: int) -> str:
    """Cuts a text to one line of at most `characters`, with an ellipsis if something is left out."""
    start = " ".join(text[: 4 * characters].split())  # a text may be a million characters long
    if len(start) <= characters and len(text) <= 4 * characters:
        return start
    return start[: characters - 1].rstrip() + "…"


def cut_all(texts: Sequence[str], budget: int) -> list[str]:
    """Cuts texts to :data:`CHARACTERS`, or to fewer to stay within `budget` bytes in the page."""
    characters = CHARACTERS
    while True:
        shortened = [cut(text, characters) for text in texts]
        size = _bytes(shortened)
        if size <= budget or characters <= 8:
            return shortened
        characters = max(8, min(characters - 4, int(characters * budget / size)))


def _bytes(values: Sequence[Any]) -> int:
    """Returns the size of values in the page, in bytes."""
    return len(to_json(values).encode(errors="replace"))


#: Rows that a projection is fitted on; the others are interpolated.
FIT_ROWS = 5_000

#: Minimum number of rows for UMAP, which takes ten seconds to start.
LEAST_ROWS = 200

#: Neighbours for UMAP, and fitted neighbours between which another row is interpolated.
NEIGHBOURS, ANCHORS = 15, 4


@dataclass(frozen=True, eq=False)
class Projection:
    """Coordinates on a plane.

    Attributes:
        method: ``UMAP`` or ``PCA``.
        rows: float64 of shape (n, 2), from 0 to 1.
        own: float64 of shape (m, 2), from 0 to 1.
        note: Note on the method for the reader, or None.
    """

    method: str
    rows: np.ndarray
    own: np.ndarray
    note: str | None = None


def project(vectors: np.ndarray, own: np.ndarray, *, progress: Progress | None = None) -> Projection:
    """Projects vectors onto a plane that keeps neighbours together; the same vectors give the same plane.

    At most :data:`FIT_ROWS` random rows are fitted, by UMAP on their exact nearest neighbours. Each other row
    is interpolated between its :data:`ANCHORS` nearest fitted rows: UMAP's own transform takes two minutes to
    compile.

    Args:
        vectors: The source's rows, float32 of shape (n, d), n at least 1.
        own: The distilled texts, float32 of shape (m, d).
        progress: Progress display.

    Returns:
        The coordinates, scaled to the unit square.
    """
    chosen = np.sort(np.random.default_rng(0).permutation(len(vectors))[:FIT_ROWS])
    everything = np.concatenate([vectors, own])
    umap = _find_umap() if len(vectors) >= LEAST_ROWS else None
    with (progress or SilentProgress()).task("drawing the map", 1) as task:
        if umap is None:
            places = _by_components(vectors[chosen], everything)
        else:
            places = _by_umap(umap, chosen, everything)
        task.advance()
    note = None
    if umap is None and len(vectors) >= LEAST_ROWS:
        note = (
            "drawn by principal components, which tear groups apart less well than UMAP; "
            "for that: pip install 'dallme[map]'"
        )
    places = _to_unit_square(places)
    return Projection("PCA" if umap is None else "UMAP", places[: len(vectors)], places[len(vectors) :], note)


def _find_umap() -> Any:
    """Imports UMAP; None if it is not installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about its optional parts
            import umap
    except ImportError:
        return None
    return umap


def _by_umap(umap: Any, chosen: np.ndarray, everything: np.ndarray) -> np.ndarray:
    """Fits UMAP on the chosen rows and interpolates the others."""
    fitted = everything[chosen]
    nearest, distances = _search(fitted, fitted, min(NEIGHBOURS, len(fitted)))
    reducer = umap.UMAP(
        n_neighbors=nearest.shape[1],
        init="pca",
        random_state=0,
        precomputed_knn=(nearest, distances),
        force_approximation_algorithm=True,  # otherwise it compares all rows again
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about one thread with a seed, and the precomputed search
        learned = reducer.fit_transform(fitted)
    nearest, distances = _search(fitted, everything, ANCHORS)
    pull = 1 / np.maximum(distances, 1e-6)
    places: np.ndarray = (learned[nearest] * (pull / pull.sum(axis=1, keepdims=True))[..., None]).sum(axis=1)
    places[chosen] = learned
    return places


def _search(among: np.ndarray, vectors: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Finds the nearest rows of one matrix to each of another: positions and Euclidean distances."""
    from sklearn.neighbors import NearestNeighbors

    distances, nearest = NearestNeighbors(n_neighbors=count, algorithm="brute").fit(among).kneighbors(vectors)
    return nearest.astype(np.int32), distances.astype(np.float32)


def _by_components(fitted: np.ndarray, everything: np.ndarray) -> np.ndarray:
    """Projects onto the first two principal components of the fitted rows; a missing component is 0."""
    from sklearn.decomposition import PCA

    places = np.zeros((len(everything), 2))
    components = min(2, *fitted.shape)
    if len(fitted) > 1:
        model = PCA(components, svd_solver="randomized", random_state=0).fit(fitted)
        places[:, :components] = model.transform(everything)
    return places


def _to_unit_square(places: np.ndarray) -> np.ndarray:
    """Scales each axis to [0, 1]; a constant axis becomes 0.5."""
    low, high = places.min(axis=0), places.max(axis=0)
    width = high - low
    unit: np.ndarray = np.where(width > 0, (places - low) / np.where(width > 0, width, 1), 0.5)
    return unit
