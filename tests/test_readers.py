"""Readers: every kind of source, its columns, labels and unusable rows."""

from __future__ import annotations

import csv
import gzip
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dallme.data import LabelledTexts
from dallme.errors import InputError
from dallme.readers import read
from dallme.text import is_blank, nfc
from dallme.validation import MAX_CHARACTERS, check_vectors

TEXTS = ["a fine film", "dull, “flat”\nand long", 'he said "no"', "très bien"]
LABELS = ["good", "bad", "bad", "good"]


def _csv(path: Path, rows: list[list[Any]], delimiter: str = ",") -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)
    return path


def _raw(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def _lines(path: Path, records: list[Any]) -> Path:
    return _raw(path, "".join(json.dumps(record) + "\n" for record in records))


def _parquet(path: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def _arrow(path: Path, writer: Callable[..., Any]) -> Path:
    table = pa.table({"text": TEXTS, "label": LABELS})
    with pa.OSFile(str(path), "wb") as sink, writer(sink, table.schema) as out:
        out.write_table(table)
    return path


def _message(*args: Any, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        read(*args, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


_RECORDS = [{"text": text, "label": label} for text, label in zip(TEXTS, LABELS, strict=True)]
_WRITERS: dict[str, Callable[[Path], Path]] = {
    "csv": lambda path: _csv(path, [["text", "label"], *map(list, zip(TEXTS, LABELS, strict=True))]),
    "tsv": lambda path: _csv(path, [["text", "label"], *map(list, zip(TEXTS, LABELS, strict=True))], "\t"),
    "jsonl": lambda path: _lines(path, _RECORDS),
    "ndjson": lambda path: _lines(path, _RECORDS),
    "json": lambda path: _raw(path, json.dumps(_RECORDS, indent=1)),
    "parquet": lambda path: _parquet(path, text=TEXTS, label=LABELS),
    "arrow": lambda path: _arrow(path, pa.ipc.new_file),
    "feather": lambda path: (
        pyarrow.feather.write_feather(pa.table({"text": TEXTS, "label": LABELS}), path),
        path,
    )[1],
}


def _compress(path: Path, suffix: str) -> Path:
    packed = path.with_name(path.name + suffix)
    with pa.output_stream(str(packed), compression={".gz": "gzip", ".zst": "zstd"}[suffix]) as file:
        file.write(path.read_bytes())
    path.unlink()
    return packed


# Formats


@pytest.mark.parametrize("compression", ["", ".gz", ".zst"])
@pytest.mark.parametrize("format", _WRITERS)
def test_every_format_gives_the_same_texts(tmp_path: Path, format: str, compression: str) -> None:
    path = _WRITERS[format](tmp_path / f"data.{format}")
    if compression:
        path = _compress(path, compression)
    data = read(path)
    assert list(data.texts) == TEXTS
    assert data.labels.dtype == np.int64
    assert data.labels.tolist() == [1, 0, 0, 1]
    assert data.label_names == {0: "bad", 1: "good"}
    assert data.row_ids.dtype == np.int64
    assert data.row_ids.tolist() == [0, 1, 2, 3]
    assert data.source == str(path)
    assert data.notes == ()


def test_arrow_streams_and_files_differ_by_their_content(tmp_path: Path) -> None:
    assert list(read(_arrow(tmp_path / "a.arrow", pa.ipc.new_stream)).texts) == TEXTS


def test_a_gzip_file_of_several_members_is_read_to_its_end(tmp_path: Path) -> None:
    content = gzip.compress(b"text,label\na,0\n") + gzip.compress(b"b,1\n")
    assert list(read(_raw(tmp_path / "a.csv.gz", content)).texts) == ["a", "b"]


def test_json_with_one_object_a_line_may_be_called_json(tmp_path: Path) -> None:
    assert list(read(_lines(tmp_path / "a.json", _RECORDS)).texts) == TEXTS


def test_a_key_that_a_json_object_lacks_is_missing(tmp_path: Path) -> None:
    path = _lines(
        tmp_path / "a.jsonl",
        [{"label": 1}, {"text": "a", "label": 0}, {"text": "b"}, {"text": "c", "label": 1}],
    )
    assert "2 of 4 rows cannot be used: line 1 has no text, line 3 has no label; " in _message(path)


def test_csv_with_byte_order_mark_blank_lines_and_spaced_header(tmp_path: Path) -> None:
    data = read(_raw(tmp_path / "a.csv", b"\xef\xbb\xbftext, label\r\na,0\r\n\r\nb,1\r\n"))
    assert list(data.texts) == ["a", "b"]
    assert data.labels.tolist() == [0, 1]


@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1), min_size=1
    )
)
def test_csv_of_any_text_comes_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str]
) -> None:
    texts = [f"x{text}" for text in texts]  # not blank
    path = _csv(
        tmp_path_factory.mktemp("csv") / "a.csv",
        [["text", "label"], *([text, n % 2] for n, text in enumerate(texts))],
    )
    assert list(read(path, like=_like({0: "0", 1: "1"})).texts) == [nfc(text) for text in texts]


def test_long_csv_fields_keep_the_limit_of_the_csv_module(tmp_path: Path) -> None:
    before = 5000
    initial = csv.field_size_limit(before)
    text = "x" * (MAX_CHARACTERS - 1)
    assert list(read(_csv(tmp_path / "a.csv", [["text", "label"], [text, 0], ["b", 1]])).texts) == [text, "b"]
    assert csv.field_size_limit() == before
    too_long = _csv(tmp_path / "b.csv", [["text", "label"], [text + "x", 0], ["b", 1]])
    assert "line 2 has a text of 1,000,000 characters, the limit is 999,999" in _message(too_long)
    assert csv.field_size_limit(initial) == before


