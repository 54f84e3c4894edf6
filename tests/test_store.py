"""The embedding store: keys, shards, damage, and embedding through it."""

import errno
import hashlib
import json
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dallme.data import Fingerprint
from dallme.embedders.base import Embedder, EncoderEmbedder
from dallme.embedders.cache import EmbeddingStore, embed_with_store, text_keys
from dallme.embedders.hashing import HashingEmbedder
from dallme.errors import InputError, StoreError
from store_cases import FINGERPRINT, all_keys, batch, filled, reopened, shards, vectors_of


def flip_a_vector(path):
    content = bytearray(path.read_bytes())
    vectors = next(
        v.tobytes() for number in range(9) if (v := vectors_of(batch(number))).tobytes() in content
    )
    content[content.index(vectors) + 100] ^= 1
    path.write_bytes(content)


# Keys and plain use


def test_keys_are_the_blake2b_hashes_of_the_texts():
    keys = text_keys(["a text", "ein größerer", "a text"])
    assert keys.tobytes() == b"".join(
        hashlib.blake2b(text.encode(), digest_size=16).digest()
        for text in ("a text", "ein größerer", "a text")
    )
    assert (keys[0] == keys[2]).all()
    assert text_keys([]).shape == (0, 2)


def test_what_was_appended_is_read_in_the_order_asked_for(tmp_path):
    filled(tmp_path)
    table = reopened(tmp_path)
    keys = all_keys([2, 0, 1])[::-3]
    assert len(table) == 60
    assert table.lookup(keys).all()
    assert np.array_equal(table.read(keys), vectors_of(keys))
    assert table.read(np.repeat(keys, 2, axis=0)).shape == (2 * len(keys), 4)


def test_reading_into_rows_of_an_array_leaves_the_others_alone(tmp_path):
    table = filled(tmp_path, batches=1)
    out = np.full((6, 4), -1, dtype=np.float32)
    assert table.read(batch(0)[:2], out=out, rows=np.array([4, 1])) is out
    assert np.array_equal(out[[4, 1]], vectors_of(batch(0)[:2]))
    assert (out[[0, 2, 3, 5]] == -1).all()


def test_an_empty_store_finds_nothing_and_makes_no_folder(tmp_path):
    table = reopened(tmp_path / "store")
    assert not table.lookup(batch(0)).any()
    assert table.read(batch(0)[:0]).shape == (0, 4)
    table.append(batch(0)[:0], np.empty((0, 4), np.float32))
    assert not (tmp_path / "store").exists()


def test_reading_what_is_not_there_is_an_error(tmp_path):
    table = filled(tmp_path, batches=1)
    with pytest.raises(StoreError, match=r"expected 40 vectors in .*, found 20; embed the others first"):
        table.read(all_keys([0, 1]))


def test_each_fingerprint_has_its_own_described_table(tmp_path):
    filled(tmp_path, batches=1)
    description = json.loads((tmp_path / FINGERPRINT.digest / "fingerprint.json").read_text())
    assert description["model"] == "fake"
    assert description["prompt"] is None
    prompted = Fingerprint("fake", weights="1", dimension=4, prompt="topic: ")
    assert not EmbeddingStore(tmp_path).table(prompted).lookup(batch(0)).any()


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (np.zeros((20, 3), np.float32), "with 4 dimensions, found 3"),
        (np.zeros((19, 4), np.float32), "with 20 rows, one per text, found 19"),
        (np.full((20, 4), np.nan, np.float32), "found NaN or infinity in 20 rows"),
    ],
)
def test_wrong_vectors_are_not_stored(tmp_path, vectors, message):
    table = reopened(tmp_path)
    with pytest.raises(InputError, match=message):
        table.append(batch(0), vectors)
    assert shards(tmp_path) == []


def test_keys_of_another_kind_are_an_error(tmp_path):
    with pytest.raises(
        InputError, match=r"expected keys as uint64 of shape \(n, 2\).*found int64 of shape \(3,\)"
    ):
        reopened(tmp_path).lookup(np.arange(3))


@settings(max_examples=40, deadline=None)
@given(
    steps=st.lists(
        # Halves out of 0, 1, 2 make many keys that share their first half, and duplicates.
        st.one_of(
            st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=6),
            st.sampled_from(["reopen", "compact"]),
        ),
        max_size=6,
    )
)
def test_a_table_behaves_as_a_dict(tmp_path_factory, steps):
    folder = tmp_path_factory.mktemp("store")
    table, expected = reopened(folder), {}
    for step in steps:
        if step == "reopen":
            table = reopened(folder)
        elif step == "compact":
            table.compact()
            assert len(shards(folder)) <= 1
        else:
            keys = np.array(step, dtype=np.uint64)
            table.append(keys, vectors_of(keys))
            expected.update(zip(step, vectors_of(keys).tolist(), strict=True))
        everything = np.array([(a, b) for a in range(4) for b in range(3)], dtype=np.uint64)
        found = table.lookup(everything)
        assert {tuple(key) for key in everything[found].tolist()} == expected.keys()
        assert table.read(everything[found]).tolist() == [
            expected[tuple(key)] for key in everything[found].tolist()
        ]
        assert len(table) == len(expected)


