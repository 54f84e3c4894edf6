"""Static models: the vectors of model2vec itself, and names with an argument."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model2vec import StaticModel
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing

from dallme import registry
from dallme.embedders import resolve
from dallme.embedders.base import TextError, normalize
from dallme.embedders.hashing import HashingEmbedder
from dallme.embedders.sentence_transformer import SentenceTransformerEmbedder
from dallme.embedders.static import StaticEmbedder
from dallme.errors import DallmeError, InputError, MissingDependencyError, ModelNotFoundError

TEXTS = ["a fine film", "Dull, dull: the story!", "an unheard-of film about a cook", "x"]


@pytest.fixture
def embedder(static_folder: Path) -> StaticEmbedder:
    return StaticEmbedder(str(static_folder))


def test_vectors_are_those_of_the_library(embedder: StaticEmbedder, static_folder: Path) -> None:
    library = StaticModel.from_pretrained(static_folder)
    assert embedder.embed(TEXTS).tobytes() == normalize(library.encode(TEXTS)).tobytes()
    prompted = library.encode([f"opinion: {text}" for text in TEXTS])
    assert embedder.embed(TEXTS, prompt="opinion: ").tobytes() == normalize(prompted).tobytes()


def test_the_mean_of_known_tokens(embedder: StaticEmbedder, static_folder: Path) -> None:
    library = StaticModel.from_pretrained(static_folder)
    film, dull = (library.embedding[library.tokenizer.token_to_id(word)] for word in ("film", "dull"))
    np.testing.assert_allclose(
        embedder.embed(["film unheard dull FILM"]), normalize((2 * film + dull)[None]), atol=1e-6
    )


def test_a_text_is_read_up_to_the_limit(embedder: StaticEmbedder) -> None:
    limited = replace(embedder, max_tokens=3)
    np.testing.assert_allclose(limited.embed(["x a x film film"]), embedder.embed(["x a x"]), atol=1e-6)
    assert (limited.token_limit, limited.fingerprint().max_tokens) == (3, 3)
    assert limited.count_tokens(["fine film the dull dull", "qqq"]).tolist() == [
        5,
        1,
    ]  # all of them, unknown ones as well


def test_special_tokens_are_not_counted(static_folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(static_folder, tmp_path / "special")
    tokenizer = Tokenizer.from_file(str(copy / "tokenizer.json"))
    tokenizer.post_processor = TemplateProcessing(
        single="x $A x", special_tokens=[("x", tokenizer.token_to_id("x"))]
    )
    tokenizer.save(str(copy / "tokenizer.json"))
    embedder = StaticEmbedder(str(copy))
    assert embedder.count_tokens(["fine film", "film " * 600]).tolist() == [2, 600]
    np.testing.assert_array_equal(embedder.embed(TEXTS), StaticEmbedder(str(static_folder)).embed(TEXTS))


def test_the_fingerprint_says_what_the_model_is(
    embedder: StaticEmbedder, static_folder: Path, tmp_path: Path
) -> None:
    fingerprint = embedder.fingerprint()
    assert fingerprint.model == "model2vec:tiny-static"
    assert (fingerprint.dimension, fingerprint.pooling, fingerprint.max_tokens) == (12, "mean", 512)
    assert fingerprint.precision == "float32"
    copy = Path(shutil.copytree(static_folder, tmp_path / "tiny-static"))
    assert StaticEmbedder(str(copy)).fingerprint() == fingerprint
    tokenizer = copy / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text().replace('"Lowercase"', '"NFC"'))
    assert StaticEmbedder(str(copy)).fingerprint().weights != fingerprint.weights
    StaticModel.from_pretrained(static_folder, quantize_to="float16").save_pretrained(copy)
    half = StaticEmbedder(str(copy))
    assert half.fingerprint().precision == "float16"
    assert half.embed(TEXTS).dtype == np.float32
    np.testing.assert_allclose(half.embed(TEXTS), embedder.embed(TEXTS), atol=1e-2)


def test_a_text_of_unknown_tokens_is_an_error_or_zeros(embedder: StaticEmbedder) -> None:
    with pytest.raises(TextError) as caught:
        embedder.embed(["film", "qqq zzz"])
    assert str(caught.value) == (
        "texts: row 1 ('qqq zzz') has no token that model2vec:tiny-static knows; "
        "drop it, or ask for zeros with --set embedder.unknown=zero"
    )
    zero = replace(embedder, unknown="zero")
    vectors = zero.embed(["film", "qqq zzz"])
    assert vectors[1].tolist() == [0] * 12
    np.testing.assert_array_equal(vectors[0], embedder.embed(["film"])[0])
    assert zero.fingerprint().digest != embedder.fingerprint().digest


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_tokens": 0}, "expected max_tokens to be a whole number of at least 1, found 0"),
        ({"unknown": "skip"}, "unknown value of unknown 'skip'; known: error, zero"),
    ],
)
def test_wrong_options_fail_before_anything_is_loaded(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        StaticEmbedder(**options)
    assert str(caught.value) == message


def test_a_folder_of_another_kind_is_an_error_of_one_line(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    embedder = resolve(f"model2vec:{tmp_path}")  # it is there; what is in it is seen when it is loaded
    with pytest.raises(DallmeError) as caught:
        embedder.fingerprint()
    assert str(caught.value).startswith(
        f"expected a model2vec model in {str(tmp_path)!r}, could not load it: "
    )
    assert "\n" not in str(caught.value)


def test_a_model_that_is_nowhere_is_noticed_early() -> None:
    with pytest.raises(
        ModelNotFoundError,
        match="found no folder './no/such/model'; check the path .known embedders: .*model2vec",
    ):
        resolve("model2vec:./no/such/model")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "find_spec", lambda package: None if package == "model2vec" else package)
    with pytest.raises(MissingDependencyError) as caught:
        resolve("model2vec:anything")
    assert str(caught.value) == (
        "embedder 'model2vec' needs the package 'model2vec', which is not installed; run: pip "
        "install 'dallme[model2vec]'"
    )


# Names with an argument


@pytest.mark.parametrize(
    "name", ["st:all-MiniLM-L6-v2", "sentence-transformer:sentence-transformers/all-MiniLM-L6-v2"]
)
def test_an_argument_follows_the_name_or_an_alias(name: str) -> None:
    assert resolve(name, max_tokens=64) == SentenceTransformerEmbedder(name.partition(":")[2], max_tokens=64)


def test_an_argument_may_hold_colons(static_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(static_folder, tmp_path / "a:b")
    assert resolve(f"model2vec:{folder}", unknown="zero") == StaticEmbedder(str(folder), unknown="zero")


def test_a_part_without_an_argument_refuses_one() -> None:
    assert resolve("hashing") == HashingEmbedder()
    with pytest.raises(InputError) as caught:
        resolve("hashing:8")
    assert str(caught.value) == "expected the embedder 'hashing' without an argument, found 'hashing:8'"


def test_an_empty_argument_is_an_error() -> None:
    with pytest.raises(InputError, match="expected the name of a model, found a blank one"):
        resolve("model2vec:")


def test_an_argument_is_not_given_twice() -> None:
    with pytest.raises(TypeError, match="multiple values for keyword argument 'model'"):
        resolve("st:all-MiniLM-L6-v2", model="other")
