"""Hostile spreadsheets and databases: bounded memory and time, nothing run, one line."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dallme.errors import InputError
from dallme.readers import read
from messy_cases import archive, database, document, xlsx
from test_bombs import LIMIT, MIB, REFERENCES, peak

SHEET = '<sheet name="One" r:id="r1"/>'
RELATION = '<Relationship Id="r1" Type="http://x/worksheet" Target="worksheets/sheet1.xml"/>'


def workbook(path: Path, rows: str, strings: str = "") -> Path:
    """Writes a workbook of one sheet from its XML."""
    return archive(
        path,
        {
            "xl/workbook.xml": f'<workbook xmlns:r="x"><sheets>{SHEET}</sheets></workbook>',
            "xl/_rels/workbook.xml.rels": f"<Relationships>{RELATION}</Relationships>",
            "xl/sharedStrings.xml": f"<sst>{strings}</sst>",
            "xl/worksheets/sheet1.xml": f"<worksheet><sheetData>{rows}</sheetData></worksheet>",
        },
    )


def sheet(path: Path, rows: str) -> Path:
    """Writes an OpenDocument spreadsheet of one sheet from its XML."""
    return archive(path, {"content.xml": document(f'<table:table table:name="One">{rows}</table:table>')})


HEAD = '<row><c t="str"><v>text</v></c><c t="str"><v>label</v></c></row>'
CELL = "<table:table-cell{}><text:p>{}</text:p></table:table-cell>"
OPEN_HEAD = f"<table:table-row>{CELL.format('', 'text')}{CELL.format('', 'label')}</table:table-row>"


def excel_strings(folder: Path) -> Path:
    """A long text that many cells refer to."""
    row = '<row><c t="s"><v>0</v></c><c><v>1</v></c></row>'
    return workbook(folder / "a.xlsx", HEAD + row * 20_000, f"<si><t>{'x' * 100_000}</t></si>")


def excel_packed(folder: Path) -> Path:
    """A sheet that unpacks to much more than the limit."""
    return workbook(folder / "a.xlsx", HEAD + "<row/>" * (16 * MIB // 6))


def excel_rows(folder: Path) -> Path:
    return workbook(folder / "a.xlsx", HEAD + "<row><c><v>1</v></c></row>" * 100_000)


def open_rows(folder: Path) -> Path:
    """A row that is repeated two thousand million times."""
    row = '<table:table-row table:number-rows-repeated="2000000000">'
    return sheet(folder / "a.ods", f"{OPEN_HEAD}{row}{CELL.format('', 'a') * 2}</table:table-row>")


def open_cells(folder: Path) -> Path:
    """Many rows of a cell that is repeated to the last column."""
    repeated = CELL.format(' table:number-columns-repeated="16384"', "a")
    row = f"<table:table-row>{repeated}</table:table-row>"
    return sheet(folder / "a.ods", OPEN_HEAD + row * 10_000)


def database_rows(folder: Path) -> Path:
    return database(folder / "a.db", rows=[(None, None)] * 200_000)


def database_view(folder: Path) -> Path:
    """A view that multiplies the rows of a table."""
    view = "CREATE VIEW v AS SELECT a.text, a.label FROM tickets a, tickets b, tickets c, tickets d"
    return database(folder / "a.db", view, "DROP TABLE IF EXISTS x", rows=[("x", "y")] * 1000)


BOMBS = {
    "excel_strings": (excel_strings, {}),
    "excel_packed": (excel_packed, {}),
    "excel_rows": (excel_rows, {}),
    "open_rows": (open_rows, {}),
    "open_cells": (open_cells, {}),
    "database_rows": (database_rows, {}),
    "database_view": (database_view, {"table": "v"}),
}


@pytest.mark.skipif(not REFERENCES.exists(), reason="measures memory as Linux tells it")
@pytest.mark.parametrize(("make", "options"), BOMBS.values(), ids=BOMBS)
def test_a_bomb_is_refused_in_bounded_memory(
    tmp_path: Path, make: Callable[[Path], Path], options: dict[str, str]
) -> None:
    path = make(tmp_path)

    def refused() -> None:
        with pytest.raises(InputError) as caught:
            read(path, max_bytes=LIMIT, **options)
        expected = f"{path}: expected content of at most {LIMIT:,} bytes in memory, found more; if you trust"
        assert str(caught.value).startswith(expected)

    begun = time.process_time()
    assert peak(refused) < 12 * LIMIT
    assert time.process_time() - begun < 10


def test_a_cell_far_away_takes_no_memory(tmp_path: Path) -> None:
    rows = HEAD + '<row r="2"><c r="A2" t="str"><v>a</v></c><c r="B2"><v>1</v></c></row>'
    far = '<row r="1048576"><c r="A1048576" t="str"><v>b</v></c><c r="B1048576"><v>2</v></c><c r="XFD1048576"><v>3</v></c></row>'
    path = workbook(tmp_path / "a.xlsx", rows + far)
    data = read(path, max_bytes=LIMIT)
    assert list(data.texts) == ["a", "b"]
    assert data.notes == (f"{path}: left out columns without a name in the header: number 16384",)


ENTITIES = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'

DAMAGED = {
    "entities": (lambda path: archive(path / "a.ods", {"content.xml": ENTITIES + "<x>&b;</x>"}), "document type declaration"),
    "a column too far": (lambda path: workbook(path / "a.xlsx", HEAD + '<row><c r="ZZZ1"><v>1</v></c></row>'), "column 18,278, of at most 16,384"),
    "a row too far": (lambda path: workbook(path / "a.xlsx", HEAD + f'<row r="{10**30}"><c><v>1</v></c></row>'), "the number"),
    "a row before the first": (lambda path: workbook(path / "a.xlsx", HEAD + '<row r="-5"><c><v>1</v></c></row>'), "the number -5"),
    "rows repeated a negative number of times": (
        lambda path: sheet(path / "a.ods", OPEN_HEAD + f'<table:table-row table:number-rows-repeated="-9">{CELL.format("", "a") * 2}</table:table-row>'), "the number -9"),
    "a string that is not there": (lambda path: workbook(path / "a.xlsx", HEAD + '<row><c t="s"><v>7</v></c></row>'), "list index out of range"),
    "a sheet that is not there": (lambda path: archive(path / "a.xlsx", {
        "xl/workbook.xml": f'<workbook xmlns:r="x"><sheets>{SHEET}</sheets></workbook>', "xl/_rels/workbook.xml.rels": "<Relationships/>"}), "There is no item named"),
    "cut XML": (lambda path: archive(path / "a.ods", {"content.xml": "<a><b>"}), "no element found"),
    "another archive": (lambda path: archive(path / "a.xlsx", {"x": "y"}), "There is no item named"),
}  # fmt: skip


@pytest.mark.parametrize(("make", "reason"), DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_spreadsheet_is_one_line(tmp_path: Path, make: Callable[[Path], Path], reason: str) -> None:
    with pytest.raises(InputError) as caught:
        read(make(tmp_path))
    assert "cannot be read as a spreadsheet" in str(caught.value)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bytes_that_are_damaged_are_one_line(tmp_path: Path) -> None:
    content = xlsx(tmp_path / "a.xlsx", One=[["text", "label"], ["a", "x"], ["b", "y"]]).read_bytes()
    for position in range(0, len(content), 7):
        damaged = bytearray(content)
        damaged[position] ^= 0xFF
        (tmp_path / "b.xlsx").write_bytes(damaged)
        try:
            read(tmp_path / "b.xlsx")
        except InputError as error:
            assert "\n" not in str(error)  # noqa: PT017


def test_a_size_that_is_understated_ends_the_part(tmp_path: Path) -> None:
    path = excel_packed(tmp_path)
    content = path.read_bytes()
    size = (16 * MIB // 6 * 6 + len(f"<worksheet><sheetData>{HEAD}</sheetData></worksheet>")).to_bytes(
        4, "little"
    )
    assert content.count(size) == 2  # in the local header and in the directory
    path.write_bytes(content.replace(size, (1000).to_bytes(4, "little")))
    with pytest.raises(InputError, match="cannot be read as a spreadsheet"):
        read(path, max_bytes=LIMIT)


RECURSIVE = "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r)"

VIEWS = {
    "recursion": (f"CREATE VIEW v AS {RECURSIVE} SELECT n AS text, 1 AS label FROM r", "not authorized"),
    "endless": (
        "CREATE VIEW v AS SELECT count(*) AS text, 1 AS label FROM tickets a, tickets b, tickets c, tickets d",
        "interrupted",
    ),
    "a huge value": ("CREATE VIEW v AS SELECT zeroblob(999999999) AS text, 1 AS label", "too big"),
    "an extension": ("CREATE VIEW v AS SELECT load_extension('x') AS text, 1 AS label", "load_extension"),
}


@pytest.mark.parametrize(("view", "reason"), VIEWS.values(), ids=VIEWS)
def test_a_view_only_selects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, view: str, reason: str) -> None:
    monkeypatch.setattr("dallme.readers.sqlite._MAX_STEPS", 20_000_000)
    path = database(tmp_path / "a.db", view, rows=[("x", "y")] * 1000)
    with pytest.raises(InputError) as caught:
        read(path, table="v")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_database_is_left_as_it_is(tmp_path: Path) -> None:
    trigger = "CREATE TRIGGER t AFTER INSERT ON tickets BEGIN DELETE FROM tickets; END"
    path = database(
        tmp_path / "a.db", trigger, 'CREATE TABLE "odd "" name; DROP TABLE tickets" (text, label)'
    )
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    assert len(read(path, table="tickets")) == 2
    with pytest.raises(InputError, match="expected rows with texts and labels, found none"):
        read(path, table='odd " name; DROP TABLE tickets')
    assert hashlib.sha256(path.read_bytes()).hexdigest() == before
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.db"]


def test_bytes_in_a_database_are_reported(tmp_path: Path) -> None:
    path = database(
        tmp_path / "a.db",
        "INSERT INTO tickets VALUES (x'ff00', 'bon')",
        "INSERT INTO tickets VALUES (CAST(x'ff' AS TEXT), 'bon')",
    )
    data = read(path, drop_bad_rows=True)
    assert len(data) == 2
    assert data.notes == (
        "left out 2 of 4 rows: row 2 holds bytes in place of a text, row 3 holds a lone surrogate, "
        "which is not valid Unicode",
    )
