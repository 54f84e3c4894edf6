"""Files with a limit on their size in memory, and the formats Parquet and Arrow.

Files can come from others, so each format checks sizes before it reserves memory: a few kilobytes can
unpack to gigabytes.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dallme.errors import InputError
from dallme.readers.rows import Column, Rows, declared_classes, readable_as

#: Bytes read at once, in all and as text, and bytes of the smallest value in Arrow.
CHUNK, _TEXT_CHUNK, _ARROW_VALUE = 1 << 20, 1 << 15, 8


@dataclass(frozen=True)
class DataFile:
    """A file to read.

    Attributes:
        path: The file.
        name: Its name in messages.
        compression: Compression of the whole file (not Parquet's own): ``gzip``, ``zstd`` or None.
        limit: Bytes that its content may take in memory.
    """

    path: Path
    name: str
    compression: str | None
    limit: int

    def open(self) -> IO[bytes]:
        """Opens the decompressed content; reading beyond the limit is an error."""
        return io.BufferedReader(LimitedStream(self), CHUNK)

    def read_all(self) -> pa.BufferReader:
        """Reads the decompressed content into memory."""
        with self.open() as stream:
            return pa.BufferReader(stream.read())

    def check_size(self, size: int) -> None:
        """Checks the number of bytes that the content takes in memory.

        Raises:
            InputError: If it is above the limit.
        """
        if size > self.limit:
            raise InputError(
                f"{self.name}: expected content of at most {self.limit:,} bytes in memory, found more; "
                "if you trust the file, raise the limit with max_bytes (--max-bytes)"
            )


class LimitedStream(io.RawIOBase):
    """Decompressed content of a file up to its limit."""

    def __init__(self, file: DataFile) -> None:
        self._file, self._size = file, 0
        self._stream = pa.input_stream(str(file.path), compression=file.compression)

    def readable(self) -> bool:
        """Returns True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Reads bytes into a buffer."""
        content = self._next(len(buffer))
        buffer[: len(content)] = content
        return len(content)

    def read1(self, _: int = -1) -> bytes:
        """Returns the next chunk for `io.TextIOWrapper`, which would ask for small ones."""
        return self._next(_TEXT_CHUNK)

    def _next(self, size: int) -> bytes:
        content: bytes = self._stream.read(size)
        self._size += len(content)
        self._file.check_size(self._size)
        return content

    def close(self) -> None:
        """Closes the file."""
        self._stream.close()
        super().close()


# Parquet and Arrow


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
            values = _load_parquet(file, source, schema.field(column), count)
            if len(values) != count and not _is_unusable(values.type):
                raise pa.ArrowInvalid(f"column {column!r} holds {len(values):,} values for {count:,} rows")
            return values

    return Rows(file.name, count, names, load, classes=declared_classes(schema))


def _load_parquet(file: DataFile, source: Any, field: pa.Field, count: int) -> pa.ChunkedArray:
    """Loads one column; strings as a dictionary first, as run lengths can repeat a long one very often."""
    if _is_unusable(field.type):
        return pa.chunked_array([], type=field.type)
    file.check_size(count * _ARROW_VALUE)
    if isinstance(source, pa.BufferReader):
        source.seek(0)
    if not _is_text(field.type):
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
    return _expanded(file, pa.chunked_array(chunks, type=None if chunks else pa.large_string()))


def read_arrow(file: DataFile) -> Rows:
    """Opens an Arrow file (also Feather version 2) or an Arrow stream.

    A file is read as the stream that it holds, so that the messages that are checked are those that are read.
    Files that are not compressed are mapped into memory.

    Raises:
        InputError: If it is neither, or too large.
    """
    with readable_as("Arrow", file.name):
        source = file.read_all() if file.compression else pa.memory_map(str(file.path))
        start = 8 if source.read(6) == b"ARROW1" else 0
        source.seek(start)
        _check_messages(file, source)
        source.seek(start)
        table = pa.ipc.open_stream(source).read_all()
        names = tuple(table.column_names)

    def load(column: str) -> Column:
        values = table.column(column)
        with readable_as("Arrow", file.name):
            values.validate(full=True)  # Arrow trusts the offsets in a file, which could point outside it
            return _expanded(file, values) if _is_text(values.type) else values

    return Rows(file.name, table.num_rows, names, load, classes=declared_classes(table.schema))


def _check_messages(file: DataFile, source: Any) -> None:
    """Adds up the sizes that compressed buffers state, before Arrow reserves memory for them."""
    size, rows = 0, 0
    reader = pa.ipc.MessageReader.open_stream(source)
    while True:
        try:
            message = reader.read_next_message()
        except StopIteration:
            return
        try:
            length, sizes = _batch_sizes(message.metadata.to_pybytes(), message.body)
        except (struct.error, IndexError, AttributeError):
            raise pa.ArrowInvalid("a message of the stream is damaged") from None
        size, rows = size + sum(sizes), rows + length
        file.check_size(max(size, rows))


def _batch_sizes(metadata: bytes, body: Any) -> tuple[int, list[int]]:
    """Returns the rows of a record batch and the decompressed sizes of its buffers, from its FlatBuffer."""

    def number(form: str, position: int) -> int:
        return int(struct.unpack_from(f"<{form}", metadata, position)[0])

    def field(table: int, index: int) -> int | None:
        vtable = table - number("i", table)
        offset = number("H", vtable + 4 + 2 * index) if 4 + 2 * index < number("H", vtable) else 0
        return table + offset if offset else None

    def follow(position: int | None) -> int:
        if position is None:
            raise IndexError
        return position + number("I", position)

    message = follow(0)
    kind = field(message, 1)
    kind = 0 if kind is None else number("B", kind)
    if kind not in (2, 3):  # a dictionary batch, a record batch
        return 0, []
    batch = follow(field(message, 2))
    if kind == 2:
        batch = follow(field(batch, 1))
    length, compressed = field(batch, 0), field(batch, 3) is not None
    sizes: list[int] = []
    if (buffers := field(batch, 2)) is not None:
        vector = follow(buffers)
        for index in range(number("I", vector)):
            offset, size = (number("q", vector + 4 + 16 * index + part) for part in (0, 8))
            if compressed and size >= 8:
                stated = int(struct.unpack_from("<q", body, offset)[0])
                size = size if stated < 0 else stated  # -1: not compressed
            sizes.append(max(size, 0))
    return 0 if length is None else number("q", length), sizes


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return any(test(kind) for test in tests)


def _is_unusable(kind: pa.DataType) -> bool:
    """Whether values of a type are neither texts nor labels; they need not be read to be refused."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    primitive = pa.types.is_primitive(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind)
    return not (_is_text(kind) or primitive)


def _expanded(file: DataFile, values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Converts strings to plain ones, unless dictionaries or views make them larger than the limit."""
    size = 0
    for chunk in values.chunks:
        if pa.types.is_dictionary(chunk.type):
            lengths = pc.binary_length(chunk.dictionary.cast(pa.large_string())).take(chunk.indices)
            size += pc.sum(lengths).as_py() or 0
        elif pa.types.is_string_view(chunk.type):
            views = chunk.buffers()[1]
            size += sum(memoryview(views).cast("i")[chunk.offset * 4 : (chunk.offset + len(chunk)) * 4 : 4])
        file.check_size(size)
    return values.cast(pa.large_string())
