"""Arbitrary input: no reader fails on it, and every row is used or reported."""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dallme import Distiller
from dallme.dataset import DistilledDataset
from dallme.errors import DallmeError, InputError
from dallme.readers import read
from dallme.text import clean, nfc, sentences
from dallme.validation import MAX_CHARACTERS, text_problem

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
from fuzz_readers import KEPT, KINDS, count_rows, one_input, seeds

#: Right-to-left, zero-width, combining, bidirectional controls, joined emoji, the ends of planes, line
#: separators, C0 and C1.
ODD = (
    "مرحبا بالعالم", "שלום", "नमस्ते दुनिया", "很好的电影。", "👩\u200d👧\u200d👦", "🇩🇪", "e\u0301\u0301\u0301",
    "Z" + "\u0335" * 40, "\u200b", "\u200e\u202e\u2066x", "\ufeffa", "\uffff", "\U0001ffff", "\U0010ffff",
    "\u2028\u2029",
    "\x01\x1b[31m", "\x85", "\r", "a\r\nb", "\ud800", "\udfff", "\0", "\t", "ﷺ", "ß", "İ", "𝓕𝓲𝓵𝓶",
)  # fmt: skip
PLANES = [(plane << 16, (plane << 16) + 0xFFFF) for plane in range(17)]
any_text = st.one_of(
    st.text(st.characters(), max_size=12),
    st.sampled_from(ODD),
    st.lists(st.sampled_from(ODD), max_size=4).map("".join),
    # Hypothesis likes the first plane; here each plane is as likely.
    st.sampled_from(PLANES).flatmap(
        lambda ends: st.text(st.characters(min_codepoint=ends[0], max_codepoint=ends[1]), max_size=5)
    ),
)
any_label = st.one_of(
    st.sampled_from(["x", "y", 0, 1, True]),
    st.none(),
    st.floats(),
    st.integers(),
    any_text,
    st.lists(st.integers(), max_size=2),
)
few = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def as_csv(texts: list[str], labels: list[str], path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *zip(texts, labels, strict=True)])


def as_jsonl(texts: list[str], labels: list[str], path: Path) -> None:
    path.write_text(
        "".join(
            json.dumps({"text": text, "label": label}) + "\n"
            for text, label in zip(texts, labels, strict=True)
        )
    )


def as_parquet(texts: list[str], labels: list[str], path: Path) -> None:
    pq.write_table(pa.table({"text": texts, "label": labels}), path)


def as_arrow(texts: list[str], labels: list[str], path: Path) -> None:
    table = pa.table({"text": texts, "label": labels})
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)


ONE_CLASS = "expected one class per row, a whole number or a name, found values"
WRITERS = {".csv": as_csv, ".jsonl": as_jsonl, ".parquet": as_parquet, ".arrow": as_arrow}


def reported(notes: tuple[str, ...]) -> int:
    """Rows that were left out, by the notes."""
    return sum(int(note.split()[2].replace(",", "")) for note in notes if note.startswith("left out"))


def refused(call: Callable[[], Any]) -> str:
    """The message of an error for a person."""
    with pytest.raises(InputError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@few
@pytest.mark.parametrize("suffix", WRITERS)
@given(texts=st.lists(any_text, min_size=1, max_size=12))
def test_any_text_comes_back_as_it_was_or_is_reported(tmp_path: Path, suffix: str, texts: list[str]) -> None:
    if suffix != ".jsonl":  # no other format can hold half a character
        texts = [text.encode("utf-8", "replace").decode() for text in texts]
    path = tmp_path / f"any{suffix}"
    WRITERS[suffix]([*texts, "one", "two"], [*("x" for _ in texts), "x", "y"], path)
    found = read(path, drop_bad_rows=True)
    usable = [row for row, text in enumerate([*texts, "one", "two"]) if text_problem(text) is None]
    assert found.row_ids.tolist() == usable
    assert list(found.texts) == [nfc([*texts, "one", "two"][row]) for row in usable]
    assert len(found) + reported(found.notes) == len(texts) + 2


@few
@given(
    texts=st.lists(st.one_of(any_text, st.none(), st.integers(), st.binary(max_size=3)), max_size=8),
    data=st.data(),
)
def test_any_labels_are_classes_or_an_error(texts: list[Any], data: st.DataObject) -> None:
    labels = data.draw(st.lists(any_label, min_size=len(texts), max_size=len(texts)))
    try:
        found = read(texts, labels, drop_bad_rows=True)
    except InputError as error:
        assert "\n" not in str(error)  # noqa: PT017 - any of many kinds
        return
    assert len(found) + reported(found.notes) == len(texts)
    assert set(found.class_counts) <= set(found.label_names)


cell = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), any_text,
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=2),
)  # fmt: skip