_BROKEN = {
    "ragged.csv": (
        "text,label\na,0\nb,1,2\n",
        "expected 2 fields in each row, as in the header, found 3 in row 1 (line 3)",
    ),
    "short.tsv": (
        "text\tlabel\na\n",
        "expected 2 fields in each row, as in the header, found 1 in row 0 (line 2)",
    ),
    "open.csv": (
        'text,label\na,0\n"b,1\nc,0\n',
        "the row that starts in line 3 cannot be read: a quote is never closed",
    ),
    "ragged-and-open.csv": (
        'text,label\na,0\nb\n"c,1\n',
        "expected 2 fields in each row, as in the header, found 1 in row 1 (line 3)",
    ),
    "quote.csv": (
        'text,label\n"a" b,0\n',
        "the row that starts in line 2 cannot be read: ',' expected after '\"'",
    ),
    "damaged.csv": (
        "text,label\nthé,0\ncafé,1\n".encode() + b"caf\xe9,1\n",
        "expected UTF-8, found other bytes in line 4: byte 0xe9; save it as UTF-8, or name its encoding with",
    ),
    "damaged.jsonl": (
        '{"text": "é", "label": 0}\n'.encode() + b'{"text": "\xe9"}\n',
        "expected UTF-8, found other bytes in line 2: byte 0xe9",
    ),
    "binary.csv": (
        bytes(1000),
        "expected text, found NUL bytes; is the file binary or misnamed?",
    ),
    "utf16.jsonl": (
        '{"text": "a"}\n'.encode("utf-16-le"),
        "expected a label column with a usual name",
    ),
    "twice.csv": (
        "text,label,text\na,0,b\n",
        "expected columns of different names, found 'text' more than once",
    ),
    "headerless.csv": (
        "a good film,1\na bad film,0\n",
        "found the columns 'a good film', '1'; the first line",
    ),
    "empty.csv": ("", "expected a header and rows, found an empty file"),
    "header.csv": ("text,label\n", "expected rows with texts and labels, found none"),
    "empty.jsonl": ("\n\n", "expected rows with texts and labels, found none"),
    "empty.json": ("[]", "expected rows with texts and labels, found none"),
    "empty.parquet": ("", "cannot be read as Parquet (is the file damaged or misnamed?)"),
    "empty.arrow": ("", "cannot be read as Arrow (is the file damaged or misnamed?)"),
    "bad.jsonl": (
        '{"text": "a"}\n\n{"text": "b", "label"}\n',
        "one JSON object per line, found in line 3: Expecting ':'",
    ),
    "deep.jsonl": ("[" * 100_000 + "\n", "expected a JSON array of objects, found: "),
    "list.jsonl": ('{"text": "a"}\n["b"]\n', "expected one JSON object per line, found list in line 2"),
    "list.json": (
        '[{"text": "a", "label": 1}, 7]',
        "expected a JSON array of objects, found int in element 1",
    ),
    "cut.json": (
        '[{"text": "a", "label": 1},\n {"te',
        "JSON array of objects, found: Unterminated string starting at: line 2",
    ),
    "text.parquet": ("text,label\na,0\n", "cannot be read as Parquet (is the file damaged or misnamed?)"),
    "text.feather": ("text,label\na,0\n", "cannot be read as Arrow (is the file damaged or misnamed?)"),
    "cut.csv.gz": (
        gzip.compress(b"text,label\na,0\n")[:-6],
        "cannot be read as text (is the file damaged or misnamed?)",
    ),
    "not.csv.zst": ("text,label\na,0\n", "cannot be read as text (is the file damaged or misnamed?)"),
    "a.txt": ("a", "expected lines that begin with __label__NAME, the format of fastText, found none"),
    "a.pdf": (
        "a",
        "expected a file that ends in .csv, .tsv, .jsonl, .ndjson, .json, .parquet, "
        ".arrow, .feather, .xlsx, .ods, .db, .sqlite, .sqlite3, .txt (or these with",
    ),
}


@pytest.mark.parametrize(("suffix", "mark"), [("csv", ","), ("tsv", "\t")])
def test_rows_inside_an_unpaired_quote_are_reported(tmp_path: Path, suffix: str, mark: str) -> None:
    lines = ["text,label", '"fine start,good', "dull,bad", 'warm end",good', "long,bad", "short,good"]
    path = _raw(tmp_path / f"a.{suffix}", "\n".join(lines).replace(",", mark))
    problem = "line 2 holds what looks like 2 other rows in one field (is a quote unpaired?)"
    assert f"1 of 3 rows cannot be used: {problem}" in _message(path)
    data = read(path, drop_bad_rows=True)
    assert list(data.texts) == ["long", "short"]
    assert data.notes == (f"left out 1 of 3 rows: {problem}",)


def test_paragraphs_with_commas_are_one_text(tmp_path: Path) -> None:
    text = "Well, it is good.\nI liked it, really.\nGo, see it.\n"
    path = _csv(tmp_path / "a.csv", [["text", "label"], [text, "good"], ["Bad, bad.\nNo, no.\n", "bad"]])
    assert read(path).texts[0] == text
    text = "Pros:\ngood, cheap\nbad, but fast\nall in all fine, yes"
    path = _csv(tmp_path / "b.csv", [["label", "text"], ["good", text], ["bad", "Well."]])
    assert read(path).texts[0] == text


