"""Messy files: the exports that users have, each with its reading."""

from __future__ import annotations

import json
import sqlite3
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

#: What each readable case holds, unless it says otherwise.
TEXTS = ["Très bien, merci", "Pas terrible; déçu"]
LABELS = ["bon", "mauvais"]


def table(delimiter: str, *, quote: str = '"', end: str = "\n", head: str = "text,label") -> str:
    """The cases' rows as a delimited table with quoted texts."""
    rows = [f"{quote}{text}{quote}{delimiter}{label}" for text, label in zip(TEXTS, LABELS, strict=True)]
    return end.join([*([head.replace(",", delimiter)] if head else []), *rows, ""])


def lines(*records: Any) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def xlsx(path: Path, **sheets: list[list[Any]]) -> Path:
    """Writes a workbook with shared strings, as Excel does; None is no cell."""
    shared: list[str] = []
    parts: dict[str, str] = {}
    names = ""
    relations = ""
    for number, (name, rows) in enumerate(sheets.items(), start=1):
        body = ""
        for row, values in enumerate(rows, start=1):
            cells = ""
            for column, value in enumerate(values):
                place = f'{chr(65 + column)}{row}"'
                if isinstance(value, str):
                    shared.append(value)
                    cells += f'<c r="{place} t="s"><v>{len(shared) - 1}</v></c>'
                elif isinstance(value, bool):
                    cells += f'<c r="{place} t="b"><v>{int(value)}</v></c>'
                elif value is not None:
                    cells += f'<c r="{place}><v>{value}</v></c>'
            body += f'<row r="{row}">{cells}</row>'
        parts[f"xl/worksheets/sheet{number}.xml"] = f"<worksheet><sheetData>{body}</sheetData></worksheet>"
        names += f'<sheet name="{name}" sheetId="{number}" r:id="rId{number}"/>'
        relations += f'<Relationship Id="rId{number}" Type="http://x/worksheet" Target="worksheets/sheet{number}.xml"/>'
    strings = "".join(f"<si><t>{escape(text)}</t><rPh><t>hint</t></rPh></si>" for text in shared)
    parts["xl/workbook.xml"] = f'<workbook xmlns:r="x"><sheets>{names}</sheets></workbook>'
    parts["xl/_rels/workbook.xml.rels"] = f"<Relationships>{relations}</Relationships>"
    parts["xl/sharedStrings.xml"] = f"<sst>{strings}</sst>"
    return archive(path, parts)


def ods(path: Path, **sheets: list[list[Any]]) -> Path:
    """Writes an OpenDocument spreadsheet."""
    tables = ""
    for name, rows in sheets.items():
        body = ""
        for values in rows:
            cells = "".join(
                "<table:table-cell/>"
                if value is None
                else f"<table:table-cell><text:p>{escape(value)}</text:p></table:table-cell>"
                if isinstance(value, str)
                else f'<table:table-cell office:value-type="float" office:value="{value}"/>'
                for value in values
            )
            body += f"<table:table-row>{cells}</table:table-row>"
        tables += f'<table:table table:name="{name}">{body}</table:table>'
    return archive(path, {"content.xml": document(tables)})


def document(tables: str) -> str:
    return f'<office:document xmlns:office="o" xmlns:table="t" xmlns:text="x">{tables}</office:document>'


def archive(path: Path, parts: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in parts.items():
            packed.writestr(name, content)
    return path


def database(path: Path, *statements: str, rows: list[tuple[Any, ...]] | None = None) -> Path:
    """Writes a SQLite file with the table `tickets`."""
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE tickets (text, label)")
    if rows is None:
        rows = list(zip(TEXTS, LABELS, strict=True))
    connection.executemany("INSERT INTO tickets VALUES (?, ?)", rows)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()
    return path


def folder(path: Path, **files: str) -> Path:
    """Writes files; two underscores in a name are a slash."""
    for name, content in files.items():
        file = path / name.replace("__", "/").replace("_is_", "=").replace("_txt", ".txt").replace(
            "_csv", ".csv"
        )
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content, encoding="utf-8")
    return path


GRID: list[list[Any]] = [["text", "label"], *map(list, zip(TEXTS, LABELS, strict=True))]


