"""The texts as rows, for programs and for spreadsheets."""

from __future__ import annotations

import csv
import io
import re

from dallme.exports.base import Material, encode, encode_lines

#: What a cell starts with that a spreadsheet would run as a formula, or that looks like one with its apostrophe already: so that
#: taking one apostrophe away from each such cell gives back what it was. The wide signs are those of East Asian keyboards.
_GUARDED = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")


def json_lines(material: Material) -> bytes:
    """A line a text, with all columns of ``train.parquet`` but the ids of the rows of its cluster, which may be thousands."""
    return encode_lines(material.distilled.to_arrow().drop_columns(["member_rows"]).to_pylist())


def spreadsheet(material: Material) -> bytes:
    """A table with a head.

    A text or class name that a spreadsheet would run as a formula gets an apostrophe in front, which spreadsheets take for
    "this is text" (OWASP, "CSV Injection"). Nothing is lost: :func:`unguard` takes it away.
    """
    table = io.StringIO(newline="")
    writer = csv.writer(table)
    writer.writerow(["text", "label", "label_text", "weight"])
    distilled = material.distilled
    for (text, name), label, weight in zip(material.rows(), distilled.labels.tolist(), distilled.weights.tolist(), strict=True):
        writer.writerow([_guard(text), label, _guard(name), weight])
    return encode(table.getvalue())


def _guard(cell: str) -> str:
    return f"'{cell}" if _GUARDED.match(cell) else cell


def unguard(cell: str) -> str:
    """What a cell of the table was before it got an apostrophe."""
    return cell[1:] if cell.startswith("'") and _GUARDED.match(cell) else cell
