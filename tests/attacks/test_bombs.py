"""Decompression bombs: small files that would take gigabytes are refused in one line and bounded memory."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dallme.dataset import DistilledDataset, Lineage
from dallme.errors import InputError
from dallme.readers import read, text_stream
from dallme.scale import LocalEngine

MIB = 1 << 20
LIMIT = 4 * MIB
STATUS, REFERENCES = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def _memory(field: str) -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def peak(call: Callable[[], None]) -> int:
    """Bytes by which the resident memory grows at most during a call."""
    pa.default_memory_pool().release_unused()
    REFERENCES.write_text("5")  # resets the peak
    before = _memory("VmRSS")
    call()
    return _memory("VmHWM") - before


def pack(path: Path, head: bytes, piece: bytes, size: int) -> Path:
    """Writes a compressed file of a repeated piece."""
    compression = {".gz": "gzip", ".zst": "zstd"}[path.suffix]
    with pa.output_stream(str(path), compression=compression) as stream:
        stream.write(head)
        block = piece * max(1, MIB // len(piece))
        for _ in range(size // len(block)):
            stream.write(block)
    return path


def repeated(length: int, rows: int) -> pa.ChunkedArray:
    """Two long strings, repeated by run lengths."""
    indices = pa.array([0, 1], pa.int32()).take(pa.array([row * 2 // rows for row in range(rows)]))
    return pa.chunked_array([pa.DictionaryArray.from_arrays(indices, ["x" * length, "y" * length])])


def csv_rows(folder: Path) -> Path:
    return pack(folder / "a.csv.zst", b"text,label\n", b"a fine film,0\n", 64 * MIB)


def csv_cells(folder: Path) -> Path:
    return pack(folder / "a.csv.gz", b"text,label\n", b",\n", 3 * MIB)


def csv_field(folder: Path) -> Path:
    return pack(folder / "a.tsv.zst", b'text\tlabel\n"', b"a" * 1000, 64 * MIB)


def json_line(folder: Path) -> Path:
    return pack(folder / "a.jsonl.zst", b'{"text": "', b"a" * 1000, 64 * MIB)


def json_objects(folder: Path) -> Path:
    return pack(folder / "a.json.zst", b"[{}", b",{}", 3 * MIB)


def json_cells(folder: Path) -> Path:
    return pack(folder / "a.jsonl.gz", b"", b'{"":0}\n', 3 * MIB)


def parquet_texts(folder: Path) -> Path:
    table = pa.table({"text": repeated(6000, 100_000), "label": [0, 1] * 50_000})
    pq.write_table(table, folder / "a.parquet", compression="zstd")
    return folder / "a.parquet"


def parquet_labels(folder: Path) -> Path:
    table = pa.table({"text": ["a", "b"] * 50_000, "label": repeated(6000, 100_000)})
    pq.write_table(table, folder / "a.parquet", compression="zstd")
    return folder / "a.parquet"


def parquet_prefixes(folder: Path) -> Path:
    texts = pa.array([f"{'x' * 6000}{row}" for row in range(30_000)])
    encodings = {"text": "DELTA_BYTE_ARRAY", "label": "PLAIN"}
    table = pa.table({"text": texts, "label": [0, 1] * 15_000})
    pq.write_table(
        table, folder / "a.parquet", compression="zstd", use_dictionary=False, column_encoding=encodings
    )
    return folder / "a.parquet"


def parquet_rows(folder: Path) -> Path:
    rows = 10_000_000
    table = pa.table({"text": pa.nulls(rows, pa.string()), "label": pa.nulls(rows, pa.int8())})
    pq.write_table(table, folder / "a.parquet", compression="zstd")
    return folder / "a.parquet"


def parquet_packed(folder: Path) -> Path:
    return pack(folder / "a.parquet.zst", b"PAR1", b"\0" * 1000, 64 * MIB)


def arrow_buffers(folder: Path) -> Path:
    table = pa.table({"text": ["x" * 900_000] * 200, "label": [0, 1] * 100})
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with (
        pa.OSFile(str(folder / "a.arrow"), "wb") as sink,
        pa.ipc.new_file(sink, table.schema, options=options) as out,
    ):
        out.write_table(table)
    return folder / "a.arrow"


def arrow_dictionary(folder: Path) -> Path:
    table = pa.table({"text": repeated(6000, 100_000), "label": pa.array([0, 1] * 50_000, pa.int8())})
    with pa.OSFile(str(folder / "a.arrow"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as out:
        out.write_table(table)
    return folder / "a.arrow"


def arrow_views(folder: Path) -> Path:
    buffers = pa.array(["x" * 6000], pa.string_view()).buffers()
    texts = pa.Array.from_buffers(
        pa.string_view(), 100_000, [None, pa.py_buffer(buffers[1].to_pybytes()[:16] * 100_000), buffers[2]]
    )
    table = pa.table({"text": texts, "label": pa.array([0, 1] * 50_000, pa.int8())})
    with pa.OSFile(str(folder / "a.arrow"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as out:
        out.write_table(table)
    return folder / "a.arrow"


BOMBS = [
    csv_rows, csv_cells, csv_field, json_line, json_objects, json_cells, parquet_texts, parquet_labels,
    parquet_prefixes, parquet_rows, parquet_packed, arrow_buffers, arrow_dictionary, arrow_views,
]  # fmt: skip


@pytest.mark.skipif(not REFERENCES.exists(), reason="measures memory as Linux tells it")
@pytest.mark.parametrize("bomb", BOMBS, ids=lambda bomb: bomb.__name__)
def test_a_bomb_is_refused_in_bounded_memory(tmp_path: Path, bomb: Callable[[Path], Path]) -> None:
    path = bomb(tmp_path)

    def refused() -> None:
        with pytest.raises(InputError) as caught:
            read(path, max_bytes=LIMIT)
        expected = f"{path}: expected content of at most {LIMIT:,} bytes in memory, found more; if you trust"
        assert str(caught.value).startswith(expected)

    assert peak(refused) < 8 * LIMIT


def test_a_tiny_file_is_refused_by_default(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.jsonl.zst", b'{"text": "', b"a" * 1000, 1500 * MIB)
    assert path.stat().st_size < 1 * MIB
    with pytest.raises(InputError, match="expected lines of at most 67,108,864 bytes, found line 1"):
        read(path)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_line_that_is_too_long_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    monkeypatch.setattr(text_stream, "MAX_LINE", 100_000)
    path, rows = tmp_path / "a.csv", [f"a fine film {row},{row % 2}" for row in range(5_000)]
    for length, error in ((100_000, None), (100_001, "of at most 100,000 bytes, found line 5,002")):
        lines = ["text,label", *rows, "x" * (length - 2) + ",1", "the last,0"]
        path.write_bytes(end.join(lines).encode())
        if error is None:
            assert len(read(path)) == 5_002
            continue
        with pytest.raises(InputError, match=error):
            read(path)


def test_the_limit_can_be_raised(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.csv.zst", b"text,label\na,1\n", b"a fine film,0\n", 2 * MIB)
    with pytest.raises(InputError, match="raise the limit with max_bytes"):
        read(path, max_bytes=MIB)
    assert len(read(path, max_bytes=32 * MIB)) == len(read(path)) > 100_000
    with pytest.raises(InputError, match="expected max_bytes to be a whole number of at least 1, found 0"):
        read(path, max_bytes=0)


def test_a_key_in_each_row_takes_linear_time(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = [json.dumps({"text": f"t{row}", "label": row % 2, f"key{row}": 1}) for row in range(40_000)]
    path.write_text("\n".join(rows))
    begun = time.process_time()
    assert len(read(path)) == 40_000
    assert time.process_time() - begun < 5


def test_stated_sizes_that_are_damaged_are_an_error(tmp_path: Path) -> None:
    content = arrow_dictionary(tmp_path).read_bytes()
    for position in range(8, 400, 3):
        damaged = bytearray(content[:20_000])
        damaged[position] ^= 0xFF
        (tmp_path / "b.arrow").write_bytes(damaged)
        with pytest.raises(InputError):
            read(tmp_path / "b.arrow")


# Folders, and Parquet whose footer lies


def halves(folder: Path, kind: str) -> Path:
    """A folder of four files that take about 2 MiB each, or 7 MiB as Python objects."""
    rows = {"text": ["a" * 20 + str(row) for row in range(60_000)], "label": [0, 1] * 30_000}
    folder.mkdir()
    for number in range(4):
        if kind == "parquet":
            pq.write_table(pa.table(rows), folder / f"{number}.parquet")
        else:
            lines = (f"{text},{label}" for text, label in zip(rows["text"], rows["label"], strict=True))
            (folder / f"{number}.csv").write_text("text,label\n" + "\n".join(lines))
    return folder


@pytest.mark.parametrize("kind", ["parquet", "csv"])
@pytest.mark.parametrize("remote", [False, True])
def test_the_limit_holds_for_a_folder_in_total(tmp_path: Path, kind: str, remote: bool) -> None:
    class Engine(LocalEngine):
        pass

    Engine.remote = remote
    folder = halves(tmp_path / "data", kind)
    limit = {"parquet": 4 * MIB, "csv": 12 * MIB}[kind]
    for file in folder.iterdir():
        assert len(read(file, max_bytes=limit)) == 60_000
    with pytest.raises(InputError) as caught:
        read(folder, max_bytes=limit, engine=Engine())
    assert "bytes in memory together with the files before it, found more" in str(caught.value)
    assert len(read(folder, max_bytes=64 * MIB, engine=Engine())) == len(read(folder)) == 240_000


def relabel(content: bytes, sizes: list[int]) -> bytes:
    """Writes small numbers over sizes in the footer of a Parquet file."""
    start = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    footer = content[start:-8]
    for size in sizes:
        stated = _varint(size << 1)
        assert stated in footer
        footer = footer.replace(stated, b"\x82" + b"\x80" * (len(stated) - 2) + b"\x00")
    return content[:start] + footer + content[-8:]


def _varint(value: int) -> bytes:
    parts = []
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


def sizes_of(path: Path) -> list[int]:
    metadata = pq.read_metadata(path)
    group = metadata.row_group(0)
    return [group.column(index).total_uncompressed_size for index in range(group.num_columns)]


@pytest.mark.parametrize("lies", [False, True])
def test_pages_are_checked_before_they_are_unpacked(tmp_path: Path, lies: bool) -> None:
    path = tmp_path / "a.parquet"
    table = pa.table({"text": [f"{row}" + "x" * (64 * MIB) for row in range(2)], "label": [0, 1]})
    pq.write_table(table, path, compression="zstd", use_dictionary=["label"], write_statistics=False)
    if lies:
        path.write_bytes(relabel(path.read_bytes(), [max(sizes_of(path))]))
        assert max(sizes_of(path)) < LIMIT
    assert path.stat().st_size < MIB

    def refused() -> None:
        with pytest.raises(InputError, match="expected content of at most"):
            read(path, max_bytes=LIMIT)

    assert peak(refused) < 4 * LIMIT


def numbers(folder: Path) -> Path:
    rows = 20_000_000
    label = pa.repeat(pa.scalar(1, pa.int64()), rows)
    table = pa.table({"text": pa.repeat("a", rows).dictionary_encode(), "label": label})
    pq.write_table(table, folder / "a.parquet", compression="zstd")
    return folder / "a.parquet"


def test_repeated_numbers_are_counted(tmp_path: Path) -> None:
    path = numbers(tmp_path)
    assert path.stat().st_size < MIB
    with pytest.raises(InputError, match="expected content of at most"):
        read(path, max_bytes=64 * MIB)


# Sets


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A saved set of two texts."""
    lineage = tuple(Lineage("nearest", (0, 1), (0,), ("A film.",), (0,), 0.5) for _ in range(2))
    labels, weights = np.array([0, 1]), np.ones(2)
    texts = ("A fine film.", "A dull film.")
    distilled = DistilledDataset(texts, labels, {0: "bad", 1: "good"}, weights, lineage, {"dallme": "0.1.0"})
    return distilled.save(tmp_path / "set")


