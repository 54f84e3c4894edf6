"""Files of vectors that other tools read."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dallme.data import LabelledTexts
from dallme.errors import InputError, OutputError
from dallme.files.atomic import write_output
from dallme.validation import check_vectors

#: Endings of files of vectors.
FORMATS = (".parquet", ".npy")


def check_format(path: Path) -> None:
    """Checks the ending of a file of vectors.

    Raises:
        InputError: If it is none of :data:`FORMATS`.
    """
    if path.suffix.lower() not in FORMATS:
        raise InputError(f"expected a file that ends in {' or '.join(FORMATS)}, found {path.name!r}")


def write_vectors(path: Path, vectors: np.ndarray, source: LabelledTexts) -> None:
    """Writes vectors to a file atomically.

    Args:
        path: ``.npy`` holds the matrix alone. ``.parquet`` holds one row per text with ``row_id``, ``text``,
            ``label`` and ``label_text`` (if there are labels) and ``vector``.
        vectors: float32 of shape (n, d).
        source: The n texts.

    Raises:
        InputError: If the ending is neither.
        OutputError: If the file cannot be written; no part of it remains.
    """
    check_format(path)
    try:
        write_output(path, _npy(vectors) if path.suffix.lower() == ".npy" else _parquet(vectors, source))
    except OSError as error:
        raise OutputError(
            f"expected to write vectors to {str(path)!r}, could not: {error.strerror or error}; "
            "make room or choose another file"
        ) from error


def _npy(vectors: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, vectors, allow_pickle=False)
    return buffer.getvalue()


def _parquet(vectors: np.ndarray, source: LabelledTexts) -> pa.Buffer:
    flat = pa.array(np.ascontiguousarray(vectors).reshape(-1))
    columns = {"row_id": source.row_ids.tolist(), "text": list(source.texts)}
    if source.label_names != {0: ""}:  # the label names of unlabelled texts
        columns["label"] = pa.array(source.labels, pa.int64())
        columns["label_text"] = [source.label_names[label] for label in source.labels.tolist()]
    columns["vector"] = pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink, compression="zstd")
    return sink.getvalue()


def read_vectors(path: Path) -> np.ndarray:
    """Reads a file of :func:`write_vectors`, or any ``.npy`` with a matrix of numbers.

    Args:
        path: ``.npy`` with an array of shape (n, d), or ``.parquet`` with a column ``vector``.

    Returns:
        float32 of shape (n, d), n >= 1.

    Raises:
        InputError: If the file does not exist or holds no such vectors.
    """
    check_format(path)
    try:
        if path.suffix.lower() == ".npy":
            vectors = np.load(path, allow_pickle=False)
        else:
            column = pq.read_table(path, columns=["vector"])["vector"].combine_chunks()
            vectors = column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)
    except (OSError, ValueError, KeyError, AttributeError, EOFError, MemoryError, pa.ArrowException) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(f"expected a file of vectors, could not read {str(path)!r}: {reason}") from error
    if not len(vectors):
        raise InputError(f"expected at least one vector, found none in {str(path)!r}")
    return check_vectors(vectors, what=f"vectors in {str(path)!r}")
