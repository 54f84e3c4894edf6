"""Parquet and Arrow files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from dallme.readers.rows import Column, Rows, declared_classes, readable_as


def read_parquet(path: Path, name: str, compression: str | None) -> Rows:
    """Opens a Parquet file; a column is read when it is asked for.

    Args:
        path: The file.
        name: What the user calls it.
        compression: ``gzip``, ``zstd`` or None: of the file as a whole, beside Parquet's own.

    Raises:
        InputError: If it is not a Parquet file.
    """
    with readable_as("Parquet", name):
        file = pq.ParquetFile(_unpacked(path, compression) if compression else path)
        schema = file.schema_arrow
        names = tuple(schema.names)

    def load(column: str) -> Column:
        with readable_as("Parquet", name):
            found = file.read(columns=[column]).column(column)
            if len(found) != file.metadata.num_rows:
                raise pa.ArrowInvalid(f"column {column!r} holds {len(found):,} values for {file.metadata.num_rows:,} rows")
            return found

    return Rows(name, file.metadata.num_rows, names, load, classes=declared_classes(schema))


def read_arrow(path: Path, name: str, compression: str | None) -> Rows:
    """Opens an Arrow file (also Feather version 2) or an Arrow stream; both are mapped into memory if not compressed.

    Args:
        path: The file.
        name: What the user calls it.
        compression: ``gzip``, ``zstd`` or None: of the file as a whole.

    Raises:
        InputError: If it is neither.
    """
    with readable_as("Arrow", name):
        source = _unpacked(path, compression) if compression else pa.memory_map(str(path))
        is_file = source.read(6) == b"ARROW1"
        source.seek(0)
        opener: Callable[..., pa.RecordBatchFileReader] = pa.ipc.open_file if is_file else pa.ipc.open_stream
        table = opener(source).read_all()
        names = tuple(table.column_names)

    def load(column: str) -> Column:
        found = table.column(column)
        with readable_as("Arrow", name):
            found.validate(full=True)  # Arrow trusts the offsets in a file; wrong ones lead out of its memory
        return found

    return Rows(name, table.num_rows, names, load, classes=declared_classes(table.schema))


def _unpacked(path: Path, compression: str) -> pa.BufferReader:
    with pa.input_stream(str(path), compression=compression) as stream:
        return pa.BufferReader(stream.read())