# Damage


def test_no_flipped_byte_gives_a_wrong_vector(tmp_path):
    keys = batch(0, size=5)
    reopened(tmp_path).append(keys, vectors_of(keys))
    (path,) = shards(tmp_path)
    whole = path.read_bytes()
    noticed = 0
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        table = reopened(tmp_path)
        found = table.lookup(keys)
        assert np.array_equal(table.read(keys[found]), vectors_of(keys[found]))
        noticed += not found.any()
        assert found.all() == (table.notes == [])
        assert found.all() == found.any()
    assert noticed > 5 * (16 + 4 * 4)


@pytest.mark.parametrize("part", [0, 0.01, 0.3, 0.6, 0.9, 0.999])
def test_a_shard_cut_short_is_set_aside_and_the_others_stay(tmp_path, part):
    filled(tmp_path)
    path = shards(tmp_path)[1]
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    table = reopened(tmp_path)
    found = table.lookup(all_keys(range(3)))
    assert found.sum() == 40
    assert len(table) == 40
    assert np.array_equal(table.read(all_keys(range(3))[found]), vectors_of(all_keys(range(3))[found]))
    assert path.with_suffix(".damaged").exists()
    assert not path.exists()
    (note,) = table.notes
    assert f"{path} is damaged (" in note
    assert note.endswith("and was set aside; its texts are embedded again")


def test_a_damaged_vector_is_noticed_before_its_key_is_promised(tmp_path):
    filled(tmp_path, batches=1)
    flip_a_vector(shards(tmp_path)[0])
    table = reopened(tmp_path)
    assert not table.lookup(batch(0)).any()
    assert "wrong checksum" in table.notes[0]
    table.append(batch(0), vectors_of(batch(0)))
    assert np.array_equal(reopened(tmp_path).read(batch(0)), vectors_of(batch(0)))


def test_a_damaged_shard_of_a_read_only_store_is_left_out(tmp_path, monkeypatch):
    filled(tmp_path)
    path = shards(tmp_path)[0]
    flip_a_vector(path)

    def refuse(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "rename", refuse)
    table = reopened(tmp_path)
    assert table.lookup(all_keys(range(3))).sum() == 40
    assert len(table.notes) == 1
    assert path.exists()


def test_a_store_for_another_dimension_is_damaged(tmp_path):
    filled(tmp_path, batches=1)
    wider = Fingerprint("fake", weights="1", dimension=5)
    (tmp_path / FINGERPRINT.digest).rename(tmp_path / wider.digest)
    table = EmbeddingStore(tmp_path).table(wider)
    assert len(table) == 0
    assert "other columns than those of a shard" in table.notes[0]


class Counting(Embedder):
    """Vector of a text: its length, its a's, and 1 plus the length of the prompt; records its calls."""

    name = "counting"

    def __init__(self, fail_at=None):
        self.calls = []
        self.fail_at = fail_at

    def fingerprint(self, prompt=None):
        return Fingerprint(self.name, weights="1", dimension=3, prompt=prompt)

    def _embed(self, texts, prompt):
        if len(self.calls) + 1 == self.fail_at:
            raise ConnectionError("gone")
        self.calls.append(texts)
        return np.array([[len(text), text.count("a"), 1 + len(prompt or "")] for text in texts], dtype=float)

    @property
    def embedded(self):
        return [text for call in self.calls for text in call]


class Batched(Counting):
    """As with a real model, what else is in a batch changes the last digits."""

    def _embed(self, texts, prompt):
        return super()._embed(texts, prompt) + 1e-4 * sum(map(len, texts))


class Recorder:
    def __init__(self):
        self.notes, self.totals, self.steps = [], [], 0

    @contextmanager
    def task(self, description, total):
        self.totals.append((description, total))
        yield self

    def advance(self, steps=1):
        self.steps += steps

    def note(self, message):
        self.notes.append(message)


TEXTS = [f"{'a' * (i % 5)} text {i}" for i in range(20)]


# Embedding with a store behind it


