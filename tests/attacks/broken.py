"""Breaks one file of a set at random: bytes, types, missing keys, huge numbers, deep nesting."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

#: Values that no key of a manifest or an audit expects to see.
WRONG = (
    None,
    True,
    0,
    -1,
    10**40,
    1e308,
    float("nan"),
    "",
    "x",
    "\ud800",
    "<b>",
    [],
    [[]],
    [None],
    {},
    {"a": 1},
    "9" * 99,
)


def break_bytes(content: bytes, rng: random.Random) -> bytes:
    """Flips, cuts, repeats or replaces bytes."""
    kind, place = rng.randrange(5), rng.randrange(len(content))
    if kind == 0:
        return content[:place]
    if kind == 1:
        return content[:place] + bytes(rng.randrange(256) for _ in range(8)) + content[place + 8 :]
    if kind == 2:
        return content[:place] + content[place:] * 2
    if kind == 3:
        return b""
    return bytes(rng.randrange(256) for _ in range(200))


def break_json(content: bytes, rng: random.Random) -> bytes:
    """Removes or replaces a value at random, or makes the document deep or huge."""
    document = json.loads(content)
    if rng.random() < 0.1:
        return rng.choice(
            [b"[" * 100_000, b'{"a":' * 900 + b"1" + b"}" * 900, b"9" * 5_000, b"[]", b"null", b'"x"']
        )
    node, key = document, rng.choice(list(document))
    while isinstance(node[key], (dict, list)) and node[key] and rng.random() < 0.8:
        node = node[key]
        key = rng.choice(list(node)) if isinstance(node, dict) else rng.randrange(len(node))
    if rng.random() < 0.3:
        del node[key]
    elif rng.random() < 0.2:
        deep: Any = 0
        for _ in range(rng.choice([70, 300])):
            deep = [deep]
        node[key] = deep
    else:
        node[key] = rng.choice(WRONG)
    return json.dumps(document).encode()


def _break_table(content: bytes, rng: random.Random) -> bytes:
    """Removes a column, or gives it other values, another type, or the file other class names."""
    table = pq.read_table(pa.BufferReader(content))
    name, rows = rng.choice(table.column_names), table.num_rows
    columns: list[Any] = [
        pa.array([None] * rows, pa.string()), pa.array([None] * rows, pa.int64()), ["x"] * rows,
        [2**62] * rows,
        [-1] * rows, [float("nan")] * rows, [float("inf")] * rows, [[None]] * rows, [["x"]] * rows,
        [[1.5]] * rows,
        [{"a": 1}] * rows, [b"\xff"] * rows, [True] * rows, pa.array([2**64 - 1] * rows, pa.uint64()),
    ]  # fmt: skip
    if rng.random() < 0.2:
        table = table.drop_columns([name])
    elif rng.random() < 0.2:
        notes = rng.choice(
            [b"", b"[]", b'{"x": "a"}', b'{"5": 3}', b'{"5": null}', b"{" * 9_000, b'{"7": "a"}']
        )
        table = table.replace_schema_metadata({"label_names": notes})
    elif rng.random() < 0.1:
        table = table.slice(0, 0)
    else:
        column = rng.choice(columns)
        position = table.column_names.index(name)
        table = table.set_column(position, name, column if isinstance(column, pa.Array) else pa.array(column))
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer)
    return bytes(buffer.getvalue().to_pybytes())


def break_set(folder: Path, seed: int) -> str:
    """Breaks one file of a set; returns its name."""
    rng = random.Random(seed)
    name = rng.choice(["manifest.json", "audit.json", "train.parquet"])
    breakers: list[Callable[[bytes, random.Random], bytes]] = [
        break_bytes,
        _break_table if name == "train.parquet" else break_json,
        _break_table if name == "train.parquet" else break_json,
    ]
    (folder / name).write_bytes(rng.choice(breakers)((folder / name).read_bytes(), rng))
    return name
