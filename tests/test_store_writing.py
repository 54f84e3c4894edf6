"""Writing to an embedding store: failures, several writers, and compaction."""

import errno
import inspect
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

from dallme.errors import StoreError
from store_cases import FINGERPRINT, all_keys, batch, filled, reopened, shards, vectors_of

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


@contextmanager
def largest_file(size):
    """Limits files to `size` bytes: a write fails in the middle, as on a full disk."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


# Failures while writing


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