def test_a_repeated_header_is_reported(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv"):
        _raw(tmp_path / name, f"text,label\n{name} x,0\n{name} y,1\ntext,label\n{name} z,0\n")
    assert "1 of 4 rows cannot be used: line 4 repeats the header; " in _message(tmp_path / "a.csv")
    assert "line 4 of a.csv repeats the header, line 4 of b.csv repeats the header; " in _message(tmp_path)
    data = read(tmp_path, drop_bad_rows=True)
    assert (len(data), data.label_names) == (6, {0: "0", 1: "1"})


@pytest.mark.parametrize("name", _BROKEN)
def test_a_broken_file_is_an_error_that_names_it(tmp_path: Path, name: str) -> None:
    content, expected = _BROKEN[name]
    path = _raw(tmp_path / name, content)
    message = _message(path)
    assert message.startswith(f"{path}: ")
    assert expected in message


def test_a_damaged_parquet_column_is_an_error(tmp_path: Path) -> None:
    path = _parquet(tmp_path / "a.parquet", text=[f"{n} text" for n in range(9999)], label=[0, 1, 1] * 3333)
    content = bytearray(path.read_bytes())
    content[4:4000] = bytes(3996)
    assert "cannot be read as Parquet" in _message(_raw(path, bytes(content)))


# Paths and folders


def test_a_missing_file_is_never_looked_for_on_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **options: pytest.fail("asked the Hub"))
    monkeypatch.chdir(tmp_path)
    _WRITERS["csv"](tmp_path / "train.csv")
    assert _message("trian.csv") == "trian.csv: no such file or folder; did you mean 'train.csv'?"
    _WRITERS["jsonl"](tmp_path / "long.jsonl").rename(tmp_path / "in.jsonl.gz")
    assert _message("./in") == "./in: no such file or folder; did you mean 'in.jsonl.gz'?"
    assert _message(Path("reviews")) == "reviews: no such file or folder"
    assert _message("none/a.csv") == "none/a.csv: no such file or folder, nor is there a folder 'none'"
    assert _message("~/none/a").endswith(f"nor is there a folder {str(Path('~/none').expanduser())!r}")
    assert (
        _message("train.csv@test")
        == "train.csv@test: expected a folder before '@test', found a file; a file has no splits"
    )
    assert _message("") == "expected a path or a dataset id, found an empty string"
    for name in ("a good film", "csv", "json@train"):
        assert _message(name).startswith(
            f"{name!r}: expected a file, a folder or the id of a Hugging Face dataset (owner/name)"
        )


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path: Path) -> None:
    _csv(tmp_path / "b.csv", [["text", "label"], ["b", "y"], ["c", "x"]])
    _lines(tmp_path / "c.jsonl", [{"text": "d", "label": "y"}])
    _parquet(tmp_path / "a.parquet", label=["x"], text=["a"])
    for name in ("README.md", "manifest.json", ".hidden.csv", "notes.txt"):
        _raw(tmp_path / name, "no data")
    data = read(str(tmp_path))
    assert list(data.texts) == ["a", "b", "c", "d"]
    assert data.labels.tolist() == [0, 1, 0, 1]
    assert data.source == str(tmp_path)
    assert data.row_ids.tolist() == [0, 1, 2, 3]


def test_labels_of_one_type_in_all_files_of_a_folder(tmp_path: Path) -> None:
    for n in range(3):
        _parquet(tmp_path / f"{n}.parquet", text=[f"a{n}", f"b{n}"], label=[n, 0])
    data = read(tmp_path)
    assert list(data.texts) == ["a0", "b0", "a1", "b1", "a2", "b2"]
    assert data.labels.tolist() == [0, 0, 1, 0, 2, 0]


def test_bad_rows_of_a_folder_are_found_in_their_file(tmp_path: Path) -> None:
    _csv(tmp_path / "a.csv", [["text", "label"], ["a", 1], ["b", 0]])
    _csv(tmp_path / "b.csv", [["text", "label"], ["c", 1], [" ", 0]])
    assert "1 of 4 rows cannot be used: line 3 of b.csv has a blank text; " in _message(tmp_path)


def test_splits_of_a_folder(tmp_path: Path) -> None:
    for name in ("train-0.csv", "train-1.csv", "my_test.csv", "dev.csv", "other.csv"):
        _csv(tmp_path / name, [["text", "label"], [f"{name} a", 0], [f"{name} b", 1]])
    data = read(tmp_path)
    assert list(data.texts) == ["train-0.csv a", "train-0.csv b", "train-1.csv a", "train-1.csv b"]
    assert data.source == f"{tmp_path}@train"
    assert data.notes == (f"left out files of {tmp_path} that are not named for a split: other.csv",)
    assert read(f"{tmp_path}@test").texts == ["my_test.csv a", "my_test.csv b"]
    assert read(f"{tmp_path}@dev").source == f"{tmp_path}@validation"
    assert f"expected files of the split 'extra', found none; choose one: {tmp_path}@" in _message(
        f"{tmp_path}@extra"
    )


def test_a_folder_without_the_wanted_split(tmp_path: Path) -> None:
    _WRITERS["csv"](tmp_path / "test.csv")
    assert (
        _message(tmp_path)
        == f"{tmp_path}: expected files of the split 'train', found none; choose one: {tmp_path}@test"
    )
    (tmp_path / "test.csv").rename(tmp_path / "data.csv")
    assert _message(f"{tmp_path}@test").endswith(
        "expected files of the split 'test', found none; no file is named for a split"
    )


def test_folders_that_cannot_be_read(tmp_path: Path) -> None:
    assert (
        "expected a folder with data files (CSV, TSV, JSONL, JSON, Parquet, Arrow, spreadsheets, SQLite), or a "
        "folder of .txt files for each class, found none in it" in _message(tmp_path)
    )
    _csv(tmp_path / "a.csv", [["text", "label"], ["a", 1]])
    _csv(tmp_path / "b.csv", [["text", "class"], ["a", 1]])
    expected = (
        f"expected the same columns in all files, found text, label in {tmp_path}/a.csv and "
        f"text, class in {tmp_path}/b.csv"
    )
    assert expected in _message(tmp_path)
    (tmp_path / "b.csv").rename(tmp_path / "a.tsv")
    assert "expected each file once, found a.csv and a.tsv, the same name in two formats" in _message(
        tmp_path
    )


def test_a_folder_that_datasets_saved(tmp_path: Path) -> None:
    dataset = _dataset()
    dataset.save_to_disk(str(tmp_path / "one"))
    datasets.DatasetDict(train=dataset, test=dataset.select([3, 2])).save_to_disk(str(tmp_path / "several"))
    data = read(tmp_path / "one")
    assert data.texts == TEXTS
    assert data.label_names == {0: "bad", 1: "good"}
    assert read(tmp_path / "several").texts == TEXTS
    assert read(f"{tmp_path / 'several'}@test").texts == TEXTS[:1:-1]


# The Hub


def _dataset() -> datasets.Dataset:
    features = datasets.Features(
        text=datasets.Value("string"), label=datasets.ClassLabel(names=["bad", "good"])
    )
    return datasets.Dataset.from_dict({"text": TEXTS, "label": [1, 0, 0, 1]}, features=features)