@dataclass(frozen=True)
class Readable:
    """A source that is read.

    Attributes:
        name: Name of the file.
        content: Its content, or a function that writes it.
        options: Arguments of `read`.
        note: Part of a note; None expects none.
        texts: Its texts.
        labels: The class name of each row.
    """

    name: str
    content: str | bytes | Callable[[Path], Path]
    options: dict[str, Any] = field(default_factory=dict)
    note: str | None = None
    texts: list[str] = field(default_factory=lambda: TEXTS)
    labels: list[str] = field(default_factory=lambda: LABELS)

    def write(self, place: Path) -> Path:
        return write(place / self.name, self.content)


def write(path: Path, content: str | bytes | Callable[[Path], Path]) -> Path:
    if callable(content):
        return content(path)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


RUSSIAN = ["Очень хороший фильм, мне понравилось", "Плохой фильм, не советую никому"]
COLUMNS = {"text_column": "column_1", "label_column": "column_2"}
MARKED = "read as UTF-16 (by a byte order mark)"

READABLE = {
    "semicolons": Readable("a.csv", table(";"), note="read with the delimiter ';'; --delimiter overrules"),
    "tabs in a .csv": Readable("a.csv", table("\t"), note="read with the delimiter '\\t'"),
    "commas in a .tsv": Readable("a.tsv", table(","), note="read with the delimiter ','"),
    "pipes": Readable("a.csv", table("|"), note="read with the delimiter '|'"),
    "commas": Readable("a.csv", table(",")),
    "a named delimiter": Readable("a.csv", table("^"), {"delimiter": "^"}),
    "semicolons and Windows-1252": Readable(
        "a.csv",
        table(";", end="\r\n").encode("cp1252"),
        note="read as Windows-1252 (by è é ç), with the delimiter ';'; --encoding and --delimiter overrule",
    ),
    "Windows-1251": Readable(
        "a.csv",
        f"text,label\n\"{RUSSIAN[0]}\",да\n\"{RUSSIAN[1]}\",нет\n".encode("cp1251"),
        note="read as Windows-1251 (by ",
        texts=RUSSIAN,
        labels=["да", "нет"],
    ),
    "Windows-1250": Readable(
        "a.csv",
        "text,label\nświetna gra aktorów i żółta łąka,dobry\nwcale mi się nie podobał,zły\n".encode("cp1250"),
        note="read as Windows-1250 (by ś ó ż ł ą)",
        texts=["świetna gra aktorów i żółta łąka", "wcale mi się nie podobał"],
        labels=["dobry", "zły"],
    ),
    "Shift-JIS": Readable(
        "a.csv",
        "text,label\nとても良い映画でした,良い\nつまらない映画,悪い\n".encode("cp932"),
        note="read as CP932 (by と て も 良 い)",
        texts=["とても良い映画でした", "つまらない映画"],
        labels=["良い", "悪い"],
    ),
    "curly quotes of Windows-1252": Readable(
        "a.csv",
        "text,label\nit’s fine,a\n“no” – it’s not,b\n".encode("cp1252"),
        note="read as Windows-1252 (by ’ “ ” –)",
        texts=["it’s fine", "“no” – it’s not"],
        labels=["a", "b"],
    ),
    "a named encoding": Readable("a.csv", table(",").encode("mac_roman"), {"encoding": "mac_roman"}),
    "UTF-8 with a byte order mark": Readable("a.csv", b"\xef\xbb\xbf" + table(",").encode()),
    "UTF-16": Readable("a.csv", table(",").encode("utf-16"), note=MARKED),
    "UTF-16 with tabs, as Excel saves Unicode text": Readable(
        "a.csv", table("\t").encode("utf-16"), note=f"{MARKED}, with the delimiter '\\t'"
    ),
    "UTF-16 without a mark": Readable(
        "a.csv", table(",").encode("utf-16-be"), note="read as UTF-16-BE (by zero bytes)"
    ),
    "UTF-16 of JSON": Readable(
        "a.jsonl",
        lines(*({"text": text, "label": label} for text, label in zip(TEXTS, LABELS, strict=True))).encode(
            "utf-16"
        ),
        note=MARKED,
    ),
    "no header": Readable("a.csv", table(",", head=""), {"header": False, **COLUMNS}),
    "nested JSON": Readable(
        "a.jsonl",
        lines(
            *({"fields": {"text": text, "x": {"tag": tag}}} for text, tag in zip(TEXTS, LABELS, strict=True))
        ),
        {"text_column": "fields.text", "label_column": "fields.x.tag"},
    ),
    "two text columns": Readable(
        "a.csv",
        "subject,body,label\nHi,there,a\n,only,b\n",
        {"text_column": "subject,body"},
        note="joined the columns 'subject' and 'body' by a line break",
        texts=["Hi\nthere", "only"],
        labels=["a", "b"],
    ),
    "a column with a comma in its name": Readable(
        "a.csv",
        '"subject,body",label\nHi,a\nyes,b\n',
        {"text_column": "subject,body"},
        texts=["Hi", "yes"],
        labels=["a", "b"],
    ),
    "Excel": Readable("a.xlsx", lambda path: xlsx(path, One=GRID)),
    "Excel with several sheets": Readable(
        "a.xlsx",
        lambda path: xlsx(path, Tickets=GRID, Lists=[["x"]]),
        note="took the first sheet 'Tickets'; for another ('Lists') give --sheet",
    ),
    "a sheet of Excel": Readable("a.xlsx", lambda path: xlsx(path, Lists=[["x"]], Tickets=GRID), {"sheet": "Tickets"}),
    "Excel with empty rows and numbers": Readable(
        "a.xlsx",
        lambda path: xlsx(path, One=[[], [None, "text", "label"], [], [None, "a", 1.0], [None, "b", 2], []]),
        texts=["a", "b"],
        labels=["1", "2"],
    ),
    "Excel without a header": Readable(
        "a.xlsx", lambda path: xlsx(path, One=GRID[1:]), {"header": False, **COLUMNS}
    ),
    "OpenDocument": Readable("a.ods", lambda path: ods(path, One=GRID)),
    "a sheet of OpenDocument": Readable(
        "a.ods", lambda path: ods(path, Lists=[["x"]], Tickets=GRID), {"sheet": "Tickets"}
    ),
    "repeated cells of OpenDocument": Readable(
        "a.ods",
        lambda path: archive(path, {"content.xml": document(
            '<table:table table:name="One"><table:table-row>'
            "<table:table-cell><text:p>text</text:p></table:table-cell>"
            "<table:table-cell><text:p>label</text:p></table:table-cell></table:table-row>"
            '<table:table-row table:number-rows-repeated="1000000"><table:table-cell/></table:table-row>'
            '<table:table-row><table:table-cell table:number-columns-repeated="2"><text:p>a</text:p>'
            "<office:annotation><text:p>a comment</text:p></office:annotation></table:table-cell>"
            '<table:table-cell table:number-columns-repeated="16000"/></table:table-row>'
            '<table:table-row><table:table-cell><text:p>b<text:s text:c="2"/>b</text:p><text:p>c</text:p>'
            "</table:table-cell><table:table-cell><text:p>b</text:p></table:table-cell></table:table-row>"
            "</table:table>"
        )}),
        texts=["a", "b  b\nc"],
        labels=["a", "b"],
    ),
    "SQLite": Readable("a.db", database),
    "a table of SQLite": Readable(
        "a.sqlite", lambda path: database(path, "CREATE TABLE other (x)"), {"table": "tickets"}
    ),
    "a view of SQLite": Readable(
        "a.sqlite3",
        lambda path: database(path, "CREATE VIEW v AS SELECT text, upper(label) AS label FROM tickets"),
        {"table": "v"},
        labels=["BON", "MAUVAIS"],
    ),
    "fastText": Readable(
        "a.txt", "".join(f"__label__{label} {text}\n" for text, label in zip(TEXTS, LABELS, strict=True))
    ),
    "a folder for each class": Readable(
        "set", lambda path: folder(path, bon__1_txt=TEXTS[0] + "\n", mauvais__1_txt=TEXTS[1])
    ),
    "splits with a folder for each class": Readable(
        "set",
        lambda path: folder(
            path,
            train__bon__1_txt=TEXTS[0],
            train__mauvais__1_txt=TEXTS[1],
            test__bon__1_txt="not this",
            train__urls_txt="nor this",
        ),
    ),
    "partition folders": Readable(
        "set",
        lambda path: folder(path, label_is_bon__a_csv=f'text\n"{TEXTS[0]}"\n', label_is_mauvais__a_csv=f'text\n"{TEXTS[1]}"\n'),
    ),
    "partition folders called like splits": Readable(
        "set",
        lambda path: folder(path, label_is_test__a_csv="text\na\n", label_is_train__a_csv="text\nb\n"),
        texts=["a", "b"],
        labels=["test", "train"],
    ),
    "partition folders of splits": Readable(
        "set",
        lambda path: folder(
            path,
            split_is_train__label_is_x__a_csv="text\na\n",
            split_is_train__label_is_y__a_csv="text\nb\n",
            split_is_test__label_is_y__a_csv="text\nc\n",
        ),
        texts=["a", "b"],
        labels=["x", "y"],
    ),
    "merged labels": Readable(
        "a.csv",
        "text,label\na,Yes\nb,yes \nc,no\nd,Yes\ne,y\u200bes\n",
        {"normalize_labels": True},
        note="merged the spellings of 1 class names: 'Yes' (2 rows) + 'yes ' (1 rows) + 'y\\u200bes' (1 rows) as 'Yes'",
        texts=list("abcde"),
        labels=["Yes", "Yes", "no", "Yes", "Yes"],
    ),
    "labels that look alike": Readable(
        "a.csv",
        "text,label\na,Yes\nb,yes \nc,no\n",
        note="to merge them give --normalize-labels: 'Yes' (1 rows), 'yes ' (1 rows)",
        texts=list("abc"),
        labels=["Yes", "yes ", "no"],
    ),
    "several labels in one": Readable(
        "a.csv",
        "text,label\na,x;y\nb,x\nc,y;z\nd,z\n",
        note="looks multi-label: 2 of 4 labels are combinations, such as 'x;y' (1 rows)",
        texts=list("abcd"),
        labels=["x;y", "x", "y;z", "z"],
    ),
    "names with a separator": Readable(
        "a.csv", "text,label\na,Sci/Tech\nb,Arts; Crafts\n", texts=["a", "b"], labels=["Sci/Tech", "Arts; Crafts"]
    ),
    "labels that mean none": Readable(
        "a.csv",
        "text,label\na,NA\nb,x\nc,y\nd,-\n",
        {"missing_labels": "NA,-", "drop_bad_rows": True},
        note="left out 2 of 4 rows: line 2 has no label, line 5 has no label",
        texts=["b", "c"],
        labels=["x", "y"],
    ),
    "labels such as NA that are classes": Readable(
        "a.csv", "text,label\na,NA\nb,EU\n", {"missing_labels": []}, texts=["a", "b"], labels=["NA", "EU"]
    ),
    "an option without a use": Readable(
        "a.jsonl",
        lines(*({"text": text, "label": label} for text, label in zip(TEXTS, LABELS, strict=True))),
        {"sheet": "One"},
        note="a .jsonl file has no use for --sheet",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Refused:
    """A source that is refused.

    Attributes:
        name: Name of the file.
        content: Its content, or a function that writes it.
        message: Part of the error.
        options: Arguments of `read`.
        opened: Whether the columns can be inspected nevertheless.
    """

    name: str
    content: str | bytes | Callable[[Path], Path]
    message: str
    options: dict[str, Any] = field(default_factory=dict)
    opened: bool = False

    def write(self, place: Path) -> Path:
        return write(place / self.name, self.content)


REFUSED = {
    "another case": Refused("a.csv", "Text,label\na,x\n", "found the columns 'Text', 'label'; did you mean 'Text'?",
                            {"text_column": "text "}, opened=True),
    "a nested key": Refused("a.jsonl", lines({"fields": {"text": "a"}, "label": 1}),
                            "expected a column 'field.text', found the columns 'fields', 'label', and within them "
                            "'fields.text'; did you mean 'fields.text'?", {"text_column": "field.text"}, opened=True),
    "a key that no row has": Refused("a.jsonl", lines({"fields": {"text": "a"}, "label": 1}),
                                     "column 'fields': expected objects with the key 'body', found the keys 'text'",
                                     {"text_column": "fields.body"}, opened=True),
    "a header that is a row": Refused("a.csv", "so good,1\nso bad,0\n", "if it is a row, give --no-header", opened=True),
    "two delimiters": Refused("a.csv", "id;text|label\n1;a|x\n", "found several that fit: ';' and '|'; name it with"),
    "a row with too many fields": Refused("a.csv", "text;label\na;x\nb;y;z\nc;x\n",
                                          "expected 2 fields in each row, as in the header, found 3 in row 1 (line 3)"),
    "UTF-8 with a wrong byte": Refused("a.csv", "text,label\né,x\nü,y\n".encode() + b"\xe9,x\n",
                                       "expected UTF-8, found other bytes in line 4: byte 0xe9"),
    "another encoding than the named": Refused("a.csv", table(",").encode("cp1252"), "expected UTF-8, found other bytes in line 2",
                                               {"encoding": "utf-8"}),
    "an unknown encoding": Refused("a.csv", "", "expected an encoding that Python knows", {"encoding": "base64"}),
    "a long delimiter": Refused("a.csv", "", "expected one character as the delimiter", {"delimiter": "::"}),
    "labels that mean none": Refused("a.csv", "text,label\na,NA\nb,x\nc,y\nd,N/A\n",
                                     "found 'NA' (1 rows), 'N/A' (1 rows), which usually means no label; say so with "
                                     "--missing-labels 'NA,N/A', or keep all labels as classes with --missing-labels ''",
                                     opened=True),
    "a number that is missing": Refused("a.csv", "text,label\na,1\nb,0\nc,null\n", "found 'null' (1 rows)", opened=True),
    "lists of labels": Refused("a.jsonl", lines({"text": "a", "label": ["x", "y"]}, {"text": "b", "label": ["x"]}),
                               "it looks multi-label: keep one label per row", opened=True),
    "too many combined labels": Refused(
        "a.csv", "text,label\n" + "".join(f"t{n},a{n % 5};b{n % 7}\n" for n in range(30)),
        "different labels in 30 rows; it looks multi-label: 30 of 30 labels are combinations, such as 'a0;b0'", opened=True),
    "a blank text": Refused("a.csv", 'text,label\n"a\nb",x\n,y\n', "1 of 2 rows cannot be used: line 4 has a blank text; ", opened=True),
    "a sheet that is not there": Refused("a.xlsx", lambda path: xlsx(path, One=GRID), "expected the sheet 'Two', found 'One'", {"sheet": "Two"}),
    "an empty sheet": Refused("a.ods", lambda path: ods(path, One=[[]]), "expected a header and rows, found an empty sheet"),
    "a blank cell": Refused("a.xlsx", lambda path: xlsx(path, One=[["text", "label"], [None, "x"], ["b", "y"]]),
                            "1 of 2 rows cannot be used: line 2 has no text; ", opened=True),
    "a table that must be named": Refused("a.db", lambda path: database(path, "CREATE TABLE other (x)"),
                                          "expected one table, found 'tickets', 'other'; choose one with --table"),
    "a table that is not there": Refused("a.db", database, "expected the table 'ticket', found 'tickets'", {"table": "ticket"}),
    "text called SQLite": Refused("a.db", "text,label\n" * 99, "cannot be read as SQLite"),
    "text called Excel": Refused("a.xlsx", "text,label\n", "cannot be read as a spreadsheet (is it damaged, encrypted or an old .xls?)"),
    "two labels of fastText": Refused("a.txt", "__label__a x\n__label__a __label__b y\n__label__b z\n",
                                      "1 of 3 rows cannot be used: line 2 has 2 labels; ", opened=True),
    "plain text": Refused("a.txt", "no labels here\n", "expected lines that begin with __label__NAME"),
    "an empty text file": Refused("set", lambda path: folder(path, a__1_txt="x", b__1_txt=""),
                                  "1 of 2 rows cannot be used: b/1.txt has a blank text; ", opened=True),
}  # fmt: skip
