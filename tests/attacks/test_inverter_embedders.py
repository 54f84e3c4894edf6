"""The embedder that an inverter names is opened, fetched or paid only if the user names it too."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from dallme.data import LabelledTexts, LabelledVectors, Prototypes
from dallme.decoders.base import Context
from dallme.decoders.vec2text import Vec2TextDecoder
from dallme.decoders.vec2text.inverter import Inverter
from dallme.embedders import resolve
from dallme.embedders.base import count_words
from dallme.embedders.cache import EmbeddingStore, embed_with_store
from dallme.embedders.hashing import HashingEmbedder
from dallme.errors import InputError
from openai_server import OpenAIServer
from test_inverters import TEXTS, edit, make_inverter
from tiny_models import save_tiny_model

EMBEDDER = HashingEmbedder(8)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An inverter of hashing vectors beside vectors that it decodes, and a store."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DALLME_STORE", str(tmp_path / "store"))
    np.save("vectors.npy", EMBEDDER.embed(TEXTS))
    Path("texts.csv").write_text("\n".join(["text", *TEXTS]) + "\n")
    return make_inverter(tmp_path / "inverter")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenAIServer]:
    """A paid service, with the user's key in the environment."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-a-key-of-the-user")
    with OpenAIServer(EMBEDDER) as running:
        monkeypatch.setenv("OPENAI_BASE_URL", running.url)
        yield running


@pytest.fixture(autouse=True)
def hub(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Models of the Hugging Face cache, and the names of those that are fetched."""
    found: dict[str, Any] = {"fetched": [], "cached": {}}

    def snapshot_download(name: str, **options: Any) -> str:
        if name in found["cached"]:
            return str(found["cached"][name])
        if not options.get("local_files_only"):
            found["fetched"].append(name)
        raise LocalEntryNotFoundError("offline")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return found


def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, str]:
    """Status and errors of a command."""
    from dallme.cli.main import _status

    monkeypatch.setattr("sys.argv", ["dallme", *arguments])
    status = _status()
    return status, capsys.readouterr().err


VERBS = {
    "decode": ("decode", "vectors.npy", "--decoder", "inverter", "--steps", "1", "--beam", "1"),
    "invert-check": ("invert-check", "inverter", "--test", "texts.csv", "--steps", "0", "--beams", "1"),
}
NAMES = {
    "openai:hashing": "a service that the texts are sent to",
    "./model": "a path is never opened",
    "/etc": "a path is never opened",
    "someone/model": "not on this machine, and nothing is fetched for it",
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_refuses_what_the_inverter_names(
    verb: str,
    name: str,
    folder: Path,
    server: OpenAIServer,
    hub: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    edit(folder / "inverter.json", embedder=name)
    status, err = run(monkeypatch, capsys, *VERBS[verb])
    assert status == 2
    assert NAMES[name] in err
    assert f"repeat it with --embedder {name}" in err
    assert len(err.strip().splitlines()) == 1
    assert server.requests == 0
    assert hub["fetched"] == []


@pytest.mark.parametrize("verb", VERBS)
def test_the_user_repeats_the_embedder(
    verb: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record = json.loads((folder / "inverter.json").read_text())
    edit(folder / "inverter.json", embedder="./model", fingerprint=record["fingerprint"])
    monkeypatch.setattr(
        "dallme.decoders.vec2text.inverter.resolve",
        lambda name: EMBEDDER if name == "./model" else pytest.fail(f"resolved {name}"),
    )
    assert run(monkeypatch, capsys, *VERBS[verb], "--embedder", "./model") == (0, "")


def test_a_cached_model_is_used_once_the_store_has_its_vectors(
    folder: Path, tmp_path: Path, hub: dict[str, Any]
) -> None:
    hub["cached"]["someone/model"] = save_tiny_model("transformer", tmp_path / "cached")
    embedder, store = resolve("someone/model"), EmbeddingStore(tmp_path / "store")
    fingerprint = embedder.fingerprint()
    inverter = Inverter.load(folder, "cpu", store=tmp_path / "store")
    inverter = replace(
        inverter, config=replace(inverter.config, embedder="someone/model", fingerprint=fingerprint)
    )
    with pytest.raises(InputError, match="your store has no vectors of it"):
        inverter.embed(["a film"])
    embed_with_store(embedder, ["a fine film"], store=store)
    assert replace(inverter).embed(["a film"]).shape == (1, fingerprint.dimension)


def test_alignment_refuses_a_service_until_it_is_repeated(
    folder: Path, server: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit(folder / "inverter.json", embedder="openai:hashing")
    other = HashingEmbedder(16)
    texts = [f"{text} number {row}" for row in range(5) for text in TEXTS]
    labels = np.zeros(len(texts), dtype=np.int64)
    source = LabelledTexts(texts, labels, {0: "film"}, np.arange(len(texts)))
    vectors = LabelledVectors(other.embed(texts), labels, other.fingerprint())
    context = Context(source, vectors, count_words, 8, other)
    prototypes = Prototypes(vectors.vectors[:1], labels[:1], np.ones(1), (np.arange(3),), np.zeros(1))
    options: dict[str, Any] = {
        "align": True,
        "self_test": False,
        "start": "hypothesis",
        "steps": 1,
        "beam": 1,
    }
    with pytest.raises(InputError, match="a service that the texts are sent to"):
        Vec2TextDecoder(str(folder), **options).decode(prototypes, context, seed=0)
    assert server.requests == 0
    monkeypatch.setattr("dallme.decoders.vec2text.inverter.resolve", lambda name: EMBEDDER)
    decoder = Vec2TextDecoder(str(folder), embedder="openai:hashing", **options)
    assert len(decoder.decode(prototypes, context, seed=0).texts) == 1