@pytest.mark.parametrize(
    ("name", "asked", "source"),
    [
        ("fancyzhx/ag_news", ("fancyzhx/ag_news", None, "train"), "fancyzhx/ag_news@train"),
        ("glue:sst2@validation", ("glue", "sst2", "validation"), "glue:sst2@validation"),
        ("imdb@train[:10%]", ("imdb", None, "train[:10%]"), "imdb@train[:10%]"),
    ],
)
def test_hub_names(
    monkeypatch: pytest.MonkeyPatch, name: str, asked: tuple[str, str | None, str], source: str
) -> None:
    calls = []

    def load(dataset: str, config: str | None, *, split: str) -> datasets.Dataset:
        calls.append((dataset, config, split))
        return _dataset()

    monkeypatch.setattr(datasets, "load_dataset", load)
    data = read(name)
    assert calls == [asked]
    assert data.source == source
    assert data.texts == TEXTS
    assert data.label_names == {0: "bad", 1: "good"}


def test_an_error_of_the_hub_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*args: Any, **options: Any) -> None:
        raise ValueError("BuilderConfig 'sst9' not found.\nAvailable: ['sst2']")

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert _message("glue:sst9@test") == (
        "glue:sst9@test: no file or folder of that name, and the Hugging Face Hub did not give "
        "dataset 'glue', configuration "
        "'sst9', split 'test': ValueError: BuilderConfig 'sst9' not found. Available: ['sst2']; check "
        "the name and the network, "
        "or hand over a file"
    )


def test_secrets_in_an_error_of_the_hub_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_abcdefgh/1")
    monkeypatch.setenv("HF_ENDPOINT", "https://user:pa@ss@mirror.example")

    def load(*args: Any, **options: Any) -> None:
        raise ValueError(
            f"GET {os.environ['HF_ENDPOINT']}/api?token=hf_abcdefgh%2F1 with {os.environ['HF_TOKEN']}"
        )

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(InputError) as caught:
        read("owner/name")
    monkeypatch.setenv("HF_ENDPOINT", "http://user:pa@ss@mirror.example/path")
    assert "in HF_ENDPOINT, found another for 'mirror.example'; " in _message("owner/name")
    assert "ValueError: GET https://***@mirror.example/api?token=*** with ***; check" in str(caught.value)
    shown = "".join(traceback.format_exception(caught.value))
    assert not any(secret in shown for secret in ("abcdefgh", "pa@ss", "ss@mirror"))


def test_offline_the_hub_is_a_clear_error(tmp_path: Path) -> None:
    code = """
from dallme.readers import read
from dallme.text import is_blank, nfc
try:
    read("fancyzhx/ag_news")
except Exception as error:
    print(type(error).__name__, error)
"""
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    assert done.stdout.startswith(
        "InputError fancyzhx/ag_news: no file or folder of that name, and the Hugging Face Hub did not give "
        "dataset 'fancyzhx/ag_news', split 'train': "
    )
    assert done.stdout.count("\n") == 1


# Memory


def _frames() -> dict[str, Any]:
    columns = {"text": TEXTS, "label": LABELS}
    return {
        "pandas": pd.DataFrame(columns, index=[5, 6, 7, 8]),
        "pandas categories": pd.DataFrame(columns).astype({"label": "category"}),
        "pandas objects": pd.DataFrame(columns | {"other": [1, "a", None, []]}, dtype=object),
        "polars": pl.DataFrame(columns),
        "polars categories": pl.DataFrame(columns, schema_overrides={"label": pl.Categorical}),
        "polars enum": pl.DataFrame(columns, schema_overrides={"label": pl.Enum(["good", "bad"])}),
        "arrow": pa.table(columns),
        "arrow views": pa.table(
            {name: pa.array(values, pa.string_view()) for name, values in columns.items()}
        ),
        "arrow dictionaries": pa.table(
            {name: pa.array(values).dictionary_encode() for name, values in columns.items()}
        ),
        "datasets": datasets.Dataset.from_dict(columns),
        "datasets classes": _dataset(),
        "datasets shuffled": _dataset().select([3, 2, 1, 0]).select([3, 2, 1, 0]),
        "labelled texts": read(TEXTS, LABELS),
    }


@pytest.mark.parametrize("kind", _frames())
def test_every_object_gives_the_same_texts(kind: str) -> None:
    data = read(_frames()[kind])
    assert list(data.texts) == TEXTS
    assert data.labels.tolist() == [1, 0, 0, 1]
    assert data.label_names == {0: "bad", 1: "good"}
    assert data.row_ids.tolist() == [0, 1, 2, 3]
    assert data.source == "memory"


@pytest.mark.parametrize(
    "wrap", [list, tuple, np.array, pd.Series, pl.Series], ids=lambda wrap: wrap.__name__
)
def test_sequences_of_texts_and_labels(wrap: Callable[[list[str]], Any]) -> None:
    data = read(wrap(TEXTS), wrap(LABELS))
    assert list(data.texts) == TEXTS
    assert data.labels.tolist() == [1, 0, 0, 1]
    assert {type(text) for text in data.texts} == {str}


def test_missing_values_of_pandas_are_missing() -> None:
    texts = pd.Series(["a", None, "c"], dtype="string")
    for labels in (["x", "y", "y"], pd.Series(["x", "y", "y"], dtype="category")):
        assert "1 of 3 rows cannot be used: row 1 has no text (" in _message(texts, labels)
    assert "row 1 has no label (" in _message(["a", "b", "c"], pd.array([1, None, 2], dtype="Int64"))
    assert "row 2 has no label (" in _message(["a", "b", "c"], ["x", "y", pd.NaT])
    frame = pd.DataFrame(
        {"text": ["a", pd.NA, 7], "label": ["x", "y", "y"], "key": [pd.NA, "q", 3]}, dtype=object
    )
    assert "row 1 has no text, row 2 holds int in place of a text (" in _message(frame)
    frame["text"] = ["a", "b", "c"]
    expected = "column 'key': expected an id in each row, found none in row 0"
    assert expected in _message(frame, id_column="key")


