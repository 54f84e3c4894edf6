"""Training an inverter at toy scale: what it learns, and that the same options give the same bytes."""

from __future__ import annotations

import json
import random
import shutil
import sys
from collections import UserDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import T5Config, T5ForConditionalGeneration
from typer.testing import CliRunner

from dallme.cli.main import app
from dallme.data import LabelledTexts
from dallme.decoders.vec2text.backbones import EOS, Preset, find_preset, make_base
from dallme.decoders.vec2text.checkpoint import load
from dallme.decoders.vec2text.corpus import (
    Batches,
    Corpus,
    Drafts,
    draw_passages,
    encode,
    make_corpus,
    pad,
    split_texts,
)
from dallme.decoders.vec2text.inverter import Inverter
from dallme.decoders.vec2text.model import InverterConfig, InverterModel, train_tokenizer
from dallme.decoders.vec2text.stages import has_converged
from dallme.decoders.vec2text.state import Checkpoints, TrainingState
from dallme.decoders.vec2text.training import TrainingOptions, prepare_model, train_inverter
from dallme.embedders.hashing import HashingEmbedder
from dallme.embedders.sentence_transformer import SentenceTransformerEmbedder
from dallme.errors import InputError, OutputError, UnknownNameError
from dallme.experiments.workspace import Workspace
from dallme.progress import SilentProgress

SLOTS = (
    (
        "The chef",
        "A tired nurse",
        "My neighbour",
        "Our teacher",
        "The pilot",
        "An old sailor",
        "The young judge",
        "A farmer",
    ),
    ("bought", "painted", "lost", "repaired", "described", "sold", "found"),
    (
        "a red bicycle",
        "the wooden boat",
        "three silver coins",
        "an expensive camera",
        "the broken radio",
        "two green lamps",
    ),
    ("in Paris", "near the harbour", "on Monday", "after lunch", "for her son", "during the storm"),
)
EMBEDDER = HashingEmbedder()


def template_sentences(count: int = 200) -> list[str]:
    rng = random.Random(0)
    found: dict[str, None] = {}
    while len(found) < count:
        found[" ".join(rng.choice(slot) for slot in SLOTS) + "."] = None
    return list(found)


TEXTS = template_sentences()
FAST: dict[str, Any] = {"preset": "tiny", "device": "cpu", "batch_size": 16, "drafts": 32, "max_tokens": 16}
SHORT: dict[str, Any] = {**FAST, "steps": 20}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def written(folder: Path) -> list[str]:
    """The likeliest texts for the vectors of all template sentences."""
    model, tokenizer, _ = load(folder, "cpu")
    found = model.generate(torch.from_numpy(EMBEDDER.embed(TEXTS)), max_new_tokens=32)
    return list(tokenizer.batch_decode(found, skip_special_tokens=True))


class Killed(Exception):
    pass


class Notes(SilentProgress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, message: str) -> None:
        self.lines.append(message)


