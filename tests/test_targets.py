"""Targets: what the texts will train chooses the decoder and the classifiers of the table."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from dallme import DistilledDataset, Distiller, registry
from dallme.cli.main import _status
from dallme.decoders.targets import TARGETS, Target
from dallme.errors import InputError, UnknownNameError
from test_cli import BAD, GOOD, sentence, write_csv

ROWS = [(sentence(words, row), name) for name, words in (("good", GOOD), ("bad", BAD)) for row in range(30)]
TEXTS, LABELS = [text for text, _ in ROWS], [label for _, label in ROWS]


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_each_target_names_parts_that_exist(target: Target) -> None:
    registry.make("decoders", target.decoder)
    assert all(registry.split("classifiers", name) for name in target.classifiers)


def test_the_default_writes_what_it_wrote_without_targets() -> None:
    default = Distiller(per_class=2, embedder="hashing").distill(TEXTS, LABELS)
    named = Distiller(per_class=2, embedder="hashing", decoder="teaching").distill(TEXTS, LABELS)
    assert default.texts == named.texts
    assert default.manifest["configuration"] == named.manifest["configuration"]
    assert "target" not in default.manifest["configuration"]


def test_a_target_chooses_the_decoder() -> None:
    distiller = Distiller(per_class=2, embedder="hashing", target="vectors")
    assert distiller.decoder == "select"
    distilled = distiller.distill(TEXTS, LABELS)
    assert set(distilled.texts) <= set(TEXTS)  # whole rows
    assert distilled.manifest["configuration"]["target"] == "vectors"
    assert replace(distiller, seed=1).decoder == "select"


def test_a_named_decoder_has_precedence() -> None:
    distiller = Distiller(per_class=2, embedder="hashing", target="vectors", decoder="nearest")
    assert distiller.decoder == "nearest"
    assert distiller.decoder_options == {}


def test_given_options_have_precedence_over_those_of_the_target() -> None:
    distiller = Distiller(
        per_class=2, embedder="hashing", target="vectors", decoder_options={"passes": 1, "ridge": 2.0}
    )
    assert distiller.resolved_decoder == registry.make("decoders", "select", passes=1, ridge=2.0)


def test_auto_chooses_with_the_classifiers_of_the_target() -> None:
    chosen = Distiller(per_class=2, embedder="hashing", target="vectors", decoder="auto:nearest,select")
    assert chosen.decoder_options == {"classifiers": "embedding-lr"}
    default = Distiller(per_class=2, embedder="hashing", target="vectors", decoder="auto")
    assert default.decoder_options["candidates"] == "select,teaching,nearest"
    given = {"classifiers": "naive-bayes", "candidates": "teaching"}
    own = Distiller(per_class=2, embedder="hashing", target="vectors", decoder="auto", decoder_options=given)
    assert own.decoder_options == given
    assert "classifiers" not in Distiller(per_class=2, embedder="hashing", decoder="auto").decoder_options


def test_an_unknown_target_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match=r"(?i)target 'everything'.*any.*encoder"):
        Distiller(per_class=2, embedder="hashing", target="everything")


def test_options_of_another_decoder_are_an_error() -> None:
    with pytest.raises((InputError, TypeError)):
        Distiller(per_class=2, embedder="hashing", target="vectors", decoder_options={"draws": 2})


def test_the_command_line_compares_with_the_classifiers_of_the_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DALLME_STORE", str(tmp_path / "store"))
    source = write_csv(tmp_path / "rows.csv", ROWS[:24] + ROWS[30:54])
    test = write_csv(tmp_path / "test.csv", ROWS[24:30] + ROWS[54:])
    output = tmp_path / "set"
    command = [
        "distill",
        source,
        "--per-class",
        "2",
        "--output",
        output,
        "--embedder",
        "hashing",
        "--test",
        test,
    ]
    command += ["--for", "vectors", "--no-report", "--json"]
    monkeypatch.setattr(sys, "argv", ["dallme", *map(str, command)])
    assert _status() == 0
    printed = json.loads(capsys.readouterr().out)
    methods = {method["method"]: method for method in printed["comparison"]["methods"]}
    assert list(methods) == ["random", "nearest", "select", "full"]
    columns = [result["classifier"] for result in methods["select"]["results"]]
    assert columns == ["embedding-lr", "logistic-regression"]
    loaded = DistilledDataset.load(output)
    assert loaded.manifest["configuration"]["target"] == "vectors"
    assert "| target | vectors |" in (output / "README.md").read_text(encoding="utf-8")