def test_labels_of_pandas_that_are_no_classes_are_one_line() -> None:
    bins = pd.cut([1, 5, 9], 3)
    for labels in (list(bins), pd.Series(bins), pd.period_range("2024", periods=3, freq="Y")):
        assert "expected labels of one kind" in _message(["a", "b", "c"], labels)
    for column in (bins, pd.period_range("2024", periods=3, freq="Y"), pd.to_datetime(["2024-01-01"] * 3)):
        message = _message(pd.DataFrame({"text": ["a", "b", "c"], "label": column}))
        assert "memory: column 'label': expected " in message
    assert "expected labels of one kind" in _message(["a", "b"], [object(), object()])


def test_tensors_are_labels_and_scalars_are_plain() -> None:
    torch = pytest.importorskip("torch")
    labels = torch.tensor([1.0, 0.0], requires_grad=True)
    assert read(["a", "b"], labels).labels.tolist() == [1, 0]
    assert read(["a", "b"], list(labels)).labels.tolist() == [1, 0]
    assert read(["a", "b"], [np.int64(1), np.int8(0)]).labels.tolist() == [1, 0]
    assert {type(text) for text in read(np.array(["a", "b"]), [0, 1]).texts} == {str}
    vectors = torch.ones((2, 3), dtype=torch.bfloat16, requires_grad=True)
    assert check_vectors(vectors).dtype == np.float32
    with pytest.raises(InputError, match="expected vectors as a matrix of numbers, found"):
        check_vectors(object())


def test_sequences_that_cannot_be_read() -> None:
    assert (
        _message(TEXTS)
        == "expected labels with a list of texts, found none; give them as the second argument"
    )
    assert _message(TEXTS, [1, 2]) == "expected a label for each text, found 2 labels for 4 texts"
    assert _message(TEXTS, "good") == "expected a sequence of labels, one per text, found str"
    assert "expected a path, a Hugging Face dataset id, a pandas or polars DataFrame" in _message(
        {"text": TEXTS}
    )
    assert _message(7).endswith("found int")
    assert "expected labels only with a list of texts, found them with Table" in _message(
        pa.table({"text": ["a"]}), [1]
    )
    assert _message([], []) == "memory: expected rows with texts and labels, found none"
    expected = "expected a split 'train', found 'test', 'extra'; hand over one, such as data['test']"
    assert _message(datasets.DatasetDict(test=_dataset(), extra=_dataset())) == expected
    assert "expected columns of different names, found 'a' more than once" in _message(
        pd.DataFrame([[1, 2]], columns=["a", "a"])
    )


def test_labelled_texts_keep_their_ids_and_notes() -> None:
    given = LabelledTexts(
        ["a", "a", "b"], np.array([-1, 3, 3]), {-1: "no", 3: "yes"}, np.array([7, 8, 9]), "here", ("said",)
    )
    data = read(given)
    assert data.labels.tolist() == [-1, 3, 3]
    assert data.label_names == {-1: "no", 3: "yes"}
    assert data.row_ids.tolist() == [7, 8, 9]
    assert (data.source, data.notes[0]) == ("here", "said")
    assert read(data).notes == data.notes


