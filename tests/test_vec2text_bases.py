"""Bases of an inverter besides its own two, and vectors of texts with a task prompt."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dallme.decoders.vec2text.backbones import PRESETS, make_base
from dallme.decoders.vec2text.checkpoint import load
from dallme.decoders.vec2text.inverter import SHIPPED, Inverter, check_fit
from dallme.decoders.vec2text.training import train_inverter
from dallme.embedders.hashing import HashingEmbedder
from dallme.errors import InputError
from tiny_models import TEXTS, save_tiny_model

pytestmark = pytest.mark.usefixtures("one_torch_thread")

EMBEDDER = HashingEmbedder(64)
FAST: dict[str, Any] = {
    "preset": "tiny",
    "device": "cpu",
    "batch_size": 8,
    "drafts": 8,
    "max_tokens": 16,
    "steps": 4,
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An inverter of hashing vectors without a prompt."""
    folder = tmp_path_factory.mktemp("plain") / "inverter"
    train_inverter(TEXTS, EMBEDDER, folder, **FAST)
    return folder


@pytest.fixture(scope="module")
def prompted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of texts with a task prompt."""
    folder = tmp_path_factory.mktemp("prompted") / "inverter"
    train_inverter(TEXTS, EMBEDDER, folder, prompt="sentiment", **FAST)
    return folder


def _decodes(folder: Path, embedder: HashingEmbedder = EMBEDDER) -> None:
    """Checks that a trained inverter can be loaded, writes and corrects."""
    inverter = Inverter.load(folder, "cpu", embedder=embedder)
    found = inverter.decode(embedder.embed(TEXTS[:3]), steps=1, beam=2)
    assert len(found) == 3
    for row in found:
        assert [each.cosine for each in row.candidates] == sorted(
            (each.cosine for each in row.candidates), reverse=True
        )


def test_an_encoder_decoder_of_a_folder_is_trained_and_decodes(tmp_path: Path) -> None:
    base = save_tiny_model("text-to-text", tmp_path / "t5")
    config = train_inverter(TEXTS, EMBEDDER, tmp_path / "inverter", base=base, **FAST)
    assert (config.kind, config.corrects) == ("seq2seq", True)
    _decodes(tmp_path / "inverter")


@pytest.mark.slow
def test_smollm2_is_trained_by_adapters_and_decodes(
    smollm2: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dallme.decoders.vec2text.stages.MEASUREMENTS", 1)  # each writes texts
    options = FAST | {
        "steps": 2,
        "batch_size": 2,
        "max_tokens": 8,
        "drafts": 2,
        "lora_rank": 2,
        "learning_rate": 1e-3,
    }
    config = train_inverter(TEXTS[:20], EMBEDDER, tmp_path / "inverter", base=smollm2, **options)
    assert (config.kind, config.base) == ("causal", smollm2)
    _decodes(tmp_path / "inverter")


def test_an_inverter_is_a_start_for_another_embedders(plain: Path, tmp_path: Path) -> None:
    model, tokenizer, kind = make_base(str(plain), TEXTS, EMBEDDER, preset=PRESETS["tiny"])
    theirs, own, _ = load(plain, "cpu")
    assert kind == "causal"
    assert tokenizer.get_vocab() == own.get_vocab()
    for name, value in theirs.language_model.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value)
    other = HashingEmbedder(32)
    config = train_inverter(TEXTS, other, tmp_path / "other", base=str(plain), **FAST)
    assert config.fingerprint.dimension == 32
    _decodes(tmp_path / "other", other)


@pytest.mark.skipif(
    not (SHIPPED / "inverter.json").is_file(), reason="no inverter comes with this installation"
)
def test_the_shipped_inverter_is_a_base_by_name() -> None:
    model, tokenizer, kind = make_base("vec2text", TEXTS, EMBEDDER, preset=PRESETS["tiny"])
    assert kind == "causal"
    assert model.get_input_embeddings().weight.shape[0] == len(tokenizer)


def test_an_inverter_of_prompted_texts_embeds_with_the_prompt(prompted: Path) -> None:
    inverter = Inverter.load(prompted, "cpu", embedder=EMBEDDER)
    assert inverter.config.prompt == "sentiment"
    np.testing.assert_array_equal(inverter.embed(TEXTS[:4]), EMBEDDER.embed(TEXTS[:4], prompt="sentiment"))
    assert not np.allclose(inverter.embed(TEXTS[:4]), EMBEDDER.embed(TEXTS[:4]))


def test_it_learns_from_the_vectors_of_prompted_texts(plain: Path, prompted: Path, tmp_path: Path) -> None:
    seen: list[tuple[str, ...]] = []

    def embed(texts: Any) -> np.ndarray:
        seen.append(tuple(texts))
        return EMBEDDER.embed(texts, prompt="sentiment")

    train_inverter(TEXTS, EMBEDDER, tmp_path / "stored", embed=embed, prompt="sentiment", **FAST)
    assert seen
    weights = [
        (folder / "model.safetensors").read_bytes() for folder in (plain, prompted, tmp_path / "stored")
    ]
    assert weights[1] == weights[2] != weights[0]


def test_the_fit_is_of_the_prompt(plain: Path, prompted: Path) -> None:
    with_prompt, without = EMBEDDER.fingerprint("sentiment"), EMBEDDER.fingerprint()
    configs = {folder: Inverter.load(folder, "cpu").config for folder in (plain, prompted)}
    check_fit(configs[prompted], prompted, with_prompt)
    check_fit(configs[plain], plain, without)
    for folder, wrong in (
        (prompted, without),
        (plain, with_prompt),
        (prompted, EMBEDDER.fingerprint("topic")),
    ):
        with pytest.raises(InputError, match="prompt .* against .*decoder.align=true"):
            check_fit(configs[folder], folder, wrong)
    broken = replace(
        Inverter.load(prompted, "cpu", embedder=EMBEDDER), config=replace(configs[prompted], prompt=None)
    )
    with pytest.raises(InputError, match="expected the embedder that the inverter was trained for"):
        broken.embed(["film"])
