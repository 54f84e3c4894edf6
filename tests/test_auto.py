"""The decoder that is chosen by a trial: how rows are held out, how sets are scored, and what is told of it."""

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
from dallme.decoders.base import Context
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
    trial = HoldoutSplit.split(prototypes, context, np.random.default_rng(0), share=0.25, most=4000)
    assert trial is not None
    assert len(trial.texts) == len(trial.labels) == len(trial.vectors) == 20
    part = trial.context
    assert len(part.source) == len(part.vectors) == 60
    assert not set(part.source.texts) & set(trial.texts)
    assert sorted([*part.source.texts, *trial.texts]) == sorted(context.source.texts)
    for members, before, vector in zip(
        trial.prototypes.members, prototypes.members, trial.prototypes.vectors, strict=True
    ):
        own = [part.source.texts[row] for row in members.tolist()]
        assert own == [
            text for row in before.tolist() if (text := context.source.texts[row]) in own
        ]  # nearest first, as before
        assert len(own) == 15
        np.testing.assert_allclose(vector, part.vectors.vectors[members].mean(axis=0), rtol=1e-6)
    assert trial.prototypes.weights.tolist() == [15] * 4


def test_no_more_rows_are_held_out_than_are_asked_for(context: Context, prototypes: Prototypes) -> None:
    trial = HoldoutSplit.split(prototypes, context, np.random.default_rng(0), share=0.5, most=12)
    assert trial is not None
    assert len(trial.texts) == 12
    assert (
        HoldoutSplit.split(prototypes, context, np.random.default_rng(0), share=0.5, most=8) is None
    )  # too few to tell anything


def test_a_row_that_stands_on_both_sides_is_not_tested_on() -> None:
    texts, labels = _rows(80)
    context = make_context([texts[row % 40] for row in range(80)], [labels[row % 40] for row in range(80)])
    prototypes = make_prototypes(context, [range(0, 80, 2), range(1, 80, 2)])
    trial = HoldoutSplit.split(prototypes, context, np.random.default_rng(0), share=0.5, most=4000)
    assert trial is not None
    assert 10 <= len(trial.texts) < 40
    assert not set(trial.context.source.texts) & set(trial.texts)


def test_students_are_scored_on_the_held_out_rows(context: Context, prototypes: Prototypes) -> None:
    trial = HoldoutSplit.split(prototypes, context, np.random.default_rng(0), share=0.25, most=4000)
    assert trial is not None
    right = [DecodedText("great lovely warm"), DecodedText("awful boring dull")] * 2
    assert trial.score(right, ["logistic-regression", "nb"]) == {"logistic-regression": 1.0, "nb": 1.0}
    assert trial.score(right[::-1], ["lr"]) == {"lr": 0.0}
    assert trial.score(right, ["embedding-lr"])["embedding-lr"] > 0.9
    assert trial.score([DecodedText("!"), DecodedText("?")] * 2, ["lr"]) == {"lr": 0.0}


def test_the_best_on_held_out_rows_is_taken(context: Context, prototypes: Prototypes) -> None:
    auto = AutoDecoder("nearest,teaching")
    decoded = auto.decode(prototypes, context, seed=0).texts
    check_contract(decoded, prototypes, context)
    found = context.findings["auto"]
    assert found["held_out_rows"] == 16
    means = {name: scores["mean"] for name, scores in found["scores"].items()}
    assert list(means) == ["nearest", "teaching"]
    assert found["chosen"] == max(means, key=lambda name: means[name])
    for scores in found["scores"].values():
        assert list(scores) == ["logistic-regression", "naive-bayes", "embedding-lr", "mean"]
        assert scores["mean"] == pytest.approx(np.mean([scores[name] for name in list(scores)[:3]]))
    again = replace(context, findings={})
    assert auto.decode(prototypes, again, seed=0).texts == decoded
    assert again.findings == context.findings
    json.dumps(context.findings)


def test_a_worse_decoder_loses(
    context: Context, prototypes: Prototypes, monkeypatch: pytest.MonkeyPatch
) -> None:
    nearest = registry.find("decoders", "nearest").load()

    def swapped(
        self: Any, prototypes: Prototypes, context: Context, rng: np.random.Generator
    ) -> list[DecodedText]:
        return [DecodedText(f"{word} film {row}") for row, word in enumerate(["awful", "great"] * 2)]

    monkeypatch.setattr(nearest, "_decode", swapped)
    AutoDecoder("nearest,extractive").decode(prototypes, context, seed=0).texts
    assert context.findings["auto"]["chosen"] == "extractive"
    assert context.findings["auto"]["scores"]["nearest"]["mean"] < 0.5


def test_a_candidate_that_cannot_do_it_is_left_out_and_told(context: Context, prototypes: Prototypes) -> None:
    AutoDecoder().decode(
        prototypes, context, seed=0
    ).texts  # the inverter that comes with the package is for another embedder
    found = context.findings["auto"]
    assert list(found["scores"]) == ["teaching", "extractive", "nearest"]
    assert found["left_out"]["vec2text"].startswith("expected an inverter for the embedder of these vectors")
    assert explain(found).endswith("; left out: vec2text")
    assert (
        f"auto: {found['chosen']}; mean accuracy of logistic-regression, naive-bayes, embedding-lr on 16 held-out"
        in explain(found)
    )


def test_the_first_candidate_is_taken_where_nothing_can_be_tried() -> None:
    context = make_context(*_rows(8))
    AutoDecoder("extractive,nearest").decode(
        make_prototypes(context, [range(0, 8, 2), range(1, 8, 2)]), context, seed=0
    ).texts
    assert context.findings["auto"] == {
        "chosen": "extractive",
        "held_out_rows": 0,
        "scores": {},
        "left_out": {},
    }
    assert explain(context.findings["auto"]).startswith("auto: extractive, the first candidate")


def test_ready_vectors_leave_the_student_of_vectors_out(context: Context, prototypes: Prototypes) -> None:
    without = replace(context, embedder=None)
    AutoDecoder("extractive,nearest").decode(prototypes, without, seed=0).texts
    assert list(without.findings["auto"]["scores"]["nearest"]) == [
        "logistic-regression",
        "naive-bayes",
        "mean",
    ]


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
        AutoDecoder(students="best")


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
