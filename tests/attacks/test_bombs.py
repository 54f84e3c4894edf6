"""Decompression bombs: small files that would take gigabytes are refused in one line and bounded memory."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dallme.errors import InputError
from dallme.readers import read, text_formats

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
    monkeypatch.setattr(text_formats, "_MAX_LINE", 100_000)
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