@pytest.mark.parametrize("stored", [False, True])
def test_each_distinct_text_is_embedded_once_in_row_order(tmp_path, stored):
    embedder, progress = Counting(), Recorder()
    store = EmbeddingStore(tmp_path) if stored else None
    vectors = embed_with_store(
        embedder, ["aa", "abcd", "aa", "a", "aa"], store=store, progress=progress, chunk=2
    )
    aa, abcd, a = [2 / 3, 2 / 3, 1 / 3], np.array([4, 1, 1]) / 18**0.5, np.array([1, 1, 1]) / 3**0.5
    np.testing.assert_allclose(vectors, [aa, abcd, aa, a, aa], rtol=1e-6)
    assert vectors.dtype == np.float32
    assert embedder.calls == [["a", "aa"], ["abcd"]]
    assert (progress.totals, progress.steps) == ([("embedding texts", 3)], 3)
    assert bool(shards(tmp_path)) == stored


def test_a_second_run_embeds_nothing_a_new_prompt_all(tmp_path):
    store, embedder, again, progress = EmbeddingStore(tmp_path), Batched(), Batched(), Recorder()
    first = embed_with_store(embedder, TEXTS, store=store, chunk=4)
    assert np.array_equal(
        embed_with_store(again, TEXTS[::-1] * 2, store=store, progress=progress), np.tile(first[::-1], (2, 1))
    )
    assert again.calls == []
    assert progress.steps == 20
    prompted = embed_with_store(again, TEXTS, store=store, prompt="topic: ")
    assert sorted(again.embedded) == sorted(TEXTS)
    assert not np.array_equal(prompted, first)


def test_only_texts_that_are_new_are_embedded(tmp_path):
    store, embedder = EmbeddingStore(tmp_path), Counting()
    embed_with_store(embedder, TEXTS[:12], store=store, chunk=5)
    vectors = embed_with_store(embedder, TEXTS, store=store, chunk=5)
    assert sorted(embedder.embedded) == sorted(TEXTS)
    assert np.array_equal(vectors, embed_with_store(Counting(), TEXTS))


def test_the_order_of_the_rows_changes_no_vector():
    rows = np.random.default_rng(0).permutation(20)
    shuffled = embed_with_store(Batched(), [TEXTS[row] for row in rows], chunk=4)
    assert np.array_equal(shuffled, embed_with_store(Batched(), TEXTS, chunk=4)[rows])


def test_an_interrupted_run_resumes_to_the_same_bytes(tmp_path):
    store, embedder = EmbeddingStore(tmp_path), Batched(fail_at=3)
    with pytest.raises(ConnectionError, match="gone"):
        embed_with_store(embedder, TEXTS, store=store, chunk=4)
    assert len(embedder.embedded) == 8
    resumed = Batched()
    vectors = embed_with_store(resumed, TEXTS, store=store, chunk=4)
    assert sorted(embedder.embedded + resumed.embedded) == sorted(TEXTS)
    assert vectors.tobytes() == embed_with_store(Batched(), TEXTS, chunk=4).tobytes()


def test_only_what_is_damaged_is_embedded_again(tmp_path):
    store, again, progress = EmbeddingStore(tmp_path), Batched(), Recorder()
    first = embed_with_store(Batched(), TEXTS, store=store, chunk=4)
    path = shards(tmp_path)[3]
    path.write_bytes(path.read_bytes()[:-40])
    assert (
        embed_with_store(again, TEXTS, store=store, progress=progress, chunk=4).tobytes() == first.tobytes()
    )
    assert len(again.embedded) == 4
    assert "is damaged" in progress.notes[0]


def test_vectors_of_unknown_weights_are_not_stored(tmp_path):
    class Mine:
        def encode(self, texts):
            return np.array([[len(text), 1.0] for text in texts])

    embed_with_store(EncoderEmbedder(Mine()), TEXTS, store=EmbeddingStore(tmp_path / "store"))
    assert not (tmp_path / "store").exists()


def test_an_unusable_text_is_named_by_its_row(tmp_path):
    with pytest.raises(InputError, match="row 1 has a blank text"):
        embed_with_store(Counting(), ["good", " "], store=EmbeddingStore(tmp_path))
    with pytest.raises(InputError, match="expected chunk to be a whole number of at least 1, found 0"):
        embed_with_store(Counting(), ["good"], chunk=0)


def test_a_store_says_its_format_and_a_newer_one_is_refused(tmp_path):
    embed_with_store(HashingEmbedder(8), ["a text"], store=EmbeddingStore(tmp_path))
    path = tmp_path / "format.json"
    assert json.loads(path.read_text()) == {"version": 1}
    path.unlink()  # as a store of an earlier release
    assert len(EmbeddingStore(tmp_path).table(HashingEmbedder(8).fingerprint())) == 1
    for content in ('{"version": 2}', '{"version": "1"}', "[" * 9, '{"version": true}'):
        path.write_text(content)
        with pytest.raises(StoreError, match="expected an embedding store of format 1 or lower in"):
            embed_with_store(HashingEmbedder(8), ["a text"], store=EmbeddingStore(tmp_path))