def test_libraries_are_not_imported_to_recognise_their_objects() -> None:
    code = (
        "import sys; from dallme.readers import read; read(['a', 'b'], [0, 1]); "
        "print({'polars', 'datasets', 'torch', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# Columns


def _table(**columns: Any) -> pa.Table:
    return pa.table(columns)


def test_columns_are_found_by_their_usual_names_in_any_case() -> None:
    data = read(_table(Id=[1, 2], Sentence=["a", "b"], LABELS=[1, 0]))
    assert list(data.texts) == ["a", "b"]
    assert data.notes == ()


def test_a_choice_among_usual_names_is_noted() -> None:
    data = read(_table(title=["x", "y"], content=["a", "b"], label=[0, 1]))
    assert list(data.texts) == ["a", "b"]
    assert data.notes == ("took 'content' as the text column; to use 'title' give --text-column",)


def test_columns_that_are_asked_for() -> None:
    table = _table(text=["a", "b"], title=["x", "y"], label=[0, 1], kind=["p", "q"], label_text=["m", "n"])
    data = read(table, text_column="title", label_column="kind")
    assert list(data.texts) == ["x", "y"]
    assert data.label_names == {0: "p", 1: "q"}
    assert list(read(table, label_column="text", text_column="title").texts) == ["x", "y"]
    assert list(read(table, label_column="text").texts) == ["x", "y"]


def test_label_text_is_the_label_where_there_is_no_other() -> None:
    assert read(_table(text=["a", "b"], label_text=["p", "q"])).label_names == {0: "p", 1: "q"}


def test_columns_that_are_not_found() -> None:
    table = _table(words=["a", "b"], label=[0, 1])
    assert _message(table) == (
        "memory: expected a text column with a usual name (text, sentence, content, review, document, "
        "body, ...), "
        "found the columns 'words', 'label'; name yours with --text-column"
    )
    assert _message(_table(text=["a"], kind=[1])).endswith(
        "found the columns 'text', 'kind'; name yours with --label-column"
    )
    assert (
        _message(table, text_column="word")
        == "memory: expected a column 'word', found the columns 'words', 'label'; did you mean 'words'?"
    )
    assert _message(table, text_column="words", label_column="l").startswith(
        "memory: expected a column 'l', found the columns"
    )
    assert _message(table, text_column="words", id_column="i").startswith(
        "memory: expected a column 'i', found the columns"
    )
    expected = "memory: expected different columns for texts, labels and ids, found 'words' more than once"
    assert _message(table, text_column="words", label_column="words") == expected


def test_texts_of_another_type() -> None:
    expected = (
        "memory: column 'text': expected texts, found values of type int64; choose the texts "
        "with --text-column"
    )
    assert _message(_table(text=[1, 2], label=[0, 1])) == expected


def test_texts_that_are_not_utf8() -> None:
    broken = pa.Array.from_buffers(
        pa.string(), 2, [*pa.array(["ab", "cd"]).buffers()[:2], pa.py_buffer(b"a\xff\xfed")]
    )
    assert "column 'text': expected texts in UTF-8, found other bytes" in _message(
        _table(text=broken, label=[0, 1])
    )


def test_row_ids_from_a_column() -> None:
    data = read(_table(text=["a", "b"], label=[0, 1], key=[10, 12]), id_column="key")
    assert data.row_ids.tolist() == ["10", "12"]
    twice = _table(text=["a", "b"], label=[0, 1], key=["x", "x"])
    assert (
        _message(twice, id_column="key")
        == "memory: column 'key': expected ids that differ, found 'x' more than once"
    )
    lacking = _table(text=["a", "b"], label=[0, 1], key=["x", None])
    expected = "memory: column 'key': expected an id in each row, found none in row 1 of those used"
    assert _message(lacking, id_column="key") == expected
    dropped = read(
        _table(text=["a", " ", "c"], label=[0, 1, 1], key=["x", "x", "y"]),
        id_column="key",
        drop_bad_rows=True,
    )
    assert dropped.row_ids.tolist() == ["x", "y"]


# Labels


@pytest.mark.parametrize(
    ("labels", "ids", "names"),
    [
        ([-1, 1, -1], [-1, 1, -1], {-1: "-1", 1: "1"}),
        ([4, 1, 2], [4, 1, 2], {1: "1", 2: "2", 4: "4"}),
        (["4", " 1", "2.0"], [4, 1, 2], {1: "1", 2: "2", 4: "4"}),
        ([1.0, 0.0, 1.0], [1, 0, 1], {0: "0", 1: "1"}),
        ([True, False, True], [1, 0, 1], {0: "False", 1: "True"}),
        (["true", "false", "true"], [1, 0, 1], {0: "false", 1: "true"}),
        (["b", "1", "B"], [2, 0, 1], {0: "1", 1: "B", 2: "b"}),
        (np.array([7, 9, 7], dtype=np.uint8), [7, 9, 7], {7: "7", 9: "9"}),
        (
            [2**63 - 1, -(2**63), 0],
            [2**63 - 1, -(2**63), 0],
            {-(2**63): str(-(2**63)), 0: "0", 2**63 - 1: str(2**63 - 1)},
        ),
    ],
)
def test_labels_to_class_ids(labels: Any, ids: list[int], names: dict[int, str]) -> None:
    data = read(["a", "b", "c"], labels)
    assert data.labels.dtype == np.int64
    assert data.labels.tolist() == ids
    assert list(data.label_names.items()) == list(names.items())


def test_codes_with_leading_zeros_stay_different(tmp_path: Path) -> None:
    path = _csv(tmp_path / "a.csv", [["text", "label"], ["a", "07"], ["b", "7"], ["c", "007"], ["d", "64"]])
    data = read(path)
    assert list(data.label_names.values()) == ["007", "07", "64", "7"]
    assert [data.label_names[label] for label in data.labels.tolist()] == ["07", "7", "007", "64"]
    subset = read(["a", "b"], ["7", "07"], like=data)
    assert [data.label_names[label] for label in subset.labels.tolist()] == ["7", "07"]


def test_codes_of_one_width_keep_their_zeros_as_names() -> None:
    data = read(["a", "b"], ["0111", "2000"])
    assert data.labels.tolist() == [111, 2000]
    assert data.label_names == {111: "0111", 2000: "2000"}
    assert read(["a"], [111], like=data).labels.tolist() == [111]
    assert read(["a", "b"], ["1", "1.0"], like=read(["a", "b"], [1, 2])).labels.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([0.5, 1.0], "expected classes, whole numbers or names, found the number 0.5; choose the "
                     "column with the classes"),
        (["0.5", "1"], "expected classes, whole numbers or names, found the number 0.5; choose the "
                       "column with the classes"),
        ([float("inf"), 1.0], "expected classes, whole numbers or names, found the number inf"),
        ([[0], [1]], "expected one class per row, a whole number or a name, found values of type "
                     "list<item: int64>"),
        ([{"a": 0}, {"a": 1}], "expected one class per row, a whole number or a name, found values of "
                               "type struct<a: int64>"),
        ([0, "a"], "expected labels of one kind, numbers that fit in 64 bits or names, found int, str"),
        ([0, True], "expected labels of one kind, numbers that fit in 64 bits or names, found bool, int"),
        ([2**70, 1], "expected labels of one kind, numbers that fit in 64 bits or names, found int"),
        ([str(2**70), "1"], f"expected class ids that fit in 64 bits, found {2**70}"),
        ([1e300, 1.0], "expected class ids that fit in 64 bits, found 1000000"),
        (["a", "a"], "expected at least two classes, found only 'a'"),
    ],
)  # fmt: skip
def test_labels_that_are_no_classes(labels: list[Any], expected: str) -> None:
    assert _message(["x", "y"], labels).startswith(f"memory: column 'label': {expected}")


@pytest.mark.parametrize("number", [lambda n: n, str, lambda n: f"name {n}"], ids=["int", "digits", "names"])
def test_a_label_for_almost_every_row_is_the_wrong_column(number: Callable[[int], Any]) -> None:
    texts = [f"text {n}" for n in range(22)]
    assert (
        "expected classes with several rows each, found 12 different labels in 22 rows; is it the "
        "wrong column?" in _message(texts, [number(n % 12) for n in range(22)])
    )
    assert len(read(texts, [number(n % 11) for n in range(22)]).class_counts) == 11
    assert len(read(texts[:20], [number(n) for n in range(20)]).class_counts) == 20


