"""A table for Embedding Atlas: the texts, and with the source at hand its texts, their vectors and a map of both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dallme.exports.base import Material

if TYPE_CHECKING:
    import numpy as np

    from dallme.audit.evidence import Evidence


def write(material: Material) -> bytes:
    """Parquet with the columns ``text``, ``label`` and ``weight``.

    With vectors there are ``kind`` (distilled or source), ``projection_x`` and ``projection_y`` (the first two principal
    components) and ``vector``, and a row for each source text, whose weight is none.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, Any] = {
        "text": [text for text, _ in material.rows()],
        "label": [name for _, name in material.rows()],
        "weight": material.distilled.weights.tolist(),
    }
    if material.evidence is not None and material.evidence.vectors is not None:
        columns = _with_source(columns, material.evidence)
    buffer = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), buffer, compression="zstd")
    content: bytes = buffer.getvalue().to_pybytes()
    return content


def _with_source(columns: dict[str, Any], evidence: Evidence) -> dict[str, Any]:
    """The columns, with the source's texts below the distilled ones, and where they lie."""
    import numpy as np
    import pyarrow as pa

    source, few = evidence.source, len(columns["text"])
    assert evidence.vectors is not None
    assert evidence.own is not None
    vectors = np.concatenate([evidence.own, evidence.vectors.vectors])
    places = project(vectors)
    flat = pa.array(vectors.ravel(), pa.float32())
    return {
        "text": columns["text"] + list(source.texts),
        "label": columns["label"] + [source.label_names[label] for label in source.labels.tolist()],
        "weight": pa.array(columns["weight"] + [None] * len(source), pa.float64()),
        "kind": ["distilled"] * few + ["source"] * len(source),
        "projection_x": pa.array(places[:, 0], pa.float32()),
        "projection_y": pa.array(places[:, 1], pa.float32()),
        "vector": pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1]),
    }


def project(vectors: np.ndarray) -> np.ndarray:
    """The first two principal components.

    Args:
        vectors: Of shape (n, d).

    Returns:
        Float64 of shape (n, 2), the second column of zeros if d is 1. The largest entry of each axis is positive, so that the
        same vectors never give a map and its mirror image.
    """
    import numpy as np

    mean = vectors.mean(axis=0, dtype=np.float64)
    # Without a centred copy of all vectors: the covariance is that of the products less that of the mean.
    covariance = (vectors.T @ vectors).astype(np.float64) / len(vectors) - np.outer(mean, mean)
    axes = np.linalg.eigh(covariance)[1][:, ::-1][:, :2]
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    places = vectors @ axes - mean @ axes
    found: np.ndarray = np.pad(places, ((0, 0), (0, 2 - axes.shape[1])))
    return found
