"""Attacks on stored vectors: another tokenizer or another release of a library never gives stale ones."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, StaticEmbedding
from tokenizers import Tokenizer, models, pre_tokenizers

from dallme.auditing.inputs import restore_embedder
from dallme.data import Fingerprint
from dallme.decoders.vec2text.model import InverterConfig
from dallme.embedders.base import release_of
from dallme.embedders.cache import EmbeddingStore, embed_with_store
from dallme.embedders.cache.probe import FILE, TEXTS, Probe
from dallme.embedders.hashing import HashingEmbedder
from dallme.embedders.sentence_transformer import SentenceTransformerEmbedder
from dallme.embedders.static import StaticEmbedder
from dallme.errors import InputError
from dallme.files.atomic import sha256_of
from dallme.progress import SilentProgress

WORDS = ("[UNK]", "a", "fine", "dull", "film", "word", "in", "and", ",", "?", "!")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small sentence-transformers model."""
    tokenizer = Tokenizer(models.WordLevel({word: row for row, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    path = tmp_path / "models" / "tiny"
    modules = [StaticEmbedding(tokenizer, embedding_dim=8), Dense(8, 4)]
    SentenceTransformer(modules=modules, device="cpu").save(str(path))
    return path


def load(folder: Path) -> SentenceTransformerEmbedder:
    return SentenceTransformerEmbedder(str(folder), precision="float32")


class Notes(SilentProgress):
    """Progress that keeps the notes."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, message: str) -> None:
        self.lines.append(message)


@dataclass(frozen=True)
class Released(HashingEmbedder):
    """Hashing with libraries; `shift` changes the vectors of texts with capitals, as a tokenizer may."""

    release: str = "1.0"
    shift: bool = False

    @property
    def libraries(self) -> Mapping[str, str]:
        return {"tokenizers": self.release}

    def _embed(self, texts: list[str], prompt: str | None) -> np.ndarray:
        vectors = super()._embed(texts, prompt)
        if self.shift:
            vectors[[text != text.lower() for text in texts]] += 1
        return vectors


TEXT = ["A fine film", "a dull film"]


def embed(embedder: Released, store: Path, texts: list[str] = TEXT) -> tuple[np.ndarray, list[str]]:
    notes = Notes()
    vectors = embed_with_store(embedder, texts, store=EmbeddingStore(store), progress=notes)
    assert np.array_equal(vectors, embedder.embed(texts))
    return vectors, notes.lines


def tables(store: Path) -> list[str]:
    return sorted(path.name for path in store.iterdir() if path.is_dir())


def shards(store: Path) -> int:
    return len(list(store.rglob("*.arrow")))


def test_a_release_with_the_same_vectors_shares_them(tmp_path: Path) -> None:
    embed(Released(), tmp_path)
    assert embed(Released(release="1.1"), tmp_path)[1] == []
    assert (len(tables(tmp_path)), shards(tmp_path)) == (1, 1)
    table = EmbeddingStore(tmp_path).table(Released().fingerprint())
    probe = Probe.read(table)
    assert probe is not None
    assert probe.libraries == ({"tokenizers": "1.0"}, {"tokenizers": "1.1"})
    assert np.array_equal(probe.vectors, Released().embed(TEXTS))


def test_a_release_with_other_vectors_gets_its_own(tmp_path: Path) -> None:
    embed(Released(), tmp_path)
    notes = embed(Released(release="2.0", shift=True), tmp_path)[1]
    assert notes == ["hashing: vectors differ from those stored before; new ones by tokenizers 2.0"]
    assert (len(tables(tmp_path)), shards(tmp_path)) == (2, 2)
    for embedder in (Released(release="2.0", shift=True), Released()):  # each finds its own again
        assert embed(embedder, tmp_path)[1] == []
    assert shards(tmp_path) == 2


def test_other_texts_do_not_hide_another_release(tmp_path: Path) -> None:
    embed(Released(), tmp_path, ["one"])
    embed(Released(release="2.0", shift=True), tmp_path, ["Two"])
    assert embed(Released(), tmp_path, ["Two"])
    assert len(tables(tmp_path)) == 2


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"libraries": [1], "vectors": ""}', b"[" * 10_000])
def test_a_damaged_record_is_written_anew(tmp_path: Path, content: bytes) -> None:
    embed(Released(), tmp_path)
    record = tmp_path / tables(tmp_path)[0] / FILE
    record.write_bytes(content)
    embed(Released(), tmp_path, [*TEXT, "another"])
    assert json.loads(record.read_bytes())["libraries"] == [{"tokenizers": "1.0"}]


def test_embedders_without_libraries_store_no_record(tmp_path: Path) -> None:
    embed_with_store(HashingEmbedder(), TEXT, store=EmbeddingStore(tmp_path))
    assert not list(tmp_path.rglob(FILE))


def test_releases_are_major_and_minor(folder: Path, static_folder: Path) -> None:
    assert set(load(folder).libraries) == {"sentence-transformers", "transformers", "tokenizers"}
    assert set(StaticEmbedder(str(static_folder)).libraries) == {"model2vec", "tokenizers"}
    assert all(release.count(".") == 1 for release in load(folder).libraries.values())
    assert release_of("no-such-package") == {}


def test_a_text_without_known_tokens_does_not_matter(static_folder: Path, tmp_path: Path) -> None:
    embed_with_store(StaticEmbedder(str(static_folder)), ["a fine film"], store=EmbeddingStore(tmp_path))
    probe = Probe.read(EmbeddingStore(tmp_path).table(StaticEmbedder(str(static_folder)).fingerprint()))
    assert probe is not None
    assert probe.agrees(probe)


# Fingerprints of version 0.1, which knew the weights alone


def of_0_1(embedder: SentenceTransformerEmbedder) -> Fingerprint:
    weights = sha256_of(sorted(Path(embedder.model).rglob("*.safetensors")))
    return replace(embedder.fingerprint(), weights=weights)


def manifest(folder: Path, fingerprint: Fingerprint) -> dict[str, Any]:
    return {"configuration": {"embedder": str(folder)}, "embedder": asdict(fingerprint)}


def test_a_manifest_of_0_1_is_read(folder: Path) -> None:
    embedder = load(folder)
    earlier = of_0_1(embedder)
    assert earlier.weights != embedder.fingerprint().weights
    document = manifest(folder, replace(earlier, max_tokens=64))
    restored = restore_embedder(document, str(folder))
    assert isinstance(restored, SentenceTransformerEmbedder)
    assert restored.max_tokens == 64  # the options of the set were taken: it is the same model


def test_a_manifest_of_0_1_needs_the_same_weights(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dallme.auditing.inputs.resolve_named", lambda name, *_: load(folder))
    earlier = of_0_1(load(folder))
    assert restore_embedder(manifest(folder, earlier)) is not None
    for changed in ({"weights": "0" * 64}, {"pooling": "cls"}, {"prompt": "query: "}):
        with pytest.raises(InputError, match="expected the vectors of 'tiny'"):
            restore_embedder(manifest(folder, replace(earlier, **changed)))  # type: ignore[arg-type]


def test_vectors_of_0_1_are_not_read(folder: Path, tmp_path: Path) -> None:
    store, embedder = EmbeddingStore(tmp_path / "store"), load(folder)
    assert store.table(of_0_1(embedder)).folder != store.table(embedder.fingerprint()).folder
    tokenizer = next(folder.rglob("tokenizer.json"))
    settings = json.loads(tokenizer.read_text())
    before = embed_with_store(embedder, ["a fine film"], store=store)
    settings["model"]["vocab"] |= {"fine": 3, "dull": 2}  # an attacker swaps two words
    tokenizer.write_text(json.dumps(settings))
    after = embed_with_store(load(folder), ["a fine film"], store=store)
    assert not np.allclose(before, after)
    assert of_0_1(load(folder)) == of_0_1(embedder)  # the reason why the earlier form does not do


def test_an_inverter_of_0_1_fits(folder: Path) -> None:
    embedder = load(folder)
    config = InverterConfig.__new__(InverterConfig)
    object.__setattr__(config, "fingerprint", of_0_1(embedder))
    assert config.incompatibilities(embedder.fingerprint())
    assert config.incompatibilities(embedder.fingerprint(), embedder.earlier_weights) == []
    assert config.incompatibilities(embedder.fingerprint(), "0" * 64)