def test_names_of_labels_from_a_column_beside_them() -> None:
    texts = ["a", "b", "c"]
    assert read(_table(text=texts, label=[2, 0, 2], label_text=["x", "y", None])).label_names == {
        0: "y",
        2: "x",
    }
    assert read(_table(text=texts, topic=[2, 0, 2], topic_name=["x", "y", "x"])).label_names == {
        0: "y",
        2: "x",
    }
    assert read(_table(text=texts, label=[2, 0, 2], label_text=[1, 2, 3])).label_names == {0: "0", 2: "2"}
    expected = "memory: column 'label': expected one name per label, found 'x' and 'z' for label 2"
    assert _message(_table(text=texts, label=[2, 0, 2], label_text=["x", "y", "z"])) == expected
    expected = "memory: column 'label': expected a name of its own for each label, found {0: 'x', 2: 'x'}"
    assert _message(_table(text=texts, label=[2, 0, 2], label_text=["x", "x", "x"])) == expected


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_class_names_from_the_metadata_of_a_file(tmp_path: Path, suffix: str) -> None:
    features = {
        "text": {"dtype": "string", "_type": "Value"},
        "label": {"names": ["bad", "good", "other"], "_type": "ClassLabel"},
    }
    table = _table(text=TEXTS, label=[1, 0, 0, 1])
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path = tmp_path / f"a.{suffix}"
    if suffix == "parquet":
        pq.write_table(table, path)
    else:
        pyarrow.feather.write_feather(table, path)
    assert read(path).label_names == {0: "bad", 1: "good", 2: "other"}
    other = table.replace_schema_metadata({"huggingface": "[]"})
    assert read(other).label_names == {0: "0", 1: "1"}


def test_minus_one_is_no_label_where_class_names_are_declared() -> None:
    features = datasets.Features(
        text=datasets.Value("string"), label=datasets.ClassLabel(names=["bad", "good"])
    )
    dataset = datasets.Dataset.from_dict({"text": TEXTS, "label": [1, 0, -1, -1]}, features=features)
    assert "2 of 4 rows cannot be used: row 2 has no label, row 3 has no label (" in _message(dataset)
    assert read(dataset, drop_bad_rows=True).labels.tolist() == [1, 0]
    nothing = datasets.Dataset.from_dict({"text": TEXTS, "label": [-1] * 4}, features=features)
    for drop in (True, False):
        message = _message(nothing, drop_bad_rows=drop)
        assert (
            "expected rows with a text and a label, none of the 4 has both: row 0 has no label, row 1 "
            "has no label" in message
        )


def test_a_label_beyond_the_declared_ones() -> None:
    table = _dataset().with_format("arrow")[:].set_column(1, "label", pa.array([0, 1, 2, 5]))
    assert (
        _message(table)
        == "memory: column 'label': expected class ids among the declared [0, 1], found [2, 5]"
    )


# Labels like those of other data


def _like(names: dict[int, str]) -> LabelledTexts:
    ids = np.array(list(names), dtype=np.int64)
    return LabelledTexts([f"text {n}" for n in names], ids, names, np.arange(len(ids)), "train.csv")


def test_labels_are_matched_by_name() -> None:
    data = read(["a", "b", "c"], ["good", "bad", "good"], like=_like({1: "good", 2: "bad", 4: "other"}))
    assert data.labels.tolist() == [1, 2, 1]
    assert data.label_names == {1: "good", 2: "bad", 4: "other"}
    assert data.notes == ()


def test_labels_without_names_are_matched_by_id() -> None:
    data = read(["a", "b"], [2, 1], like=_like({1: "good", 2: "bad"}))
    assert data.labels.tolist() == [2, 1]
    assert data.label_names == {1: "good", 2: "bad"}
    expected = (
        "matched labels to those of train.csv by their numbers, as one of the two has no "
        "names: 1 = 'good', 2 = 'bad'"
    )
    assert data.notes == (expected,)
    named = read(
        _table(text=["a", "b"], label=[1, 0], label_text=["good", "bad"]), like=_like({0: "0", 1: "1"})
    )
    assert named.labels.tolist() == [1, 0]
    assert named.label_names == {0: "0", 1: "1"}


def test_numbers_that_come_from_sorted_names_are_never_matched() -> None:
    expected = "memory: expected the labels of train.csv ('0', '1'), found also 'bad', 'good'"
    assert _message(["a", "b"], ["good", "bad"], like=_like({0: "0", 1: "1"})) == expected


def test_numbers_never_match_class_names_that_dallme_numbered() -> None:
    train = read(["a", "b", "c"], ["world", "sports", "business"])  # the numbers of the data set: 0, 1, 2
    expected = (
        "memory: expected the class names of memory ('business', 'sports', 'world'), found the numbers 0, 1; "
        "memory has no class ids that they could refer to: give the names in both, or the ids in both"
    )
    for like in (train, read(train), train.take([2, 1, 0])):
        assert _message(["a", "b"], [0, 1], like=like) == expected
    assert read(["a", "b"], ["world", "sports"], like=train).labels.tolist() == [2, 1]
    declared = read(_table(text=["a", "b"], label=[1, 0], label_text=["world", "sports"]))
    assert read(["a", "b"], [0, 1], like=declared).labels.tolist() == [0, 1]


def test_labels_that_the_other_data_does_not_have() -> None:
    like = _like({0: "good", 1: "bad"})
    expected = "memory: expected the labels of train.csv ('good', 'bad'), found also 'awful'"
    assert _message(["a", "b"], ["awful", "good"], like=like) == expected
    assert (
        _message(["a", "b"], [1, 7], like=like)
        == "memory: expected the labels of train.csv ('good', 'bad'), found also '1', '7'"
    )


def test_a_test_set_may_have_one_class() -> None:
    assert read(["a", "b"], ["bad", "bad"], like=_like({0: "good", 1: "bad"})).labels.tolist() == [1, 1]


def test_labelled_texts_are_matched_too() -> None:
    data = read(read(TEXTS, LABELS), like=_like({0: "good", 1: "bad"}))
    assert data.labels.tolist() == [0, 1, 1, 0]


# Bad rows and notes


