"""Messy files: what is detected is said, nothing is lost silently, and refusals say what to do."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import dallme
from dallme.cli.main import app
from dallme.errors import InputError
from dallme.progress import SilentProgress
from dallme.readers import read
from dallme.text import nfc
from messy_cases import LABELS, READABLE, REFUSED, TEXTS, Readable, Refused


@pytest.mark.parametrize("case", READABLE.values(), ids=READABLE)
def test_a_messy_file_is_read(tmp_path: Path, case: Readable) -> None:
    data = read(case.write(tmp_path), **case.options)
    assert list(data.texts) == case.texts
    assert [data.label_names[label] for label in data.labels.tolist()] == case.labels
    if case.note is None:
        assert data.notes == ()
    else:
        assert any(case.note in note for note in data.notes), data.notes


def _flags(options: dict[str, Any]) -> list[str]:
    """The options as the command line takes them."""
    flags: list[str] = []
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        if name == "header":
            flags.append("--no-header")
        elif value is True:
            flags.append(flag)
        else:
            flags += [flag, ",".join(value) if isinstance(value, list) else value]
    return flags


@pytest.mark.parametrize("case", READABLE.values(), ids=READABLE)
def test_the_command_line_reads_the_same(tmp_path: Path, case: Readable) -> None:
    arguments = ["inspect", str(case.write(tmp_path)), "--embedder", "none", "--json", *_flags(case.options)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["problem"] is None
    assert found["usable"] == len(case.texts)
    assert found["classes"] == {label: case.labels.count(label) for label in sorted(set(case.labels))}
    assert case.note is None or any(case.note in note for note in found["notes"])


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_a_refusal_says_what_to_do(tmp_path: Path, case: Refused) -> None:
    path = case.write(tmp_path)
    with pytest.raises(InputError) as caught:
        read(path, **case.options)
    assert case.message in str(caught.value)
    assert "\n" not in str(caught.value)
    if case.opened:
        found = dallme.inspect(path, **case.options)
        assert found.problem
        assert found.columns
        assert found.problem[:60] == str(caught.value)[:60]
        return
    with pytest.raises(InputError):
        dallme.inspect(path, **case.options)


def _rows() -> datasets.Dataset:
    return datasets.Dataset.from_dict({"text": TEXTS, "label": LABELS})


OBJECTS = {
    "lazy frame": (lambda: pl.LazyFrame({"text": TEXTS, "label": LABELS}), {}, ()),
    "splits": (
        lambda: datasets.DatasetDict(test=_rows().select([0]), train=_rows()),
        {},
        ("took the split 'train'; hand over another one for 'test'",),
    ),
    "one split": (lambda: datasets.DatasetDict(extra=_rows()), {}, ()),
    "stream": (lambda: _rows().to_iterable_dataset(), {}, ("read a stream of 2 rows to its end",)),
    "splits of streams": (
        lambda: datasets.IterableDatasetDict(train=_rows().to_iterable_dataset()),
        {},
        ("read a stream of 2 rows to its end",),
    ),
    "nested": (
        lambda: datasets.Dataset.from_dict({"x": [{"t": text} for text in TEXTS], "label": LABELS}),
        {"text_column": "x.t"},
        (),
    ),
    "nested in pandas": (
        lambda: pd.DataFrame({"x": [{"t": text} for text in TEXTS], "label": LABELS}),
        {"text_column": "x.t"},
        (),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("make", "options", "notes"), OBJECTS.values(), ids=OBJECTS)
def test_objects_follow_the_same_rule(make: Any, options: dict[str, Any], notes: tuple[str, ...]) -> None:
    data = read(make(), **options)
    assert list(data.texts) == TEXTS
    assert [data.label_names[label] for label in data.labels.tolist()] == LABELS
    assert data.notes == notes


def test_a_stream_above_the_limit_is_refused() -> None:
    stream = datasets.Dataset.from_dict({"text": ["x" * 1000] * 99, "label": [0, 1, 0] * 33})
    with pytest.raises(
        InputError, match="expected content of at most 9,000 bytes in memory, found more; take"
    ):
        read(stream.to_iterable_dataset(), max_bytes=9000)


def test_options_of_files_need_a_file() -> None:
    with pytest.raises(InputError, match="expected --delimiter and --no-header with a file, found list"):
        read(TEXTS, LABELS, delimiter=";", header=False)


def test_spellings_of_test_labels_follow_the_training_labels() -> None:
    train = read(["a", "b"], ["Yes", "no"])
    data = read(["c", "d"], ["YES ", "No"], like=train, normalize_labels=True)
    assert data.labels.tolist() == train.labels.tolist()
    with pytest.raises(InputError, match="found also 'No', 'YES '"):
        read(["c", "d"], ["YES ", "No"], like=train)


def test_the_columns_are_recorded(tmp_path: Path) -> None:
    data = read(READABLE["two text columns"].write(tmp_path), text_column="subject,body")
    assert data.columns == ("subject, body", "label")
    assert data.summary == (f"{tmp_path}/a.csv: 2 rows, texts from 'subject, body', 2 classes from 'label'")


fields = st.text(st.sampled_from("ab\n\"';|,\t é😀"), max_size=6)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.tuples(fields, st.sampled_from(["x", "y", "", " "])), min_size=1, max_size=12),
    delimiter=st.sampled_from(",;\t|"),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]),
    suffix=st.sampled_from([".csv", ".tsv"]),
)
def test_rows_in_are_rows_used_and_rows_reported(
    tmp_path: Path, rows: list[tuple[str, str]], delimiter: str, encoding: str, suffix: str
) -> None:
    content = io.StringIO(newline="")
    csv.writer(content, delimiter=delimiter).writerows([("text", "label"), ("one", "x"), ("two", "y"), *rows])
    path = tmp_path / f"any{suffix}"
    path.write_bytes(content.getvalue().encode(encoding))
    data = read(path, drop_bad_rows=True)
    reported = sum(int(note.split()[2]) for note in data.notes if note.startswith("left out"))
    assert len(data) + reported == len(rows) + 2
    given = ["one", "two", *(text for text, _ in rows)]
    assert list(data.texts) == [nfc(given[row]) for row in data.row_ids.tolist()]


def test_the_distiller_takes_the_options_and_says_the_notes(tmp_path: Path) -> None:
    said: list[str] = []

    class Listener(SilentProgress):
        def note(self, message: str) -> None:
            said.append(message)

    path = READABLE["merged labels"].write(tmp_path)
    distiller = dallme.Distiller(per_class=1, embedder="hashing", decoder="nearest", progress=Listener())
    distilled = distiller.distill(path, normalize_labels=True)
    assert list(distilled.label_names.values()) == ["Yes", "no"]
    assert any(note.startswith("merged the spellings of 1 class names") for note in said)
    with pytest.raises(TypeError, match="normalise"):
        distiller.distill(path, normalise=True)


def test_lock_files_of_excel_are_no_data(tmp_path: Path) -> None:
    READABLE["commas"].write(tmp_path)
    (tmp_path / "~$b.xlsx").write_bytes(b"\x05owner")
    assert list(read(tmp_path).texts) == TEXTS
