"""The contract of embedders, on each of them; `hashing` and objects of the user's."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from dallme import registry
from dallme.embedders import resolve
from dallme.embedders.base import Embedder, EncoderEmbedder, count_words, normalize
from dallme.embedders.hashing import HashingEmbedder
from dallme.embedders.sentence_transformer import SentenceTransformerEmbedder
from dallme.errors import InputError
from embedder_cases import TEXTS


class _Encoder:
    """Mean of the code points and their number: worked out on paper."""

    def __init__(self) -> None:
        self.seen: list[list[str]] = []

    def encode(self, texts: list[str]) -> list[list[float]]:
        self.seen.append(texts)
        return [[float(sum(map(ord, text))) / len(text), float(len(text))] for text in texts]


@pytest.fixture(scope="module", params=[*registry.names("embedders"), "an object of the user's"])
def embedder(
    request: pytest.FixtureRequest, minilm: SentenceTransformerEmbedder, static_folder: Path
) -> Embedder:
    if request.param == "sentence-transformer":
        return minilm
    if request.param == "openai":
        served: Embedder = request.getfixturevalue("served_hashing")
        return served
    if request.param == "model2vec":
        return resolve(f"model2vec:{static_folder}")
    return (
        EncoderEmbedder(_Encoder())
        if request.param not in registry.names("embedders")
        else resolve(request.param)
    )


@pytest.fixture(scope="module")
def vectors(embedder: Embedder) -> np.ndarray:
    return embedder.embed(TEXTS)


def test_vectors_have_length_one_in_the_order_of_the_texts(embedder: Embedder, vectors: np.ndarray) -> None:
    assert vectors.shape == (len(TEXTS), embedder.fingerprint().dimension)
    assert vectors.dtype == np.float32
    assert vectors.flags.c_contiguous
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    for row in (0, 4, 6):
        np.testing.assert_allclose(embedder.embed([TEXTS[row]])[0], vectors[row], atol=1e-3)


def test_the_same_texts_give_the_same_bytes(embedder: Embedder, vectors: np.ndarray) -> None:
    assert embedder.embed(tuple(TEXTS)).tobytes() == vectors.tobytes()


def test_the_order_of_the_texts_does_not_matter(embedder: Embedder, vectors: np.ndarray) -> None:
    order = np.random.default_rng(0).permutation(len(TEXTS))
    np.testing.assert_allclose(embedder.embed([TEXTS[row] for row in order]), vectors[order], atol=1e-3)


def test_the_texts_are_left_as_they_are(embedder: Embedder) -> None:
    texts = list(TEXTS)
    embedder.embed(texts)
    assert texts == TEXTS


def test_a_prompt_precedes_each_text_and_changes_the_digest(embedder: Embedder, vectors: np.ndarray) -> None:
    prompt = "Opinion of a film: "
    prompted = embedder.embed(TEXTS[:4], prompt=prompt)
    np.testing.assert_allclose(prompted, embedder.embed([prompt + text for text in TEXTS[:4]]), atol=1e-3)
    assert np.abs(prompted - vectors[:4]).max() > 1e-2
    assert embedder.fingerprint(prompt) == replace(embedder.fingerprint(), prompt=prompt)
    assert embedder.fingerprint(prompt).digest != embedder.fingerprint().digest


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([], "expected at least one text in texts, found none"),
        ("a text", "expected texts as a list of strings, found one str; put it in a list"),
        (["a", " \n"], "texts: row 1 has a blank text"),
        (["a", None], "texts: row 1 has no text"),
        (["a", "b\0"], "texts: row 1 holds a NUL byte"),
    ],
)
def test_unusable_texts_are_errors(embedder: Embedder, texts: Any, message: str) -> None:
    with pytest.raises(InputError, match="^" + message.replace("(", r"\(")):
        embedder.embed(texts)


def test_tokens_are_counted(embedder: Embedder) -> None:
    counts = embedder.count_tokens(["film", "a fine film", "a fine film" + " a fine film" * 299])
    assert counts.dtype == np.int64
    assert counts[1] - counts[0] == 2
    assert counts[2] - counts[1] == 3 * 299  # all of a long text, also where the model reads less


def test_the_fingerprint_is_plain_data(embedder: Embedder) -> None:
    fingerprint = embedder.fingerprint()
    assert fingerprint.model == embedder.name
    assert fingerprint.normalized
    assert json.dumps(vars(fingerprint))


def test_words_and_signs() -> None:
    assert count_words(["a fine film", "Fine, isn't it?", "很好", "😀 !", "", "  "]).tolist() == [
        3,
        7,
        1,
        2,
        0,
        0,
    ]
    assert count_words([]).shape == (0,)


def test_normalize() -> None:
    vectors = np.array([[3, 4], [0, 0], [1e30, 1e30], [-1e-30, 0]], dtype=np.float32)
    root = np.float32(np.sqrt(0.5))
    np.testing.assert_allclose(normalize(vectors), [[0.6, 0.8], [0, 0], [root, root], [-1, 0]], rtol=1e-6)
    assert vectors[0].tolist() == [3, 4]


# hashing


def test_hashing_adds_up_one_direction_a_word() -> None:
    embedder = HashingEmbedder(dimension=600)
    film, fine, both = embedder.embed(["film", "Fine", "fine FILM film"])
    assert np.unique(np.abs(film)).tolist() == [np.float32(1 / np.sqrt(600))]  # signs, scaled to length 1
    expected = fine + np.sqrt(np.float32(2)) * film
    np.testing.assert_allclose(both, expected / np.linalg.norm(expected), atol=1e-6)
    assert abs(film @ fine) < 0.2  # unrelated words are nearly orthogonal: the deviation is 1 / sqrt(600)


def test_hashing_gives_the_same_signs_everywhere() -> None:
    assert np.sign(HashingEmbedder(12).embed(["film"])[0]).tolist() == [
        1,
        1,
        -1,
        -1,
        -1,
        1,
        1,
        -1,
        -1,
        -1,
        -1,
        -1,
    ]


def test_hashing_checks_its_dimension() -> None:
    with pytest.raises(InputError, match="expected dimension to be a whole number of at least 1, found 0"):
        HashingEmbedder(dimension=0)


# Objects of the user's


def test_an_object_with_encode_is_an_embedder() -> None:
    encoder = _Encoder()
    embedder = resolve(encoder)
    np.testing.assert_allclose(embedder.embed(["c", "aa"]), normalize(np.array([[99, 1], [97, 2]])))
    assert embedder.fingerprint().dimension == 2
    assert embedder.fingerprint().weights == "unknown"
    assert embedder.name == f"{_Encoder.__module__}._Encoder"
    assert EncoderEmbedder(encoder, "mine").name == "mine"


def test_a_sentence_transformer_of_the_users_is_an_embedder(
    minilm: SentenceTransformerEmbedder, minilm_folder: Path
) -> None:
    given = resolve(SentenceTransformer(str(minilm_folder), device="cpu"))
    np.testing.assert_allclose(given.embed(TEXTS[:3]), minilm.embed(TEXTS[:3]), atol=1e-5)


@pytest.mark.parametrize("thing", [None, 7, ["hashing"], object()])
def test_an_object_without_encode_is_an_error(thing: Any) -> None:
    with pytest.raises(InputError) as caught:
        resolve(thing)
    assert str(caught.value) == (
        f"expected an embedder: a name or an object with encode(list of strings), found "
        f"{type(thing).__name__}"
    )


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (
            [[1.0, float("nan")]],
            "expected finite vectors of mine, found NaN or infinity in 1 rows, the first is row 0",
        ),
        ([[1.0], [2.0]], "expected vectors of mine with 1 rows, one per text, found 2"),
        ([1.0], r"expected vectors of mine of shape \(n, d\), found shape \(1,\)"),
        (["words"], "expected vectors of mine as a matrix of numbers, found list"),
        ([[1.0], [2.0, 3.0]], "expected vectors of mine as a matrix of numbers, found list"),
    ],
)
def test_an_object_that_gives_no_vectors_is_an_error(output: Any, message: str) -> None:
    class Wrong:
        def encode(self, texts: list[str]) -> Any:
            return output

    for call in (
        lambda: EncoderEmbedder(Wrong(), "mine").embed(["a"]),
        EncoderEmbedder(Wrong(), "mine").fingerprint,
    ):
        with pytest.raises(InputError, match=message):
            call()


def test_the_name_of_a_users_class_adds_no_prefix() -> None:
    class Spy:
        def encode(self, texts: list[str]) -> np.ndarray:
            self.texts = texts
            return np.ones((len(texts), 2))

    for name in ("nomic_embed_text", "e5-base", "nomic-embed-text-v1", "embeddinggemma"):
        spy = type(name, (Spy,), {})()
        EncoderEmbedder(spy).embed(["a text"])
        assert spy.texts == ["a text"], name
        EncoderEmbedder(spy).embed(["a text"], prompt="mood: ")
        assert spy.texts == ["mood: a text"], name


@pytest.mark.parametrize("form", [lambda vectors: vectors, list], ids=["matrix", "list of vectors"])
def test_tensors_that_need_a_gradient_are_vectors(form: Any) -> None:
    class Learner:
        def encode(self, texts: list[str]) -> Any:
            return form(torch.ones(len(texts), 4, requires_grad=True))

    assert EncoderEmbedder(Learner()).embed(["a", "b"]).tolist() == [[0.5] * 4] * 2


@pytest.mark.parametrize("kind", [HashingEmbedder, SentenceTransformer])
def test_a_class_in_place_of_an_object_is_one_line(kind: Any) -> None:
    with pytest.raises(InputError, match=rf"found the class {kind.__name__}; give an instance"):
        resolve(kind)