def test_bad_rows_are_an_error_or_a_note(tmp_path: Path) -> None:
    texts = ["good", "  ", None, "nul\0", "bad", "x" * MAX_CHARACTERS, "\ud800", "no label", 7, "nan"]
    labels = [1, 0, 0, 0, 0, 0, 0, None, 1, float("nan")]
    path = _lines(
        tmp_path / "a.jsonl",
        [{"text": text, "label": label} for text, label in zip(texts, labels, strict=True)],
    )
    shown = (
        "line 2 has a blank text, line 3 has no text, line 4 holds a NUL byte (is the file binary or "
        "UTF-16?) and 5 more"
    )
    assert _message(path) == (
        f"{path}: 8 of 10 rows cannot be used: {shown}; correct them, or skip them with --drop-bad-rows"
    )
    data = read(path, drop_bad_rows=True)
    assert data.texts == ["good", "bad"]
    assert data.labels.tolist() == [1, 0]
    assert data.row_ids.tolist() == [0, 4]
    assert data.notes == (f"left out 8 of 10 rows: {shown}",)


def test_blank_labels_are_missing(tmp_path: Path) -> None:
    path = _csv(tmp_path / "a.csv", [["text", "label"], ["a", "x"], ["b", ""], ["c", " "], ["d", "y"]])
    assert "2 of 4 rows cannot be used: line 3 has no label, line 4 has no label; " in _message(path)
    assert read(path, drop_bad_rows=True).label_names == {0: "x", 1: "y"}


@pytest.mark.parametrize(
    "sign", ["\u200b", "\ufeff\u2060", "\u00ad \u200e", "\u3164", "\u2800", "\x01", "\ufe0f"]
)
def test_texts_and_labels_without_a_visible_sign_are_missing(sign: str) -> None:
    assert "row 1 has a blank text (" in _message(["a", sign, "c"], ["x", "y", "y"])
    assert "row 2 has no label (" in _message(["a", "b", "c"], ["x", "y", sign])
    assert read(["a", f"{sign}b", "c"], ["x", "y", "y"]).texts[1].endswith("b")


def test_class_names_that_look_alike_are_noted() -> None:
    labels = ["yes", "Yes ", "yes\u200b", "no", "no", "ｎｏ", "perhaps", "perhaps"]
    data = read([f"text {n}" for n in range(8)], labels)
    assert len(data.label_names) == 6
    (note,) = data.notes
    assert note.startswith(
        "5 class names differ from another only in case, white space or invisible characters"
    )
    assert "'no' (2 rows)" in note
    assert "'yes\\u200b' (1 rows)" in note
    assert "perhaps" not in note
    assert read(["a", "b"], ["yes", "no"]).notes == ()


def test_texts_and_labels_are_composed(tmp_path: Path) -> None:
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    sources = [
        (["a", decomposed], [composed, "tea"]),
        (_table(text=["a", decomposed], label=[decomposed, "tea"]),),
        (_table(text=["a", decomposed], label=[0, 1], label_text=[decomposed, "tea"]),),
        (_csv(tmp_path / "a.csv", [["text", "label"], ["a", decomposed], [decomposed, "tea"]]),),
    ]
    for source in sources:
        data = read(*source)
        assert data.texts[-1] == composed
        assert data.label_names == {0: composed, 1: "tea"}
        assert read(["x"], [decomposed], like=data).labels.tolist() == [0]
    merged = read(["a", "b", "c"], [composed, decomposed, "tea"])
    assert merged.label_names == {0: composed, 1: "tea"}
    assert merged.notes == ()


def test_a_class_of_bad_rows_only_is_no_class() -> None:
    assert read(["a", "", "c"], ["p", "q", "r"], drop_bad_rows=True).label_names == {0: "p", 1: "r"}
    assert "expected at least two classes, found only 'p'" in _message(
        ["a", "", "c"], ["p", "q", "p"], drop_bad_rows=True
    )


def test_repeated_texts_are_kept_with_a_note() -> None:
    data = read(["a", "b", "a", "a", "b"], [0, 1, 0, 1, 1])
    assert len(data) == 5
    assert data.notes == (
        "3 of 5 rows repeat the text of an earlier row; 1 texts come with different labels",
    )


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.one_of(
                st.text(max_size=5), st.none(), st.integers(), st.just("a\0"), st.just("\ud800"), st.just(" ")
            ),
            st.one_of(st.sampled_from(["x", "y", "", " "]), st.none(), st.just(float("nan"))),
        ),
        min_size=1,
        max_size=30,
    )
)
def test_rows_in_are_rows_used_and_rows_reported(rows: list[tuple[Any, Any]]) -> None:
    texts, labels = [text for text, _ in rows], [label for _, label in rows]
    usable = [
        n
        for n, (text, label) in enumerate(rows)
        if isinstance(text, str) and not is_blank(text) and "\0" not in text
        and not any("\ud800" <= c <= "\udfff" for c in text)
        and isinstance(label, str) and label.strip()
    ]  # fmt: skip
    like = _like({0: "x", 1: "y"})
    if not usable:
        assert f"none of the {len(rows)} has both" in _message(texts, labels, drop_bad_rows=True, like=like)
        return
    data = read(texts, labels, drop_bad_rows=True, like=like)
    assert data.row_ids.tolist() == usable
    assert data.texts == [nfc(texts[n]) for n in usable]
    reported = [int(note.split()[2]) for note in data.notes if note.startswith("left out")]
    assert len(data) + sum(reported) == len(rows)
    if reported:
        assert f"memory: {reported[0]} of {len(rows)} rows cannot be used: " in _message(
            texts, labels, like=like
        )


# Real data


def test_real_data(shared_data: Path) -> None:
    train = read(shared_data / "ag_news")
    assert train.class_counts == {0: 5419, 1: 3646, 2: 3678, 3: 5317}
    assert train.label_names == {0: "World", 1: "Sports", 2: "Business", 3: "Sci/Tech"}
    test = read(f"{shared_data / 'ag_news'}@test", like=train)
    assert test.class_counts == dict.fromkeys(range(4), 1900)
    distilled = read(shared_data / "dilm_sst2" / "dpc10" / "00.jsonl", like=read(shared_data / "sst2"))
    assert distilled.class_counts == {0: 10, 1: 10}
    assert distilled.label_names == {0: "negative", 1: "positive"}