def swell(folder: Path, column: str, values: int = 400_000) -> int:
    """Replaces the table by one whose column takes hundreds of megabytes; returns its size on disk."""
    table = pq.read_table(folder / "train.parquet").take(pa.array([0] * 40))
    kind = table.schema.field(column).type
    if pa.types.is_list(kind):
        one = pa.scalar("x" * 1000 if kind.value_type == pa.string() else 7, kind.value_type)
        offsets = pa.array([0, *[values] * 40], pa.int32())
        content: pa.Array = pa.ListArray.from_arrays(offsets, pa.repeat(one, values))
    else:
        content = pa.repeat("x" * 8_000_000, 40)
    table = table.set_column(table.column_names.index(column), column, content)
    pq.write_table(table, folder / "train.parquet", compression="zstd")
    return (folder / "train.parquet").stat().st_size


@pytest.mark.skipif(not REFERENCES.exists(), reason="measures memory as Linux tells it")
@pytest.mark.parametrize("column", ["text", "sentences", "member_rows"])
def test_a_set_that_is_a_bomb_is_refused_in_bounded_memory(saved: Path, column: str) -> None:
    assert swell(saved, column) < 2 * MIB

    def refused() -> None:
        with pytest.raises(InputError) as caught:
            DistilledDataset.load(saved, max_bytes=LIMIT)
        assert "train.parquet: expected content of at most 4,194,304 bytes in memory" in str(caught.value)
        assert "give DistilledDataset.load a larger max_bytes" in str(caught.value)

    assert peak(refused) < 8 * LIMIT


def test_a_set_is_refused_by_default(saved: Path) -> None:
    assert swell(saved, "member_rows", values=20_000_000) < MIB
    with pytest.raises(InputError, match=r"expected content of at most 1,073,741,824 bytes"):
        DistilledDataset.load(saved)


def test_a_whole_set_is_read_within_a_limit(saved: Path) -> None:
    assert DistilledDataset.load(saved, max_bytes=MIB).texts == DistilledDataset.load(saved).texts
    with pytest.raises(InputError, match="expected max_bytes to be a whole number of at least 1, found 0"):
        DistilledDataset.load(saved, max_bytes=0)


def test_a_damaged_page_header_is_one_line(tmp_path: Path, saved: Path) -> None:
    path = saved / "train.parquet"
    content, messages = path.read_bytes(), []
    for position in range(4, 400, 3):
        damaged = bytearray(content)
        damaged[position] ^= 0xFF
        path.write_bytes(damaged)
        try:
            DistilledDataset.load(saved)
        except InputError as error:
            messages.append(str(error))
    assert len(messages) > 50
    assert not [message for message in messages if "\n" in message]
