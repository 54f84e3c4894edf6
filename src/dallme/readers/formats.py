"""Files with a limit on their size in memory, and the format Arrow.

Files may be untrusted, so each format checks sizes before it reserves memory: a few kilobytes can unpack to
gigabytes.
"""

from __future__ import annotations

import codecs
import io
import struct
from collections.abc import Collection
from dataclasses import dataclass, fields
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc

from dallme.errors import InputError
from dallme.readers.rows import Column, Rows, declared_classes, readable_as

#: Bytes read at once, in all and as text, and bytes of the smallest value in Python and in Arrow.
CHUNK, _TEXT_CHUNK, PYTHON_VALUE, ARROW_VALUE = 1 << 20, 1 << 15, 64, 8

#: Default limit on the bytes of a source in memory: this, or this multiple of its size if that is more.
_MAX_BYTES, _MAX_RATIO = 1 << 30, 100


def default_limit(size: int) -> int:
    """Returns the bytes that a source of some bytes on disk may take in memory."""
    return max(_MAX_BYTES, _MAX_RATIO * size)


class Allowance:
    """Bytes that all files of a source may take in memory together.

    Attributes:
        limit: Most bytes.
        hint: Advice in the error.
        used: Bytes of all files so far.
    """

    def __init__(
        self,
        limit: int,
        hint: str = "if you trust the file, raise the limit with max_bytes (--max-bytes)",
    ) -> None:
        """Stores the limit; nothing is used yet."""
        self.limit = limit
        self.hint = hint
        self.used = 0
        self._sizes: dict[str, int] = {}

    def check(self, name: str, size: int) -> None:
        """Records the size of a file, of which the largest counts, and checks the sum.

        Raises:
            InputError: If it is above the limit.
        """
        before = self._sizes.get(name, 0)
        self._sizes[name] = max(size, before)
        self.used += max(size - before, 0)
        if self.used > self.limit:
            together = " together with the files before it" if len(self._sizes) > 1 else ""
            raise InputError(
                f"{name}: expected content of at most {self.limit:,} bytes in memory{together}, found more; "
                f"{self.hint}"
            )


@dataclass(frozen=True)
class FormatOptions:
    """Properties of a file that the user names in place of those that would be detected.

    Attributes:
        delimiter: Character between two fields of a line.
        encoding: Encoding of a text file.
        header: Whether the first line holds the names of the columns.
        sheet: Sheet of a spreadsheet.
        table: Table or view of a database.
    """

    delimiter: str | None = None
    encoding: str | None = None
    header: bool = True
    sheet: str | None = None
    table: str | None = None

    def __post_init__(self) -> None:
        """Checks delimiter and encoding."""
        delimiter = {"\\t": "\t", "tab": "\t"}.get(self.delimiter or "", self.delimiter)
        object.__setattr__(self, "delimiter", delimiter)
        if delimiter is not None and (len(delimiter) != 1 or delimiter in '"\r\n\0'):
            raise InputError(
                f"expected one character as the delimiter, such as ';', '|' or '\\t', found {delimiter!r}"
            )
        if self.encoding is not None:
            try:
                "".encode(self.encoding)
            except (LookupError, ValueError):
                raise InputError(
                    f"expected an encoding that Python knows, such as utf-8, cp1252 or utf-16, "
                    f"found {self.encoding!r}"
                ) from None
            object.__setattr__(self, "encoding", codecs.lookup(self.encoding).name)

    def unused(self, used: Collection[str]) -> list[str]:
        """Returns the flags of the options that were given and are not among those that a format uses."""
        return [
            "--no-header" if option.name == "header" else f"--{option.name}"
            for option in fields(self)
            if option.name not in used and getattr(self, option.name) != getattr(DETECTED, option.name)
        ]


#: Options by which everything is detected.
DETECTED = FormatOptions()


@dataclass(frozen=True)
class DataFile:
    """A file to read.

    Attributes:
        path: The file.
        name: Its name in messages.
        compression: Compression of the whole file (not Parquet's own): ``gzip``, ``zstd`` or None.
        allowance: Bytes that its content may take in memory, with the other files of the source.
        options: Properties that the user named.
    """

    path: Path
    name: str
    compression: str | None
    allowance: Allowance
    options: FormatOptions = DETECTED

    @property
    def limit(self) -> int:
        """Bytes that the source may take in memory."""
        return self.allowance.limit

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
        self.allowance.check(self.name, size)


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


# Arrow


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
            return expanded(file, values) if is_text(values.type) else values

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


def is_text(kind: pa.DataType) -> bool:
    """Says whether a type is one of strings."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return any(test(kind) for test in tests)


def is_unusable(kind: pa.DataType) -> bool:
    """Returns whether values of a type are neither texts nor labels, so that they are refused unread."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    primitive = pa.types.is_primitive(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind)
    return not (is_text(kind) or primitive)


def expanded(file: DataFile, values: pa.ChunkedArray) -> pa.ChunkedArray:
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
