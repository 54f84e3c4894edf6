"""Rows that are held out to test on: the split, and `dallme distill` without `--test`."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from dallme.cli.main import app
from dallme.dataset import DistilledDataset
from dallme.errors import InputError
from dallme.readers import read
from dallme.readers.splits import split

WORDS = {"good": ["fine", "great", "warm", "lovely"], "bad": ["dull", "poor", "cold", "weak"]}


def rows_of(count: int) -> tuple[list[str], list[str]]:
    labels = [("good", "bad", "bad")[row % 3] for row in range(count)]
    texts = [f"The {WORDS[label][row % 4]} film {row} was seen." for row, label in enumerate(labels)]
    return texts, labels


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 2)), min_size=2, max_size=40),
    st.floats(0.05, 0.95),
    st.integers(0, 99),
)
def test_a_split_parts_the_texts(rows: list[tuple[str, int]], share: float, seed: int) -> None:
    texts = read([text for text, _ in rows], [label for _, label in rows], labelled=False)
    rest, held_out = split(texts, share, seed=seed)
    assert sorted([*rest.row_ids.tolist(), *held_out.row_ids.tolist()]) == list(range(len(rows)))
    assert rest.row_ids.tolist() == sorted(rest.row_ids.tolist())
    assert not set(rest.texts) & set(held_out.texts)
    assert rest.source_digest == texts.source_digest
    order = np.random.default_rng(seed).permutation(len(rows))
    again = split(texts.take(order), share, seed=seed)[1]
    assert Counter(again.row_ids.tolist()) == Counter(held_out.row_ids.tolist())


def test_a_split_has_the_same_share_of_each_class() -> None:
    texts = read(*rows_of(300))
    rest, held_out = split(texts, 0.2)
    assert held_out.class_counts == {0: 40, 1: 20}
    assert rest.class_counts == {0: 160, 1: 80}
    assert split(texts, 0.2)[1].row_ids.tolist() == held_out.row_ids.tolist()
    assert split(texts, 0.2, seed=1)[1].row_ids.tolist() != held_out.row_ids.tolist()


@pytest.mark.parametrize("share", [0, 1, -0.5, True, "0.2", float("nan")])
def test_a_share_out_of_range_is_an_error(share: object) -> None:
    with pytest.raises(InputError, match=r"expected the share of held-out rows in \(0, 1\), found"):
        split(read(*rows_of(9)), share)  # type: ignore[arg-type]


@pytest.fixture
def films(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DALLME_STORE", str(tmp_path / "store"))
    with (tmp_path / "films.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *zip(*rows_of(1200), strict=True)])
    return tmp_path / "films.csv"


def distill(source: Path, *options: object) -> tuple[int, str, dict[str, object]]:
    """Runs `distill`; returns its status, its standard error and the manifest."""
    output = source.parent / "out"
    arguments = ["distill", source, "--output", output, "--embedder", "hashing", "--no-report", "--overwrite"]
    result = CliRunner().invoke(app, [str(each) for each in [*arguments, *options]])
    manifest = output / "manifest.json"
    return result.exit_code, result.stderr, json.loads(manifest.read_text()) if manifest.exists() else {}


NOTE = (
    "held out 240 of 1,200 rows to test on, the same share of each class; the texts are distilled from the "
    "other 960; --holdout 0 uses all"
)


def test_one_file_is_enough(films: Path) -> None:
    status, said, manifest = distill(films, "--per-class", 2)
    assert status == 0
    assert f"note: {films}: 1,200 rows, texts from 'text', 2 classes from 'label'\n" in said
    assert f"note: {NOTE}\n" in said
    assert manifest["comparison"]["test_rows"] == 240  # type: ignore[index]
    assert manifest["data"]["rows"] == 960  # type: ignore[index]
    assert NOTE in manifest["data"]["notes"]  # type: ignore[index]
    held_out = set(split(read(films), 0.2)[1].row_ids.tolist())
    lineage = DistilledDataset.load(films.parent / "out").lineage
    assert not held_out & {row for each in lineage for row in each.member_rows}
    audited = CliRunner().invoke(app, ["audit", str(films.parent / "out"), "--source", str(films), "--json"])
    assert audited.exit_code == 0, audited.output


@pytest.mark.parametrize("options", [("--holdout", 0, "--per-class", 2), ("--per-class", 350)])
def test_no_rows_are_held_out(films: Path, options: tuple[object, ...]) -> None:
    status, said, manifest = distill(films, *options, "--decoder", "nearest")
    assert status == 0, said
    assert "held out" not in said
    assert "comparison" not in manifest
    assert manifest["data"]["rows"] == 1200  # type: ignore[index]


def test_few_rows_are_held_out_only_on_request(films: Path) -> None:
    lines = films.read_text().splitlines(keepends=True)
    films.write_text("".join(lines[:900]))
    assert "comparison" not in distill(films, "--per-class", 2)[2]
    status, said, manifest = distill(films, "--per-class", 2, "--holdout", 0.1)
    assert status == 0, said
    assert manifest["comparison"]["test_rows"] == 90  # type: ignore[index]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--holdout", 0.5, "--per-class", 350),
            "expected at least 350 rows in each class, class 'good' has 200",
        ),
        (("--holdout", 1), "expected the share of held-out rows in (0, 1), found 1.0"),
        (("--holdout", 0.0001), "expected --holdout 0.0001 to hold out rows, found none of 1,200"),
        (
            ("--holdout", 0.2, "--test", "films.csv"),
            "expected --test or --holdout, found both; leave one out",
        ),
    ],
)
def test_impossible_holdouts_are_errors(films: Path, options: tuple[object, ...], message: str) -> None:
    result = CliRunner().invoke(
        app, [str(each) for each in ["distill", films, "--output", films.parent / "out", "--per-class", 2,
                                     "--embedder", "hashing", *options]]
    )  # fmt: skip
    assert result.exit_code != 0
    assert message in str(result.exception)
