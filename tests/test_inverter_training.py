"""Training an inverter at toy scale: what it learns, options and output."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from dallme.cli.main import app
from dallme.decoders.vec2text.checkpoint import load
from dallme.decoders.vec2text.corpus import Drafts
from dallme.decoders.vec2text.inverter import Inverter
from dallme.decoders.vec2text.model import InverterConfig
from dallme.decoders.vec2text.stages import has_converged
from dallme.decoders.vec2text.state import Checkpoints, TrainingState
from dallme.decoders.vec2text.training import TrainingOptions, train_inverter
from dallme.errors import InputError, OutputError, UnknownNameError
from training_cases import EMBEDDER, FAST, TEXTS, Notes, contents

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def written(folder: Path) -> list[str]:
    """The likeliest texts for the vectors of all template sentences."""
    model, tokenizer, _ = load(folder, "cpu")
    found = model.generate(torch.from_numpy(EMBEDDER.embed(TEXTS)), max_new_tokens=32)
    return list(tokenizer.batch_decode(found, skip_special_tokens=True))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short training of both stages that nothing interrupted."""
    folder = tmp_path_factory.mktemp("plain") / "inverter"
    train_inverter(TEXTS, EMBEDDER, folder, steps=40, save_every=8, **FAST)
    return folder


# What it learns


def test_a_toy_corpus_is_written_again_word_for_word(tmp_path: Path) -> None:
    notes = Notes()
    config = train_inverter(
        TEXTS,
        EMBEDDER,
        tmp_path / "inverter",
        preset="tiny",
        steps=160,
        correct=False,
        device="cpu",
        progress=notes,
    )
    exact = np.mean(
        [text == original for text, original in zip(written(tmp_path / "inverter"), TEXTS, strict=True)]
    )
    assert exact >= 0.95
    assert config.scores["hypotheses"]["texts"] == 4
    assert any("texts a second, about" in line for line in notes.lines)
    assert any(line.startswith("hypothesizer step 160: loss 0.") for line in notes.lines)
    assert list(tmp_path.iterdir()) == [tmp_path / "inverter"]


def test_corrections_come_nearer(plain: Path) -> None:
    inverter = Inverter.load(plain, "cpu", embedder=EMBEDDER)
    vectors = EMBEDDER.embed(TEXTS)[:30]
    before, after = (
        np.mean([each.cosine for each in inverter.decode(vectors, steps=steps, beam=4)]) for steps in (0, 1)
    )
    assert before < 0.95
    assert after > before + 0.01


def test_training_is_silent_and_leaves_the_generator_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    train_inverter(TEXTS[:20], EMBEDDER, tmp_path / "inverter", steps=2, **FAST)
    assert torch.equal(before, torch.random.get_rng_state())
    assert capsys.readouterr() == ("", "")


def test_a_stage_ends_when_bleu_has_converged(tmp_path: Path) -> None:
    # At this learning rate nothing is learnt: of ten measurements the fourth is the last.
    config = train_inverter(
        TEXTS,
        EMBEDDER,
        tmp_path / "inverter",
        steps=20,
        correct=False,
        learning_rate=1e-9,
        patience=3,
        **FAST,
    )
    assert sum(entry["steps"] for entry in config.training["history"]) == 8


class Clock:
    """A clock that advances by a fixed time at each reading."""

    def __init__(self, seconds: float) -> None:
        self.now, self.seconds = 0.0, seconds

    def perf_counter(self) -> float:
        self.now += self.seconds
        return self.now


@pytest.mark.parametrize("drafts", [0.0, 100.0])
def test_minutes_bound_a_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drafts: float) -> None:
    clock = Clock(0.02)
    monkeypatch.setattr("dallme.decoders.vec2text.stages.time", clock)
    save_drafts = Checkpoints.save_drafts

    def save_slowly(self: Checkpoints, texts: Drafts) -> None:
        clock.now += drafts
        save_drafts(self, texts)

    monkeypatch.setattr(Checkpoints, "save_drafts", save_slowly)
    config = train_inverter(TEXTS[:40], EMBEDDER, tmp_path / "inverter", minutes=0.01, **FAST)
    steps = dict.fromkeys((1, 2), 0)
    for entry in config.training["history"]:
        steps[entry["stage"]] += entry["steps"]
    # Of 0.6 seconds the hypothesizer has 0.36, at 0.02 a step; drafts take at most a quarter of the rest.
    assert 17 <= steps[1] <= 18
    assert 8 <= steps[2] <= 12
    assert config.corrects


def _state(bleu: list[float], losses: list[float]) -> TrainingState:
    history = [
        {"stage": 1, "steps": 1, "bleu": score, "held_out_loss": loss}
        for score, loss in zip(bleu, losses, strict=True)
    ]
    return TrainingState(history=history)


