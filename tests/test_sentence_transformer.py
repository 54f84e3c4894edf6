"""The embedder `sentence-transformer` against the library, and its fingerprint."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, StaticEmbedding
from tokenizers import Tokenizer, models, pre_tokenizers

from dallme.embedders import resolve
from dallme.embedders.base import Embedder, normalize
from dallme.embedders.hashing import HashingEmbedder
from dallme.embedders.sentence_transformer import SentenceTransformerEmbedder
from dallme.errors import DallmeError, InputError, UnknownNameError
from dallme.models.locate import SHIPPED
from embedder_cases import LONG, MINILM, TEXTS


def _cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return (normalize(one) * normalize(other)).sum(axis=1)


def test_vectors_are_those_of_the_library(minilm: SentenceTransformerEmbedder, minilm_folder: Path) -> None:
    plain = SentenceTransformer(str(minilm_folder), device="cpu")
    plain.max_seq_length = minilm.max_tokens
    texts = [*TEXTS, LONG]
    assert _cosines(minilm.embed(texts), plain.encode(texts)).min() > 0.99999
    assert (
        _cosines(minilm.embed(TEXTS, prompt="topic: "), plain.encode(TEXTS, prompt="topic: ")).min() > 0.99999
    )


def test_bfloat16_stays_within_cosine_0_999(minilm: SentenceTransformerEmbedder) -> None:
    fast = replace(minilm, precision="bfloat16")
    vectors = fast.embed(TEXTS)
    cosines = _cosines(vectors, minilm.embed(TEXTS))
    assert cosines.min() > 0.999
    assert cosines.min() < 1 - 1e-6  # it did run in another number format
    assert fast.fingerprint() == replace(minilm.fingerprint(), precision="bfloat16")
    order = np.random.default_rng(0).permutation(len(TEXTS))
    np.testing.assert_allclose(fast.embed([TEXTS[row] for row in order]), vectors[order], atol=1e-3)


def test_the_fingerprint_says_what_the_model_is(minilm: SentenceTransformerEmbedder) -> None:
    fingerprint = minilm.fingerprint()
    assert fingerprint.model == MINILM
    assert fingerprint.weights == "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    assert (fingerprint.dimension, fingerprint.pooling, fingerprint.max_tokens) == (384, "mean", 128)
    assert fingerprint.precision == "float32"


def test_special_tokens_are_counted(minilm: SentenceTransformerEmbedder) -> None:
    assert minilm.count_tokens(["hello world", "", "unbelievability", "a " * 1000]).tolist() == [
        4,
        2,
        7,
        1002,
    ]


@pytest.mark.parametrize("limit", [10, 16])
def test_a_text_is_read_up_to_the_limit(minilm: SentenceTransformerEmbedder, limit: int) -> None:
    limited = replace(minilm, max_tokens=limit)
    words = "word " * (limit - 2)
    same, longer, shorter = limited.embed([words, words + "of another kind", words[:-5]])
    np.testing.assert_allclose(longer, same, atol=1e-5)
    assert np.abs(shorter - same).max() > 1e-4
    assert limited.fingerprint().max_tokens == limit


def test_a_model_that_can_read_less_reads_less(minilm: SentenceTransformerEmbedder) -> None:
    assert replace(minilm, max_tokens=1000).fingerprint().max_tokens == 256


@pytest.mark.parametrize("name", ["all-MiniLM-L6-v2", MINILM, "sentence-transformer", "st"])
def test_the_model_is_found_by_its_names(name: str, minilm: SentenceTransformerEmbedder) -> None:
    found = resolve(name, precision="float32")
    assert isinstance(found, SentenceTransformerEmbedder)
    assert found.name == MINILM
    assert found.fingerprint() == minilm.fingerprint()


def test_the_model_is_found_in_a_folder(
    minilm: SentenceTransformerEmbedder, minilm_folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(minilm_folder, tmp_path / "my-model")
    found = resolve(str(tmp_path / "my-model"), precision="float32")
    assert found.embed(TEXTS[:2]).tobytes() == minilm.embed(TEXTS[:2]).tobytes()
    assert found.fingerprint() == replace(minilm.fingerprint(), model="my-model")


def test_a_model_without_transformer_is_embedded_as_well(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "fine": 1, "film": 2, "dull": 3}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    torch.manual_seed(0)
    plain = SentenceTransformer(
        modules=[StaticEmbedding(tokenizer, embedding_dim=8), Dense(8, 4)], device="cpu"
    )
    plain.save(str(tmp_path / "static"))
    texts = ["fine film", "dull film", "dull"]
    for precision in ("float32", "bfloat16"):
        found = resolve(str(tmp_path / "static"), precision=precision)
        assert _cosines(found.embed(texts), plain.encode(texts)).min() > 0.999
        assert found.fingerprint().dimension == 4
        assert found.count_tokens(["fine film."]).tolist() == [3]  # words and signs


def test_ready_embedders_pass_through(minilm: SentenceTransformerEmbedder) -> None:
    assert resolve(minilm) is minilm
    assert resolve("hashing", dimension=8) == HashingEmbedder(8)


def test_the_name_of_a_part_comes_before_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hashing").mkdir()
    monkeypatch.chdir(tmp_path)
    assert resolve("hashing") == HashingEmbedder()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_tokens": 0}, "expected max_tokens to be a whole number of at least 1, found 0"),
        ({"batch_tokens": 2.5}, "expected batch_tokens to be a whole number of at least 1, found 2.5"),
        ({"precision": "int8"}, "unknown precision 'int8'; known: auto, bfloat16, float32"),
        ({"device": "tpu"}, "unknown device 'tpu'; known: auto, cpu, cuda, mps"),
    ],
)
def test_wrong_options_fail_before_anything_is_loaded(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        SentenceTransformerEmbedder(**options)
    assert str(caught.value) == message
    assert isinstance(SentenceTransformerEmbedder(device="cuda:1"), Embedder)
    assert issubclass(UnknownNameError, InputError)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_an_error() -> None:
    with pytest.raises(DallmeError, match="could not load it: .*CUDA"):
        SentenceTransformerEmbedder(device="cuda").embed(["a"])


def test_every_file_that_changes_a_vector_is_in_the_fingerprint(tmp_path: Path) -> None:
    vocabulary = {word: row for row, word in enumerate(("[UNK]", "a", "fine", "dull", "film"))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    folder = tmp_path / "tiny"
    modules = [StaticEmbedding(tokenizer, embedding_dim=8), Dense(8, 4)]
    SentenceTransformer(modules=modules, device="cpu").save(str(folder))
    before = SentenceTransformerEmbedder(str(folder), precision="float32").fingerprint().weights
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix != ".md"]
    assert {"tokenizer.json", "modules.json", "model.safetensors"} <= {path.name for path in files}
    for path in files:
        content = path.read_bytes()
        changed = (
            content[:-1] + bytes([content[-1] ^ 1]) if path.suffix == ".safetensors" else content + b"\n"
        )
        path.write_bytes(changed)
        after = SentenceTransformerEmbedder(str(folder), precision="float32").fingerprint().weights
        path.write_bytes(content)
        assert after != before, path.name


def test_minilm_keeps_the_fingerprint_of_its_weights(minilm: SentenceTransformerEmbedder) -> None:
    shipped = SHIPPED["sentence-transformers/all-MiniLM-L6-v2"]
    assert minilm.fingerprint().weights == shipped.weights_sha256