@few
@given(
    rows=st.lists(
        st.dictionaries(st.sampled_from(["text", "label", "label_text", "Text", "x"]), cell, max_size=4),
        max_size=8,
    )
)
def test_lines_of_mixed_types(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    path = tmp_path / "mixed.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    try:
        found = read(path, drop_bad_rows=True)
    except InputError as error:
        assert "\n" not in str(error)  # noqa: PT017
        return
    assert len(found) + reported(found.notes) == len(rows)


@few
@given(
    rows=st.lists(
        st.lists(st.text(st.sampled_from('ab,"\n\r\t;'), max_size=4), max_size=4), min_size=1, max_size=6
    )
)
def test_ragged_tables_are_refused_with_their_row(tmp_path: Path, rows: list[list[str]]) -> None:
    path = tmp_path / "ragged.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    written = [row for row in csv.reader(io.StringIO(path.read_text(), newline="")) if row][1:]
    ragged = next((number for number, row in enumerate(written) if len(row) != 2), None)
    if ragged is not None:
        message = refused(lambda: read(path, drop_bad_rows=True))
        assert (
            f"expected 2 fields in each row, as in the header, found {len(written[ragged])} in row "
            f"{ragged} (line " in message
        )
        return
    try:
        found = read(path, drop_bad_rows=True)
    except InputError:
        return
    assert len(found) + reported(found.notes) == len(written)


@pytest.mark.parametrize("suffix", WRITERS)
def test_ten_megabytes_in_one_text_are_reported(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"long{suffix}"
    WRITERS[suffix](["short", "很好 " * 1_430_000, "also short"], ["x", "x", "y"], path)
    message = refused(lambda: read(path))
    row = {".csv": "line 3", ".jsonl": "line 2"}.get(suffix, "row 1")
    assert f"{row} has a text of 4,290,000 characters, the limit is {MAX_CHARACTERS - 1:,}" in message
    assert len(message) < 400
    found = read(path, drop_bad_rows=True)
    assert (list(found.texts), reported(found.notes)) == (["short", "also short"], 1)


@pytest.mark.parametrize(
    ("texts", "labels", "message"),
    [
        (pa.array([["a"], ["b"]]), pa.array([0, 1]), "expected texts, found values of type list"),
        (pa.array([{"a": "x"}, {"a": "y"}]), pa.array([0, 1]), "expected texts, found values of type struct"),
        (
            pa.array([[("k", "v")], []], pa.map_(pa.string(), pa.string())),
            pa.array([0, 1]),
            "expected texts, found values of",
        ),
        (pa.array(["a", "b"]), pa.array([[0], [1]]), f"{ONE_CLASS} of type list"),
        (pa.array(["a", "b"]), pa.array([{"x": 0}, {"x": 1}]), f"{ONE_CLASS} of type struct"),
        (pa.array(["a", "b"]), pa.array([b"x", b"y"]), f"{ONE_CLASS} of type binary"),
    ],
)
def test_nested_columns_are_refused_by_their_type(
    tmp_path: Path, texts: pa.Array, labels: pa.Array, message: str
) -> None:
    pq.write_table(pa.table({"text": texts, "label": labels}), tmp_path / "nested.parquet")
    assert message in refused(lambda: read(tmp_path / "nested.parquet", drop_bad_rows=True))


def test_a_nested_column_that_is_not_chosen_is_ignored(tmp_path: Path) -> None:
    table = pa.table({"meta": [{"a": [1]}, {"a": []}], "text": ["a", "b"], "label": [0, 1]})
    pq.write_table(table, tmp_path / "beside.parquet")
    assert list(read(tmp_path / "beside.parquet").texts) == ["a", "b"]


# Inputs that the fuzzer found


@pytest.mark.parametrize("path", sorted(KEPT.glob("*.bin")), ids=lambda path: path.stem)
def test_an_input_that_broke_a_reader_is_refused_or_read(tmp_path: Path, path: Path) -> None:
    assert one_input(path.read_bytes(), tmp_path) in ("read", "refused")


def test_the_fuzzers_seeds_are_read_and_its_counts_are_right(tmp_path: Path) -> None:
    results = {kind: set[str]() for kind in KINDS}
    for seed in seeds():
        results[KINDS[seed[0]]].add(one_input(seed, tmp_path))
    assert all("read" in found for kind, found in results.items()), results
    (tmp_path / "a.csv").write_text('text,label\n"a\nb",0\n\nc,1\n')
    assert count_rows(tmp_path / "a.csv", ".csv") == 2


def test_the_fuzzer_notices_a_row_that_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fuzz_readers.count_rows", lambda path, kind, *detected: 7)
    with pytest.raises(AssertionError, match="7 rows in, 2 used, 0 reported"):
        one_input(bytes([KINDS.index(".csv"), 1]) + b"text,label\na,0\nb,1\n", tmp_path)


# Through the whole pipeline


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(texts=["0", "İ0"])  # two letters, of which lower case leaves one and an accent
@given(texts=st.lists(any_text.filter(lambda text: text_problem(text) is None), min_size=2, max_size=8))
@pytest.mark.parametrize("decoder", ["nearest", "extractive", "teaching"])
def test_any_usable_texts_are_distilled_and_come_back(tmp_path: Path, decoder: str, texts: list[str]) -> None:
    labels = [row % 2 for row in range(len(texts))]
    try:
        made = Distiller(per_class=1, embedder="hashing", decoder=decoder).distill(texts, labels)
    except DallmeError as error:
        assert "\n" not in str(error)  # noqa: PT017 - such as: nothing but HTML, or not a word
        return
    assert len(made) == 2
    made.save(tmp_path / "out", overwrite=True)
    assert DistilledDataset.load(tmp_path / "out").texts == made.texts


@few
@given(text=any_text)
def test_no_language_loses_a_sign_when_it_is_split(text: str) -> None:
    cleaned = clean(text.encode("utf-8", "ignore").decode())
    for language in ("en", "zh", "ar", "hi", "de"):
        assert "".join("".join(sentences(cleaned, language)).split()) == "".join(cleaned.split())


def test_a_compressed_file_of_many_equal_rows_is_counted(tmp_path: Path) -> None:
    content = b"text,label\n" + b"a good film,0\na bad film,1\n" * 50_000
    (tmp_path / "big.csv.gz").write_bytes(gzip.compress(content))
    found = read(tmp_path / "big.csv.gz")
    assert np.bincount(found.labels).tolist() == [50_000, 50_000]