@pytest.mark.parametrize(
    ("bleu", "losses", "converged"),
    [
        ([5, 5, 5], [2.0, 2.0, 2.0], True),
        ([5, 5, 5], [2.0, 2.0, 1.9], False),  # BLEU stands still, the loss falls
        ([5, 5, 6], [2.0, 2.0, 2.1], False),  # the loss rises, BLEU as well
        ([5, 5, 5.05], [2.0, 2.0, 1.9995], True),  # both changes are too small to count
        ([5, 4], [2.0, 3.0], False),  # not enough measurements
    ],
)
def test_a_stage_has_converged_by_both_measures(
    bleu: list[float], losses: list[float], converged: bool
) -> None:
    state = _state(bleu, losses)
    assert has_converged(state, patience=2) is converged
    state.stage = 2
    assert not has_converged(state, patience=2)  # measurements of another stage


# What is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "expected steps to be a whole number of at least 1, found 0"),
        ({"steps": 1, "minutes": 2.0}, "expected one of steps, epochs and minutes, found steps and minutes"),
        ({"minutes": -1.0}, "expected minutes above 0, found -1.0"),
        ({"noise": -0.1}, "expected noise of at least 0, found -0.1"),
    ],
)
def test_options_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TrainingOptions(**options)


def test_unusable_presets_texts_and_embedders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="unknown preset 'huge'; known: tiny, small, base"):
        train_inverter(TEXTS, EMBEDDER, tmp_path / "inverter", preset="huge")
    with pytest.raises(InputError, match="expected at least two different texts to train on, found 1"):
        train_inverter(["one", "<b>one</b>", " "], EMBEDDER, tmp_path / "inverter")
    with pytest.raises(
        InputError,
        match="expected an embedder that is a transformer for the base 'embedder', found 'hashing'",
    ):
        train_inverter(TEXTS, EMBEDDER, tmp_path / "inverter", base="embedder")


def test_only_inverters_are_overwritten_and_only_on_request(plain: Path, tmp_path: Path) -> None:
    with pytest.raises(
        OutputError, match="expected an empty or missing folder, found .*; choose another, or --overwrite"
    ):
        train_inverter(TEXTS, EMBEDDER, plain)
    (tmp_path / "letter.txt").write_text("dear", encoding="utf-8")
    with pytest.raises(OutputError, match="expected an inverter to replace, found something else at"):
        train_inverter(TEXTS, EMBEDDER, tmp_path, overwrite=True)


# On disk


def test_a_folder_holds_weights_once_and_nothing_that_is_run(plain: Path) -> None:
    assert set(contents(plain)) == {
        ".dallme-files.json", "README.md", "config.json", "inverter.json", "model.safetensors",
        "special_tokens.json", "tokenizer.json",
    }  # fmt: skip
    model, _, config = load(plain, "cpu")
    weights = sum(parameter.numel() for parameter in model.parameters())
    assert (plain / "model.safetensors").stat().st_size < 2 * weights + 10_000
    assert (config.base, config.kind, config.corrects, config.embedder) == (
        "scratch",
        "causal",
        True,
        "hashing",
    )
    card = (plain / "README.md").read_text(encoding="utf-8")
    assert "- texts: 196" in card
    assert not [
        name
        for name, content in contents(plain).items()
        if b"_name_or_path" in content or b"site-packages" in content
    ]
    assert "| corrected once | " in card
    assert "names and numbers are guesses" in card


def test_a_damaged_folder_is_refused(plain: Path, tmp_path: Path) -> None:
    for name, content in contents(plain).items():
        (tmp_path / name).write_bytes(content if name != "model.safetensors" else content[:1000])
    with pytest.raises(
        InputError, match=r"expected an inverter in .*, could not read it: .*; train or copy it again"
    ):
        load(tmp_path)


def test_adapters_are_folded_into_the_weights(tmp_path: Path) -> None:
    train_inverter(TEXTS[:20], EMBEDDER, tmp_path / "inverter", steps=2, correct=False, lora_rank=2, **FAST)
    model, _, config = load(tmp_path / "inverter", "cpu")
    assert not any("lora" in name for name, _ in model.named_parameters())
    assert config.training["lora_rank"] == 2


def test_the_command_trains_and_prints_scores(tmp_path: Path) -> None:
    source = tmp_path / "texts.csv"
    source.write_text("text\n" + "\n".join(TEXTS[:30]) + "\n", encoding="utf-8")
    arguments = [
        "train-inverter",
        str(source),
        "--output",
        str(tmp_path / "inverter"),
        "--embedder",
        "hashing",
        "--device",
        "cpu",
    ]
    arguments += [
        "--preset",
        "tiny",
        "--steps",
        "2",
        "--drafts",
        "16",
        "--store",
        str(tmp_path / "store"),
        "--json",
    ]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["training"]["source"].endswith("texts.csv")
    assert set(document["scores"]) == {"hypotheses", "corrected once"}
    assert InverterConfig.read(tmp_path / "inverter").scores == document["scores"]