class Killer(SilentProgress):
    """Ends a training after some steps of a stage, whatever it is doing."""

    def __init__(self, stage: str, steps: int) -> None:
        self.stage, self.left = stage, steps

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[Any]:
        killer = self

        class Task:
            def advance(self, steps: int = 1) -> None:
                if description == killer.stage:
                    killer.left -= steps
                    if killer.left < 0:
                        raise Killed

        yield Task()


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Models this small gain nothing from a second thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short training of both stages that nothing interrupted."""
    folder = tmp_path_factory.mktemp("plain") / "inverter"
    train_inverter(TEXTS, EMBEDDER, folder, steps=40, save_every=8, **FAST)
    return folder


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Files of a training of 20 steps a stage; the bytes of a training do not depend on its quality."""
    folder = tmp_path_factory.mktemp("short") / "inverter"
    train_inverter(TEXTS, EMBEDDER, folder, **SHORT, save_every=8)
    return contents(folder)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a training like `short` that was killed in its second stage."""
    folder = tmp_path_factory.mktemp("killed")
    killer = Killer("corrector", 5)
    with pytest.raises(Killed):
        train_inverter(TEXTS, EMBEDDER, folder / "inverter", **SHORT, save_every=4, progress=killer)
    return folder / "inverter.partial"


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


# The same again


def test_the_same_seed_gives_the_same_bytes_and_another_others(
    short: dict[str, bytes], tmp_path: Path
) -> None:
    train_inverter(TEXTS, EMBEDDER, tmp_path / "same", **SHORT, save_every=100)
    different = {name for name, content in short.items() if contents(tmp_path / "same")[name] != content}
    assert different == set()
    one_step: dict[str, Any] = {"steps": 1, "correct": False}
    train_inverter(TEXTS, EMBEDDER, tmp_path / "one", seed=1, **one_step, **FAST)
    train_inverter(TEXTS, EMBEDDER, tmp_path / "two", seed=2, **one_step, **FAST)
    assert contents(tmp_path / "one")["model.safetensors"] != contents(tmp_path / "two")["model.safetensors"]


@pytest.mark.parametrize(
    ("stage", "steps"), [("hypothesizer", 9), ("corrector", 3), ("corrector", 15), ("drafts", 1)]
)
def test_a_resumed_training_gives_the_same_bytes(
    short: dict[str, bytes], tmp_path: Path, stage: str, steps: int
) -> None:
    output = tmp_path / "inverter"
    with pytest.raises(Killed):
        # Every second step is measured: between two, a checkpoint has to hold the losses since the last one.
        train_inverter(TEXTS, EMBEDDER, output, **SHORT, save_every=7, progress=Killer(stage, steps))
    assert not output.exists()
    train_inverter(TEXTS, EMBEDDER, output, **SHORT, save_every=7, resume=True)
    assert contents(output) == short
    assert [path.name for path in tmp_path.iterdir()] == ["inverter"]


def test_writing_a_few_texts_at_once_misses_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Drafts] = []
    keep = Checkpoints.save_drafts
    monkeypatch.setattr(
        Checkpoints, "save_drafts", lambda self, drafts: made.append(drafts) or keep(self, drafts)
    )
    for at_once in (128, 5):
        monkeypatch.setattr("dallme.decoders.vec2text.stages.WRITTEN_AT_ONCE", at_once)
        train_inverter(TEXTS, EMBEDDER, tmp_path / str(at_once), steps=4, **FAST)
    together, apart = made
    assert len(together.ids) == FAST["drafts"]
    assert together.rows.tolist() == apart.rows.tolist()
    assert [row.tolist() for row in together.ids] == [row.tolist() for row in apart.ids]


def test_a_checkpoint_is_kept_from_other_trainings(tmp_path: Path) -> None:
    output = tmp_path / "inverter"
    with pytest.raises(Killed):
        train_inverter(
            TEXTS, EMBEDDER, output, steps=6, save_every=2, progress=Killer("hypothesizer", 4), **FAST
        )
    with pytest.raises(
        OutputError, match="expected no training under way, found .*inverter.partial'; continue with --resume"
    ):
        train_inverter(TEXTS, EMBEDDER, output, steps=6, **FAST)
    with pytest.raises(
        InputError, match=r"found others: noise 0.0 against 0.1, steps 6 against 7; give the same"
    ):
        train_inverter(TEXTS, EMBEDDER, output, steps=7, noise=0.1, save_every=2, resume=True, **FAST)
    train_inverter(TEXTS[:20], EMBEDDER, output, steps=1, correct=False, overwrite=True, **FAST)
    assert InverterConfig.read(output).training["texts"] == 19


@pytest.mark.parametrize(
    ("name", "cut"),
    [
        ("options.json", True),
        ("options.json", False),
        ("state.safetensors", False),
        ("drafts.safetensors", True),
    ],
)
def test_a_damaged_checkpoint_is_noticed_and_made_again(
    short: dict[str, bytes], checkpoint: Path, tmp_path: Path, name: str, cut: bool
) -> None:
    output, notes = tmp_path / "inverter", Notes()
    path = Path(shutil.copytree(checkpoint, tmp_path / "inverter.partial")) / name
    content = bytearray(path.read_bytes())
    if cut:
        del content[len(content) // 2 :]
    else:
        content[len(content) // 2] ^= 1
    path.write_bytes(content)
    train_inverter(TEXTS, EMBEDDER, output, **SHORT, save_every=4, resume=True, progress=notes)
    assert "is damaged (" in notes.lines[0]
    assert notes.lines[0].endswith("; the training starts again")
    assert contents(output) == short


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such locks")
def test_two_trainings_do_not_share_their_checkpoints(tmp_path: Path) -> None:
    output = tmp_path / "inverter"
    with Checkpoints(tmp_path / "inverter.partial").lock():
        for options in ({"resume": True}, {"overwrite": True}, {}):
            with pytest.raises(
                OutputError,
                match="inverter.partial' for this training alone, found another that writes there",
            ):
                train_inverter(TEXTS, EMBEDDER, output, steps=1, **options, **FAST)
    train_inverter(TEXTS[:20], EMBEDDER, output, steps=1, correct=False, **FAST)
    assert [path.name for path in tmp_path.iterdir()] == ["inverter"]


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


def test_unknown_presets_few_texts_and_other_embedders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="unknown preset 'huge'; known: tiny, small, base"):
        train_inverter(TEXTS, EMBEDDER, tmp_path / "inverter", preset="huge")
    with pytest.raises(InputError, match="expected at least two different texts to train on, found 1"):
        train_inverter(["one", "<b>one</b>", " "], EMBEDDER, tmp_path / "inverter")
    with pytest.raises(
        InputError,
        match="expected an embedder that is a transformer for the base 'embedder', found 'hashing'",
    ):
        train_inverter(TEXTS, EMBEDDER, tmp_path / "inverter", base="embedder")


def test_a_folder_is_replaced_only_if_it_is_an_inverter_and_that_is_wanted(
    plain: Path, tmp_path: Path
) -> None:
    with pytest.raises(
        OutputError, match="expected an empty or missing folder, found .*; choose another, or --overwrite"
    ):
        train_inverter(TEXTS, EMBEDDER, plain)
    (tmp_path / "letter.txt").write_text("dear", encoding="utf-8")
    with pytest.raises(OutputError, match="expected an inverter to replace, found something else at"):
        train_inverter(TEXTS, EMBEDDER, tmp_path, overwrite=True)


# Data


def test_texts_are_cleaned_counted_once_and_some_held_out() -> None:
    training, held = split_texts([*TEXTS, f"<p>{TEXTS[0]}</p>", "  "], seed=0)
    assert (len(training), len(held)) == (196, 4)
    assert sorted(training + held) == sorted(TEXTS)
    assert split_texts(TEXTS, seed=1)[1] != held


def test_texts_are_cut_before_they_are_embedded() -> None:
    tokenizer = train_tokenizer(TEXTS, 259)  # bytes alone: one token a letter
    corpus = make_corpus(["abcdef", "abé"], tokenizer, EOS, 4, EMBEDDER.embed)
    # The last letter of the second text is two bytes, and one does not fit.
    assert corpus.texts == ["abc", "ab"]
    assert [tokenizer.decode(row[:-1]) for row in corpus.ids] == corpus.texts
    assert [row[-1] for row in corpus.ids] == [EOS, EOS]
    np.testing.assert_array_equal(corpus.vectors, EMBEDDER.embed(["abc", "ab"]))


def _corpus(count: int = 40) -> Corpus:
    return make_corpus(TEXTS[:count], train_tokenizer(TEXTS, 400), EOS, 64, EMBEDDER.embed)


def test_an_epoch_has_each_text_once_and_a_step_its_own_batch() -> None:
    corpus = _corpus()
    batches = Batches(corpus, size=16, seed=0)
    seen = [tuple(row[row > EOS].tolist()) for step in range(3) for row in batches.at(step)["text_ids"]]
    assert sorted(seen) == sorted(tuple(ids[:-1].tolist()) for ids in corpus.ids)
    again = Batches(corpus, size=16, seed=0).at(2)
    assert all(torch.equal(again[name], value) for name, value in batches.at(2).items())
    assert all(value.shape[1] % 16 == 0 for name, value in again.items() if name != "target")


def test_a_corrector_sees_hypotheses_drafts_and_neighbours() -> None:
    corpus = _corpus()
    drafts = Drafts(np.arange(4), corpus.ids[4:8], corpus.vectors[4:8])
    batches = [Batches(corpus, 4, 0, drafts).at(step) for step in range(200)]
    hypothesizer = [batch for batch in batches if "current" not in batch]
    own = [
        batch
        for batch in batches
        if "current" in batch
        and set(map(tuple, batch["target"].tolist())) <= set(map(tuple, corpus.vectors[:4].tolist()))
    ]
    assert 30 < len(hypothesizer) < 70
    assert 50 < len(own) < 100
    for batch in batches:
        if "current" in batch and not any(batch is each for each in own):
            cosines = (
                (batch["target"] @ torch.from_numpy(corpus.vectors).T).sort(dim=1, descending=True).values
            )
            nearness = (batch["target"] * batch["current"]).sum(dim=1)
            assert (nearness >= cosines[:, 8] - 1e-6).all()  # the first is the text itself
            assert (nearness < 1 - 1e-6).all()


def test_noisy_targets_have_length_one_and_stay_near() -> None:
    corpus = _corpus()
    plain = Batches(corpus, 16, 0).at(0)["target"]
    targets = Batches(corpus, 16, 0, noise=0.5).at(0)["target"]
    torch.testing.assert_close(targets.norm(dim=1), torch.ones(16))
    assert 0.8 < float((targets * plain).sum(dim=1).mean()) < 0.97


# The model


def _tiny(base: str = "causal") -> tuple[InverterModel, Any]:
    torch.manual_seed(0)
    preset = Preset(32, 2, 300, 32, 3, (1, 1), 4, "scratch")
    if base == "causal":
        language_model, tokenizer, kind = make_base("scratch", TEXTS, EMBEDDER, preset=preset)
    else:
        config = T5Config(
            vocab_size=300, d_model=32, d_ff=64, d_kv=8, num_layers=2, num_heads=4, pad_token_id=0,
            eos_token_id=EOS, decoder_start_token_id=0,
        )  # fmt: skip
        language_model, tokenizer, kind = (
            T5ForConditionalGeneration(config),
            train_tokenizer(TEXTS, 300),
            "seq2seq",
        )
    return InverterModel(language_model, kind, 256, 3).eval(), tokenizer


@pytest.mark.parametrize("kind", ["causal", "seq2seq"])
def test_padding_changes_neither_loss_nor_texts(kind: str) -> None:
    model, tokenizer = _tiny(kind)
    ids = encode([TEXTS[0], "lost"], tokenizer, EOS, 32)
    vectors = torch.from_numpy(EMBEDDER.embed([TEXTS[0], "lost"]))
    both_ids, both_mask = (torch.from_numpy(array) for array in pad(ids, 0))
    short_ids, short_mask = both_ids[1:, : len(ids[1])], both_mask[1:, : len(ids[1])]
    assert len(ids[1]) < both_ids.shape[1]
    with torch.no_grad():
        exact = model.loss(vectors[1:], short_ids, short_mask, vectors[:1], short_ids, short_mask)
        padded = model.loss(
            vectors[1:], both_ids[1:], both_mask[1:], vectors[:1], both_ids[1:], both_mask[1:]
        )
    torch.testing.assert_close(exact, padded)
    together = model.generate(
        vectors, current=vectors, current_ids=both_ids, current_mask=both_mask, max_new_tokens=9
    )
    single = model.generate(
        vectors[1:], current=vectors[1:], current_ids=short_ids, current_mask=short_mask, max_new_tokens=9
    )
    assert single[0].tolist() == together[1, : single.shape[1]].tolist()
    assert together.shape[1] <= 9


def test_the_corrector_reads_target_minus_current() -> None:
    model, tokenizer = _tiny()
    read: dict[str, torch.Tensor] = {}
    for name, layer in model.project.items():
        layer.register_forward_hook(lambda _, inputs, __, name=name: read.update({name: inputs[0]}))
    target, current = (torch.from_numpy(EMBEDDER.embed([text])) for text in TEXTS[:2])
    ids, mask = (torch.from_numpy(array) for array in pad(encode(TEXTS[1:2], tokenizer, EOS, 32), 0))
    model.generate(target, current=current, current_ids=ids, current_mask=mask, max_new_tokens=1)
    scale = EMBEDDER.dimension**0.5
    torch.testing.assert_close(read["target"], target * scale)
    torch.testing.assert_close(read["current"], current * scale)
    torch.testing.assert_close(read["difference"], (target - current) * scale)


def test_an_experiment_trains_an_inverter_for_each_number_of_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = LabelledTexts(TEXTS, np.zeros(len(TEXTS), dtype=np.int64), {0: "text"}, np.arange(len(TEXTS)))
    monkeypatch.setattr(Workspace, "texts", lambda *_: (source, None))
    trained: list[tuple[Any, ...]] = []

    def train(texts: Any, embedder: Any, output: Path, **options: Any) -> None:
        trained.append((options["steps"], options["correct"], options["preset"], options["seed"]))
        output.mkdir(parents=True)
        (output / "inverter.json").write_text("{}", encoding="utf-8")

    monkeypatch.setattr("dallme.decoders.vec2text.training.train_inverter", train)
    workspace = Workspace(SimpleNamespace(), tmp_path, None, tmp_path / "store")  # type: ignore[arg-type]

    def folder(steps: int = 10, seed: int = 0, preset: str = "tiny", decoder_steps: int = 5) -> Path:
        grid = SimpleNamespace(decoder_options={"steps": decoder_steps}, preset=preset, seed=seed)
        cell = UserDict({"inverter_steps": steps, "embedder": "hashing"})
        cell.grid = grid  # type: ignore[attr-defined]
        return workspace.inverter(cell)  # type: ignore[arg-type]

    variants = [{}, {"steps": 20}, {"seed": 1}, {"preset": "small"}, {"decoder_steps": 0}]
    folders = [folder(**variant) for variant in variants]  # type: ignore[arg-type]
    assert len(set(folders)) == len(variants) == len(trained)
    assert [folder(**variant) for variant in variants] == folders  # type: ignore[arg-type]
    assert len(trained) == len(variants)
    assert [entry[0] for entry in trained] == [10, 20, 10, 10, 10]


@pytest.mark.parametrize("kind", ["causal", "seq2seq"])
def test_the_loss_is_that_of_the_tokens_that_generation_draws(kind: str) -> None:
    model, _ = _tiny(kind)
    target = torch.from_numpy(EMBEDDER.embed(TEXTS[:3]))
    first = model.generate(target, max_new_tokens=1)
    losses = [
        float(model.loss(target[:1], torch.tensor([[token]]), torch.ones(1, 1)).detach())
        for token in range(300)
    ]
    assert int(np.argmin(losses)) == int(first[0, 0])
    assert np.exp(-np.array(losses)).sum() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("kind", ["causal", "seq2seq"])
def test_samples_stand_together_and_differ(kind: str) -> None:
    model, _ = _tiny(kind)
    target = torch.from_numpy(EMBEDDER.embed(TEXTS[:2]))
    torch.manual_seed(0)
    drawn = model.generate(target, max_new_tokens=8, samples=3, temperature=1.0)
    assert drawn.shape == (6, 8)
    assert len({tuple(row) for row in drawn.tolist()}) > 2
    assert model.generate(target, max_new_tokens=8, beams=2).shape[0] == 2


def test_the_embedders_own_transformer_is_the_start(minilm: SentenceTransformerEmbedder) -> None:
    language_model, tokenizer, kind = make_base("embedder", TEXTS, minilm, preset=find_preset("small"))
    theirs = minilm._loaded.tokenizer
    vectors = minilm._loaded[0].auto_model.embeddings.word_embeddings.weight
    piece = tokenizer.encode(" bicycle", add_special_tokens=False)
    assert len(piece) == 1
    wanted = vectors[theirs("bicycle", add_special_tokens=False)["input_ids"]].mean(dim=0)
    torch.testing.assert_close(language_model.get_input_embeddings().weight[piece[0]], wanted)
    assert language_model.get_output_embeddings().weight is language_model.get_input_embeddings().weight
    layer = "encoder.layer.0.attention.self.query.weight"
    torch.testing.assert_close(
        language_model.bert.get_parameter(layer), minilm._loaded[0].auto_model.get_parameter(layer)
    )
    assert kind == "causal"
    model = InverterModel(language_model, kind, 384, 4)
    assert float(model.loss(torch.ones(1, 384), torch.tensor([[5, EOS]]), torch.ones(1, 2)).detach()) > 0


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


# Passages and dropout


def test_passages_are_whole_sentences_of_a_text_and_never_the_text() -> None:
    texts = ["One came. Two stayed. Three left.", "A single sentence.", "Four sang. Five slept."]
    passages = draw_passages(texts, 4, seed=0)
    assert passages == draw_passages(texts, 4, seed=0) != draw_passages(texts, 4, seed=1)
    assert len(passages) == len(set(passages)) > 3
    assert not set(passages) & set(texts)
    for passage in passages:
        assert any(passage in text for text in texts), passage
        assert passage.endswith(".")
        assert passage[0].isupper()
    assert draw_passages(texts, 0, seed=0) == []


def test_passages_are_learnt_beside_the_texts(tmp_path: Path) -> None:
    texts = [f"{first} {second}" for first, second in zip(TEXTS[:100], TEXTS[100:], strict=True)]
    config = train_inverter(
        texts, EMBEDDER, tmp_path / "inverter", steps=2, correct=False, passages=1, **FAST
    )
    assert 98 < config.training["texts"] <= 2 * 98
    assert config.training["passages"] == 1


def test_dropout_reaches_the_model() -> None:
    language_model, _, kind = make_base("scratch", TEXTS, EMBEDDER, preset=find_preset("tiny"))
    language_model.extra = torch.nn.Dropout(0.5)
    model = InverterModel(language_model, kind, EMBEDDER.dimension, 4)
    prepare_model(model, TrainingOptions(dropout=0.25), torch.device("cpu"))
    assert model.language_model.extra.p == 0.25


@pytest.mark.parametrize(
    ("option", "value", "message"), [("dropout", 1.0, "dropout in"), ("passages", -1, "passages")]
)
def test_wrong_dropout_and_passages_are_refused(option: str, value: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        TrainingOptions(**{option: value})
