"""Budgets in tokens: the tokens of a set, and methods compared at equal tokens."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import dallme
from dallme import Distiller
from dallme.cli.main import app
from dallme.data import LabelledTexts
from dallme.dataset.card import comparison_cells
from dallme.embedders.base import count_words
from dallme.errors import InputError

METHODS = ["random", "herding", "nearest", "teaching", "full"]


def _rows(count: int, seed: int = 0) -> LabelledTexts:
    """Rows of 6 to 12 words, some in two sentences."""
    rng = np.random.default_rng(seed)
    words = {"good": ["fine", "great", "lovely", "superb"], "bad": ["dull", "poor", "weak", "awful"]}
    plain = ["film", "play", "story", "scene", "cast", "music", "plot", "voice"]
    texts, labels = [], []
    for row in range(count):
        label = ("bad", "good")[row % 2]
        text = [*rng.choice(plain, int(rng.integers(3, 9))), *rng.choice(words[label], 3)]
        texts.append(" ".join(rng.permutation(text)) + f" n{row}")
        labels.append(label)
    return dallme.read(texts, labels)


@pytest.fixture(scope="module")
def tables() -> dict[str, dict[str, dict[str, int]]]:
    """The sizes of each row of the table, by kind of match and method."""
    source, test = _rows(400), _rows(60, seed=1)
    distiller = Distiller(per_class=3, embedder="hashing", max_tokens=60)
    sizes = {}
    for match in ("texts", "tokens"):
        table = dallme.compare(source, test, distiller, METHODS, ["lr"], match=match).as_dict()
        assert table["match"] == match
        sizes[match] = {row["method"]: row for row in table["methods"]}
    return sizes


def test_equal_texts_is_the_rule_without_an_option(tables: dict[str, dict[str, dict[str, int]]]) -> None:
    assert {tables["texts"][name]["texts"] for name in METHODS[:4]} == {6}
    assert tables["texts"]["random"]["tokens"] < tables["texts"]["teaching"]["tokens"] / 3


@pytest.mark.parametrize("method", ["random", "herding", "nearest"])
def test_rows_fill_the_tokens_of_the_distilled_texts(
    tables: dict[str, dict[str, dict[str, int]]], method: str
) -> None:
    limit, found = tables["tokens"]["teaching"]["tokens"], tables["tokens"][method]
    assert 0.8 * limit < found["tokens"] <= limit
    assert found["texts"] > 18


def test_the_distilled_texts_and_the_full_data_stay(tables: dict[str, dict[str, dict[str, int]]]) -> None:
    for name in ("teaching", "full"):
        assert tables["tokens"][name]["texts"] == tables["texts"][name]["texts"]
        assert tables["tokens"][name]["tokens"] == tables["texts"][name]["tokens"]
    assert tables["texts"]["full"]["tokens"] == count_words(_rows(400).texts).sum()


def test_the_table_shows_them(tables: dict[str, dict[str, dict[str, int]]]) -> None:
    head, body = comparison_cells({"methods": list(tables["texts"].values())})
    assert head == ["method", "texts", "tokens", "logistic-regression"]
    row = tables["texts"]["teaching"]
    assert body[3][2] == f"{row['tokens']:,} ({row['tokens'] / 6:.0f})"


def test_an_older_table_has_no_such_column(tables: dict[str, dict[str, dict[str, int]]]) -> None:
    older = [{key: row[key] for key in row if key != "tokens"} for row in tables["texts"].values()]
    assert comparison_cells({"methods": older})[0] == ["method", "texts", "logistic-regression"]


def test_another_match_is_refused_by_the_command_line(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text(
        "text,label\n" + "\n".join(f"{word} {row},{word}" for row in range(9) for word in ("a", "b"))
    )
    arguments = ["compare", str(file), "--test", str(file), "--per-class", "2", "--match", "words"]
    result = CliRunner().invoke(app, arguments)
    assert "expected budgets matched by texts or tokens, found 'words'" in str(result.exception)


def test_total_tokens_bound_the_set() -> None:
    source = _rows(400)
    free = Distiller(per_class=3, embedder="hashing", decoder="teaching:longest").run(source).distilled
    bound = Distiller(per_class=3, embedder="hashing", decoder="teaching:longest", total_tokens=120)
    texts = bound.run(source).distilled
    assert count_words(texts.texts).sum() <= 120 < count_words(free.texts).sum()
    assert count_words(texts.texts).max() <= 20
    assert texts.manifest["configuration"]["total_tokens"] == 120


def test_too_few_total_tokens_are_an_error() -> None:
    with pytest.raises(InputError, match="expected at least 8 tokens for each of 6 texts, found 47 in all"):
        Distiller(per_class=3, embedder="hashing", total_tokens=47).run(_rows(100))
    with pytest.raises(InputError, match="total_tokens"):
        Distiller(per_class=3, embedder="hashing", total_tokens=0)


def test_the_command_line_takes_total_tokens(tmp_path: Path) -> None:
    source = _rows(100)
    lines = [
        f"{text},{source.label_names[label]}"
        for text, label in zip(source.texts, source.labels.tolist(), strict=True)
    ]
    (tmp_path / "rows.csv").write_text("\n".join(["text,label", *lines]))
    output = str(tmp_path / "set")
    common = ["--per-class", "2", "--embedder", "hashing", "--output", output, "--no-report", "--json"]
    result = CliRunner().invoke(app, ["distill", str(tmp_path / "rows.csv"), *common, "--total-tokens", "60"])
    assert result.exit_code == 0, result.output
    texts = [row["text"] for row in json.loads(result.stdout)["texts"]]
    assert count_words(texts).sum() <= 60
