"""The choice of a decoder on held-out rows: the split, the scores and the report."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dallme import registry
from dallme.cli.main import _status
from dallme.data import DecodedText, Prototypes
from dallme.decoders.auto import AutoDecoder, explain
from dallme.decoders.base import Context, DecodingResult
from dallme.decoders.holdout import HoldoutSplit
from dallme.distiller import Distiller
from dallme.errors import InputError, UnknownNameError
from decoder_cases import BAD, GOOD, check_contract, make_context, make_prototypes


def _rows(count: int) -> tuple[list[str], list[int]]:
    rng, texts, labels = np.random.default_rng(0), [], []
    for row in range(count):
        words = BAD if row % 2 else GOOD
        texts.append(f"A {rng.choice(words)} film number {row}. It has a {rng.choice(words)} plot.")
        labels.append(row % 2)
    return texts, labels


@pytest.fixture
def context() -> Context:
    return make_context(*_rows(80), max_tokens=16)


@pytest.fixture
def prototypes(context: Context) -> Prototypes:
    return make_prototypes(context, [range(0, 40, 2), range(1, 40, 2), range(40, 80, 2), range(41, 80, 2)])


def test_rows_are_held_out_of_each_cluster(context: Context, prototypes: Prototypes) -> None:
    split = HoldoutSplit.split(prototypes, context, np.random.default_rng(0), share=0.25, most=4000)
    assert split is not None
    assert len(split.texts) == len(split.labels) == len(split.vectors) == 20
    part = split.context
    assert len(part.source) == len(part.vectors) == 60
    assert not set(part.source.texts) & set(split.texts)
    assert sorted([*part.source.texts, *split.texts]) == sorted(context.source.texts)
    for members, before, vector in zip(
        split.prototypes.members, prototypes.members, split.prototypes.vectors, strict=True
    ):
        own = [part.source.texts[row] for row in members.tolist()]
        assert own == [
            text for row in before.tolist() if (text := context.source.texts[row]) in own
        ]  # nearest first, as before
        assert len(own) == 15
        np.testing.assert_allclose(vector, part.vectors.vectors[members].mean(axis=0), rtol=1e-6)
    assert split.prototypes.weights.tolist() == [15] * 4


def test_no_more_rows_are_held_out_than_are_asked_for(context: Context, prototypes: Prototypes) -> None:
    split = HoldoutSplit.split(prototypes, context, np.random.default_rng(0), share=0.5, most=12)
    assert split is not None
    assert len(split.texts) == 12
    assert (
        HoldoutSplit.split(prototypes, context, np.random.default_rng(0), share=0.5, most=8) is None
    )  # too few to tell anything


def test_a_row_that_stands_on_both_sides_is_not_tested_on() -> None:
    texts, labels = _rows(80)
    context = make_context([texts[row % 40] for row in range(80)], [labels[row % 40] for row in range(80)])
    prototypes = make_prototypes(context, [range(0, 80, 2), range(1, 80, 2)])
    split = HoldoutSplit.split(prototypes, context, np.random.default_rng(0), share=0.5, most=4000)
    assert split is not None
    assert 10 <= len(split.texts) < 40
    assert not set(split.context.source.texts) & set(split.texts)


def test_classifiers_are_scored_on_the_held_out_rows(context: Context, prototypes: Prototypes) -> None:
    split = HoldoutSplit.split(prototypes, context, np.random.default_rng(0), share=0.25, most=4000)
    assert split is not None
    right = [DecodedText("great lovely warm"), DecodedText("awful boring dull")] * 2
    assert split.score(right, ["logistic-regression", "nb"]) == {"logistic-regression": 1.0, "nb": 1.0}
    assert split.score(right[::-1], ["lr"]) == {"lr": 0.0}
    assert split.score(right, ["embedding-lr"])["embedding-lr"] > 0.9
    assert split.score([DecodedText("!"), DecodedText("?")] * 2, ["lr"]) == {"lr": 0.0}


def test_the_best_on_held_out_rows_is_taken(context: Context, prototypes: Prototypes) -> None:
    auto = AutoDecoder("nearest,teaching")
    result = auto.decode(prototypes, context, seed=0)
    check_contract(result.texts, prototypes, context)
    choice = result.metadata["auto"]
    assert choice["held_out_rows"] == 16
    means = {name: scores["mean"] for name, scores in choice["scores"].items()}
    assert list(means) == ["nearest", "teaching"]
    assert choice["chosen"] == result.decoder == max(means, key=lambda name: means[name])
    for scores in choice["scores"].values():
        assert list(scores) == ["logistic-regression", "naive-bayes", "embedding-lr", "mean"]
        assert scores["mean"] == pytest.approx(np.mean([scores[name] for name in list(scores)[:3]]))
    assert auto.decode(prototypes, context, seed=0) == result
    json.dumps(result.metadata)


def test_a_worse_decoder_loses(
    context: Context, prototypes: Prototypes, monkeypatch: pytest.MonkeyPatch
) -> None:
    nearest = registry.find("decoders", "nearest").load()

    def swapped(*_: Any) -> DecodingResult:
        words = ["awful", "great"] * 2
        return DecodingResult(tuple(DecodedText(f"{word} film {row}") for row, word in enumerate(words)))

    monkeypatch.setattr(nearest, "_decode", swapped)
    choice = AutoDecoder("nearest,extractive").decode(prototypes, context, seed=0).metadata["auto"]
    assert choice["chosen"] == "extractive"
    assert choice["scores"]["nearest"]["mean"] < 0.5


def test_a_candidate_that_cannot_decode_is_left_out(context: Context, prototypes: Prototypes) -> None:
    # The inverter that comes with the package is for another embedder.
    choice = AutoDecoder().decode(prototypes, context, seed=0).metadata["auto"]
    assert list(choice["scores"]) == ["teaching", "extractive", "nearest"]
    assert choice["left_out"]["vec2text"].startswith("expected an inverter for the embedder of these vectors")
    assert explain(choice).endswith("; left out: vec2text")
    assert (
        f"auto: {choice['chosen']}; mean accuracy of logistic-regression, naive-bayes, embedding-lr "
        "on 16 held-out" in explain(choice)
    )


def test_the_first_candidate_is_used_without_enough_rows() -> None:
    context = make_context(*_rows(8))
    prototypes = make_prototypes(context, [range(0, 8, 2), range(1, 8, 2)])
    choice = AutoDecoder("extractive,nearest").decode(prototypes, context, seed=0).metadata["auto"]
    assert choice == {"chosen": "extractive", "held_out_rows": 0, "scores": {}, "left_out": {}}
    assert explain(choice).startswith("auto: extractive, the first candidate")


def test_ready_vectors_leave_out_the_classifier_of_vectors(context: Context, prototypes: Prototypes) -> None:
    without = replace(context, embedder=None)
    choice = AutoDecoder("extractive,nearest").decode(prototypes, without, seed=0).metadata["auto"]
    assert list(choice["scores"]["nearest"]) == ["logistic-regression", "naive-bayes", "mean"]


def test_the_manifest_and_the_lineage_name_the_choice() -> None:
    texts, labels = _rows(80)
    distilled = Distiller(2, embedder="hashing", decoder="auto:extractive,nearest", max_tokens=16).distill(
        texts, labels
    )
    found = distilled.manifest["decoding"]["auto"]
    assert {lineage.decoder for lineage in distilled.lineage} == {found["chosen"]}
    assert distilled.manifest["configuration"]["decoder"] == "auto:extractive,nearest"
    assert "decoder" not in distilled.manifest["decoding"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"candidates": "teaching,auto"}, "found 'auto' itself"),
        ({"candidates": " , "}, "expected candidates as names separated by commas"),
        ({"share": 1.5}, "expected share to be a number between 0 and 1, found 1.5"),
        ({"most": 0}, "expected most to be a whole number of at least 1"),
    ],
)
def test_options_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        AutoDecoder(**options)


def test_unknown_names_are_told() -> None:
    with pytest.raises(UnknownNameError, match="unknown decoder 'best'"):
        AutoDecoder("best")
    with pytest.raises(UnknownNameError, match="unknown classifier 'best'"):
        AutoDecoder(classifiers="best")


def test_the_command_line_shows_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(
        "text,label\n" + "".join(f"{text},{label}\n" for text, label in zip(*_rows(80), strict=True))
    )
    output = ["--output", str(tmp_path / "out"), "--store", str(tmp_path / "store"), "--no-report"]
    arguments = [
        "distill",
        str(path),
        "--per-class",
        "2",
        "--embedder",
        "hashing",
        "--decoder",
        "auto:extractive,nearest",
        *output,
    ]
    monkeypatch.setattr(sys, "argv", ["dallme", *arguments])
    assert _status() == 0
    shown = capsys.readouterr().err
    assert "mean accuracy of logistic-regression, naive-bayes, embedding-lr on 16 held-out rows" in shown
