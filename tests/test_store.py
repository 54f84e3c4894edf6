"""The embedding store: nothing is lost, nothing wrong is given back, nothing is embedded twice."""

import errno
import hashlib
import inspect
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
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

FINGERPRINT = Fingerprint("fake", weights="1", dimension=4)


def batch(number, size=20):
    return text_keys([f"text {number * size + i}" for i in range(size)])


def vectors_of(keys):
    return np.concatenate([keys % 1000, keys % 7], axis=1).astype(np.float32)


# Writes batches and says so after each; the vector of a key is made from the key.
WRITER = f"""
import sys
import numpy as np
from dallme.data import Fingerprint
from dallme.embedders.cache import EmbeddingStore, text_keys

{inspect.getsource(batch)}
{inspect.getsource(vectors_of)}
table = EmbeddingStore(sys.argv[1]).table({FINGERPRINT!r})
for number in range(int(sys.argv[2]), int(sys.argv[3])):
    table.append(batch(number), vectors_of(batch(number)))
    print(number, flush=True)
"""


def start_writer(folder, first, end):
    command = [sys.executable, "-c", WRITER, str(folder), str(first), str(end)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def filled(folder, batches=3):
    table = EmbeddingStore(folder).table(FINGERPRINT)
    for number in range(batches):
        table.append(batch(number), vectors_of(batch(number)))
    return table


def reopened(folder):
    return EmbeddingStore(folder).table(FINGERPRINT)


def shards(folder):
    return sorted(folder.rglob("*.arrow"))


def flip_a_vector(path):
    content = bytearray(path.read_bytes())
    vectors = next(
        v.tobytes() for number in range(9) if (v := vectors_of(batch(number))).tobytes() in content
    )
    content[content.index(vectors) + 100] ^= 1
    path.write_bytes(content)


def all_keys(batches):
    return np.concatenate([batch(number) for number in batches])


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


# Failures while writing


@contextmanager
def largest_file(size):
    """Limits files to `size` bytes: a write fails in the middle, as on a full disk."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


def test_a_write_that_fails_half_way_leaves_nothing(tmp_path):
    table = filled(tmp_path, batches=1)
    before = sorted(tmp_path.rglob("*"))
    with (
        largest_file(500),
        pytest.raises(StoreError, match=r"cannot write to the embedding store .*: File too large; make room"),
    ):
        table.append(batch(1), vectors_of(batch(1)))
    assert sorted(tmp_path.rglob("*")) == before
    assert not table.lookup(batch(1)).any()
    table.append(batch(1), vectors_of(batch(1)))
    assert reopened(tmp_path).lookup(all_keys([0, 1])).all()


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_is_a_clear_error(tmp_path, monkeypatch, call):
    table = filled(tmp_path, batches=1)
    before = sorted(tmp_path.rglob("*"))

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, full)
    with pytest.raises(StoreError, match="No space left on device; make room or choose another folder"):
        table.append(batch(1), vectors_of(batch(1)))
    assert sorted(tmp_path.rglob("*")) == before


def test_a_file_in_the_place_of_the_folder_is_a_clear_error(tmp_path):
    (tmp_path / "store").write_text("something else")
    with pytest.raises(
        StoreError, match=r"cannot read the embedding store .*: Not a directory; choose another folder"
    ):
        reopened(tmp_path / "store")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such locks")
def test_only_temporary_files_of_killed_processes_are_removed(tmp_path):
    import fcntl

    table = filled(tmp_path, batches=1)
    dead, written, users = (
        table.folder / name for name in ("a.arrow.0123abcd.tmp", "b.arrow.4567cdef.tmp", "notes.tmp")
    )
    for path in (dead, written, users):
        path.write_bytes(b"half a shard")
    with written.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # as its writer does
        reopened(tmp_path)
        assert dead.exists()  # reading changes nothing
        reopened(tmp_path).append(batch(1), vectors_of(batch(1)))
        assert [path.exists() for path in (dead, written, users)] == [False, True, True]
    reopened(tmp_path).append(batch(2), vectors_of(batch(2)))
    assert not written.exists()


def test_a_damaged_fingerprint_is_written_anew(tmp_path):
    table = filled(tmp_path, batches=1)
    path = table.folder / "fingerprint.json"
    whole = path.read_bytes()
    path.write_bytes(whole[:10])
    reopened(tmp_path).append(batch(1), vectors_of(batch(1)))
    assert path.read_bytes() == whole


def test_a_killed_writer_loses_nothing_that_it_reported(tmp_path):
    rng = random.Random(0)
    reported = -1
    for _ in range(4):
        writer = start_writer(tmp_path, reported + 1, 100_000)
        stop = reported + rng.randint(1, 30)
        while reported < stop:
            reported = int(writer.stdout.readline())
        time.sleep(rng.random() * 0.003)
        writer.send_signal(signal.SIGKILL)
        reported = max([reported, *map(int, writer.stdout.read().split())])
        writer.wait()
        table = reopened(tmp_path)
        keys = all_keys(range(reported + 1))
        assert np.array_equal(table.read(keys), vectors_of(keys))
        assert table.notes == []
        # The batch after the last that was reported is there whole or not at all.
        assert len(table) in (len(keys), len(keys) + 20)


# Several at once, and compaction


def test_processes_append_and_compact_at_once(tmp_path):
    early = reopened(tmp_path)
    writers = [start_writer(tmp_path, first, first + 40) for first in (0, 20)]  # batches 20 to 39 by both
    while any(writer.poll() is None for writer in writers):
        early.compact()
        found = early.lookup(all_keys(range(60)))
        assert np.array_equal(early.read(all_keys(range(60))[found]), vectors_of(all_keys(range(60))[found]))
    for writer in writers:
        assert writer.communicate()[0].split()[-1] in ("39", "59")
    table = reopened(tmp_path)
    assert len(table) == 1200
    assert np.array_equal(table.read(all_keys(range(60))), vectors_of(all_keys(range(60))))
    assert table.notes == []


def test_compaction_joins_shards_and_drops_duplicates(tmp_path):
    filled(tmp_path)
    filled(tmp_path)
    assert len(shards(tmp_path)) == 6
    table = reopened(tmp_path)
    table.compact()
    assert len(shards(tmp_path)) == 1
    assert len(table) == len(reopened(tmp_path)) == 60
    assert np.array_equal(table.read(all_keys(range(3))), vectors_of(all_keys(range(3))))
    assert shards(tmp_path)[0].stat().st_size < 60 * 32 + 2000


def test_a_table_opened_before_a_compaction_reads_on(tmp_path):
    early = filled(tmp_path)
    assert early.lookup(batch(0)).all()
    reopened(tmp_path).compact()
    assert np.array_equal(early.read(all_keys(range(3))), vectors_of(all_keys(range(3))))
    assert early.notes == []


def test_compaction_killed_before_the_removal_is_harmless(tmp_path, monkeypatch):
    table = filled(tmp_path)
    unlink = Path.unlink

    def killed(path):
        if path.suffix == ".arrow":
            raise KeyboardInterrupt
        unlink(path)

    monkeypatch.setattr(Path, "unlink", killed)
    with pytest.raises(KeyboardInterrupt):
        table.compact()
    monkeypatch.undo()
    table = reopened(tmp_path)
    assert len(shards(tmp_path)) == 4
    assert len(table) == 60
    table.compact()
    assert len(shards(tmp_path)) == 1
    assert np.array_equal(table.read(all_keys(range(3))), vectors_of(all_keys(range(3))))


def test_compaction_makes_shards_of_the_right_size(tmp_path, monkeypatch):
    table = filled(tmp_path, batches=9)
    size = shards(tmp_path)[0].stat().st_size
    monkeypatch.setattr("dallme.embedders.cache.table.COMPACT_BYTES", int(2.5 * size))
    table.compact()
    assert len(shards(tmp_path)) == 3
    before = shards(tmp_path)
    table.compact()
    assert shards(tmp_path) == before
    assert np.array_equal(table.read(all_keys(range(9))), vectors_of(all_keys(range(9))))


def test_compaction_sets_a_damaged_shard_aside(tmp_path):
    filled(tmp_path)
    path = shards(tmp_path)[2]
    path.write_bytes(path.read_bytes()[:-9])
    table = reopened(tmp_path)
    table.compact()
    assert len(shards(tmp_path)) == 1
    assert len(table) == 40


# Embedding with a store behind it


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
    assert (progress.totals, progress.steps) == ([("embed", 3)], 3)
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
