"""Parquet: sizes in the footer and in the headers of pages are checked before memory is reserved.

A footer can state any size. The pages are what is unpacked; each states its own size and number of values.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dallme.readers.formats import (
    ARROW_VALUE,
    PYTHON_VALUE,
    DataFile,
    expanded,
    is_text,
    is_unusable,
)
from dallme.readers.rows import Column, Rows, declared_classes, readable_as

#: Bytes that the header of a page is first sought in, and its most bytes.
_WINDOW, _MAX_HEADER = 256, 1 << 22


def read_parquet(file: DataFile) -> Rows:
    """Opens a Parquet file; a column is loaded on demand.

    Raises:
        InputError: If it is not a Parquet file, or too large.
    """
    with readable_as("Parquet", file.name):
        source = file.read_all() if file.compression else str(file.path)
        metadata = pq.ParquetFile(source)
        schema, count = metadata.schema_arrow, metadata.metadata.num_rows
        names = tuple(schema.names)

    def load(column: str) -> Column:
        with readable_as("Parquet", file.name):
            values = _load(file, source, schema.field(column), count)
            if len(values) != count and not is_unusable(values.type):
                raise pa.ArrowInvalid(f"column {column!r} holds {len(values):,} values for {count:,} rows")
            return values

    own_ids = (schema.metadata or {}).get(b"own_ids") != b"false"  # a saved set whose ids dallme numbered
    return Rows(file.name, count, names, load, classes=declared_classes(schema), own_ids=own_ids)


def read_table(content: bytes, file: DataFile, columns: Collection[str]) -> pa.Table:
    """Reads columns of a Parquet file whose values become Python objects; texts are dictionary-encoded.

    Args:
        content: The file.
        file: Its name and limit.
        columns: Names of columns; missing ones are left out.

    Raises:
        InputError: If it is too large.
        ValueError: If texts have another encoding than plain or dictionary.
        pa.ArrowException: If it is damaged. OSError likewise.
    """
    source = pa.BufferReader(content)
    metadata = pq.read_metadata(source)
    values = check_pages(file, source, metadata, columns, value_size=PYTHON_VALUE)
    texts = [
        metadata.schema.column(index).path
        for index in range(metadata.num_columns)
        if metadata.schema.column(index).physical_type == "BYTE_ARRAY"
    ]
    source.seek(0)
    parquet = pq.ParquetFile(source, read_dictionary=texts, page_checksum_verification=True)
    names = [name for name in parquet.schema_arrow.names if name in columns]
    try:
        table = parquet.read(columns=names)
    except NotImplementedError as error:
        raise ValueError(str(error)) from None
    chunks = (chunk for column in table.columns for chunk in column.chunks)
    file.check_size(values * PYTHON_VALUE + sum(map(_text_bytes, chunks)))
    return table


def check_pages(
    file: DataFile, source: Any, metadata: Any, columns: Collection[str], *, value_size: int
) -> int:
    """Checks the size of columns, by the footer and then by the header of each page; nothing is unpacked.

    Args:
        file: The file, with its limit.
        source: Path or content.
        metadata: The footer.
        columns: Names of the columns.
        value_size: Bytes that a value takes in memory at least.

    Returns:
        Number of values.

    Raises:
        InputError: If they take more than the limit.
        pa.ArrowInvalid: If the header of a page is damaged.
    """
    groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
    chunks = [
        chunk
        for group in groups
        for chunk in (group.column(index) for index in range(group.num_columns))
        if chunk.path_in_schema in columns or chunk.path_in_schema.partition(".")[0] in columns
    ]
    file.check_size(sum(max(chunk.total_uncompressed_size, 0) for chunk in chunks))
    size = values = 0
    with _opened(source) as stream:
        for chunk in chunks:
            for page_size, page_values in _pages(stream, chunk):
                size += max(page_size, page_values * value_size)
                values += page_values
                file.check_size(size)
    return values


@contextmanager
def _opened(source: Any) -> Iterator[IO[bytes]]:
    if isinstance(source, str):
        with Path(source).open("rb") as stream:
            yield stream
    else:
        yield source


def _pages(stream: IO[bytes], chunk: Any) -> Iterator[tuple[int, int]]:
    """Yields unpacked size and number of values of each page of a column chunk."""
    position, dictionary = chunk.data_page_offset, chunk.dictionary_page_offset
    if dictionary is not None and 0 < dictionary < position:
        position = dictionary
    end = position + chunk.total_compressed_size
    while position < end:
        header, length = _page_header(stream, position)
        kinds = (header.get(5), header.get(7), header.get(8))  # of data, of a dictionary, of data (version 2)
        inner = next((kind for kind in kinds if isinstance(kind, dict)), {})
        sizes: tuple[Any, Any, Any] = (header.get(2), header.get(3), inner.get(1, 0))
        if not all(isinstance(size, int) and 0 <= size < 2**31 for size in sizes):
            raise pa.ArrowInvalid("the header of a page states no size")
        yield sizes[0], sizes[2]
        position += length + sizes[1]


def _page_header(stream: IO[bytes], position: int) -> tuple[dict[int, Any], int]:
    """Parses the header of a page; returns its fields by number and its length."""
    window = _WINDOW
    while window <= _MAX_HEADER:
        stream.seek(position)
        try:
            return _fields(stream.read(window), 0)
        except IndexError:
            window *= 8
        except (ValueError, RecursionError):
            break
    raise pa.ArrowInvalid("the header of a page is damaged")


# Thrift's compact protocol; an IndexError says that the data ends too early.


def _fields(data: bytes, position: int) -> tuple[dict[int, Any], int]:
    """Parses a struct; returns its fields by number, and the position after it."""
    fields: dict[int, Any] = {}
    number = 0
    while head := data[position]:
        position += 1
        if head >> 4:
            number += head >> 4
        else:
            number, position = _integer(data, position)
        if head & 15 in (1, 2):  # a boolean within a struct takes no byte
            continue
        fields[number], position = _value(data, position, head & 15)
    return fields, position + 1


def _value(data: bytes, position: int, kind: int) -> tuple[Any, int]:
    """Parses a value of a type; only whole numbers and structs are returned."""
    if kind in (4, 5, 6):
        return _integer(data, position)
    if kind == 12:
        return _fields(data, position)
    if kind in (1, 2, 3, 7):
        return None, position + (8 if kind == 7 else 1)
    if kind == 8:
        length, position = _varint(data, position)
        if position + length > len(data):
            raise IndexError
        return None, position + length
    if kind in (9, 10):
        head, position = data[position], position + 1
        length = head >> 4
        if length == 15:
            length, position = _varint(data, position)
        for _ in range(length):
            if position >= len(data):
                raise IndexError
            _, position = _value(data, position, head & 15)
        return None, position
    raise ValueError(f"unknown type {kind}")


def _integer(data: bytes, position: int) -> tuple[int, int]:
    value, position = _varint(data, position)
    return (value >> 1) ^ -(value & 1), position


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
    raise ValueError("a number of more than ten bytes")


def _text_bytes(values: Any) -> int:
    """Counts the bytes of texts as they are without a dictionary."""
    if pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
        return _text_bytes(values.flatten())
    if not pa.types.is_dictionary(values.type):
        return 0
    lengths = pc.binary_length(values.dictionary.cast(pa.large_string())).take(values.indices)
    return pc.sum(lengths).as_py() or 0


def _load(file: DataFile, source: Any, field: pa.Field, count: int) -> pa.ChunkedArray:
    """Loads one column; strings as a dictionary first, as run lengths can repeat a long one very often."""
    if is_unusable(field.type):
        return pa.chunked_array([], type=field.type)
    file.check_size(count * ARROW_VALUE)
    check_pages(file, source, pq.read_metadata(source), [field.name], value_size=ARROW_VALUE)
    if isinstance(source, pa.BufferReader):
        source.seek(0)
    if not is_text(field.type):
        return pq.ParquetFile(source).read(columns=[field.name]).column(field.name)
    parquet = pq.ParquetFile(source, read_dictionary=[field.name])
    chunks: list[pa.Array] = []
    size = 0
    try:
        for group in range(parquet.num_row_groups):
            values = parquet.read_row_group(group, columns=[field.name]).column(field.name)
            chunks += values.chunks
            size += values.nbytes
            file.check_size(size)
    except (NotImplementedError, OSError) as error:
        if "implemented" not in str(error):
            raise
        # Its encoding cannot be read as a dictionary.
        chunks, size = [], 0
        for batch in pq.ParquetFile(source).iter_batches(batch_size=256, columns=[field.name]):
            chunks.append(batch.column(0))
            size += batch.nbytes
            file.check_size(size)
    return expanded(file, pa.chunked_array(chunks, type=None if chunks else pa.large_string()))
