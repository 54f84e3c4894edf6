"""From vectors to places on a plane, by UMAP or, where that is not installed, by principal components."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from dallme.progress import Progress, SilentProgress

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
        places = _by_components(vectors[chosen], everything) if umap is None else _by_umap(umap, chosen, everything)
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
        warnings.simplefilter("ignore")  # that a seed means one thread, and that the search cannot be asked again
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
