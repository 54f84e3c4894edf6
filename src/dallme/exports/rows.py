"""The texts as rows, for programs and for spreadsheets."""

from __future__ import annotations

import csv
import io

from dallme.exports.base import Material, encode, encode_lines

#: What a cell starts with that a spreadsheet would run as a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def json_lines(material: Material) -> bytes:
    """A line a text, with all columns of ``train.parquet`` but the ids of the rows of its cluster, which may be thousands."""
    return encode_lines(material.distilled.to_arrow().drop_columns(["member_rows"]).to_pylist())


def spreadsheet(material: Material) -> bytes:
    """A table with a head.

    A text or class name that a spreadsheet would run as a formula gets an apostrophe in front, which spreadsheets take for
    "this is text"; programs have to remove it.
    """
    table = io.StringIO(newline="")
    writer = csv.writer(table)
    writer.writerow(["text", "label", "label_text", "weight"])
    distilled = material.distilled
    for (text, name), label, weight in zip(material.rows(), distilled.labels.tolist(), distilled.weights.tolist(), strict=True):
        writer.writerow([_guard(text), label, _guard(name), weight])
    return encode(table.getvalue())


def _guard(cell: str) -> str:
    return f"'{cell}" if cell.startswith(_FORMULA) else cell
