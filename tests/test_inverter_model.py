"""Training data of an inverter, its loss and its generation."""

from __future__ import annotations

from collections import UserDict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import T5Config, T5ForConditionalGeneration

from dallme.data import LabelledTexts
from dallme.decoders.vec2text.backbones import EOS, Preset, find_preset, make_base
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
from dallme.decoders.vec2text.model import InverterModel, train_tokenizer
from dallme.decoders.vec2text.training import TrainingOptions, prepare_model, train_inverter
from dallme.embedders.sentence_transformer import SentenceTransformerEmbedder
from dallme.errors import InputError
from dallme.experiments.workspace import Workspace
from training_cases import EMBEDDER, FAST, TEXTS

pytestmark = pytest.mark.usefixtures("one_torch_thread")


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


def small_corpus(count: int = 40) -> Corpus:
    return make_corpus(TEXTS[:count], train_tokenizer(TEXTS, 400), EOS, 64, EMBEDDER.embed)


def test_an_epoch_has_each_text_once_and_a_step_its_own_batch() -> None:
    corpus = small_corpus()
    batches = Batches(corpus, size=16, seed=0)
    seen = [tuple(row[row > EOS].tolist()) for step in range(3) for row in batches.at(step)["text_ids"]]
    assert sorted(seen) == sorted(tuple(ids[:-1].tolist()) for ids in corpus.ids)
    again = Batches(corpus, size=16, seed=0).at(2)
    assert all(torch.equal(again[name], value) for name, value in batches.at(2).items())
    assert all(value.shape[1] % 16 == 0 for name, value in again.items() if name != "target")


def test_a_corrector_sees_hypotheses_drafts_and_neighbours() -> None:
    corpus = small_corpus()
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
    corpus = small_corpus()
    plain = Batches(corpus, 16, 0).at(0)["target"]
    targets = Batches(corpus, 16, 0, noise=0.5).at(0)["target"]
    torch.testing.assert_close(targets.norm(dim=1), torch.ones(16))
    assert 0.8 < float((targets * plain).sum(dim=1).mean()) < 0.97


def tiny_model(base: str = "causal") -> tuple[InverterModel, Any]:
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


# The model


@pytest.mark.parametrize("kind", ["causal", "seq2seq"])
def test_padding_changes_neither_loss_nor_texts(kind: str) -> None:
    model, tokenizer = tiny_model(kind)
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
    model, tokenizer = tiny_model()
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


def test_an_experiment_trains_one_inverter_per_step_count(
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
    workspace = Workspace(SimpleNamespace(), tmp_path / "one", None, tmp_path / "store")  # type: ignore[arg-type]

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
    # Another experiment of the profile takes the same inverters.
    workspace = Workspace(SimpleNamespace(), tmp_path / "other", None, tmp_path / "store")  # type: ignore[arg-type]
    assert [folder(**variant) for variant in variants] == folders  # type: ignore[arg-type]
    assert len(trained) == len(variants)


@pytest.mark.parametrize("kind", ["causal", "seq2seq"])
def test_the_loss_is_that_of_the_tokens_that_generation_draws(kind: str) -> None:
    model, _ = tiny_model(kind)
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
    model, _ = tiny_model(kind)
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


# Passages and dropout


def test_passages_are_whole_sentences_shorter_than_the_text() -> None:
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
