"""Attacks on locks: a process that holds one for ever is named, and nothing waits for it for ever."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from dallme.data import LabelledTexts
from dallme.embedders.cache import EmbeddingStore, embed_with_store
from dallme.embedders.hashing import HashingEmbedder
from dallme.errors import OutputError
from dallme.experiments import workspace
from dallme.files import atomic

HOLD = """
import fcntl, sys, time
files = [open(path, "ab") for path in sys.argv[1:]]
for file in files:
    fcntl.flock(file, fcntl.LOCK_EX)
print("locked", flush=True)
time.sleep(60)
"""
HOLD_AS_DALLME = """
import sys, time
from pathlib import Path
from dallme.files.atomic import file_lock
with file_lock(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(60)
"""


def start(code: str, *paths: Path) -> subprocess.Popen[str]:
    """Starts a process that holds locks, and waits until it does."""
    command = [sys.executable, "-c", code, *map(str, paths)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "locked\n"
    return process


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic, "NOTICE_SECONDS", 0.1)
    monkeypatch.setattr(atomic, "FOLDER_SECONDS", 0.3)
    monkeypatch.setattr(workspace, "LONGEST_WORK", 0.4)


@pytest.mark.skipif(sys.platform == "win32", reason="uses flock")
def test_the_vector_store_waits_for_nobody(tmp_path: Path) -> None:
    embedder, store = HashingEmbedder(), EmbeddingStore(tmp_path / "store")
    embed_with_store(embedder, ["one"], store=store)
    files = [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
    names = ("format.json.lock", ".store.lock", f"{embedder.fingerprint().digest}/.lock")
    process = start(HOLD, *files, *(tmp_path / "store" / name for name in names), tmp_path / ".store.lock")
    try:
        started = time.monotonic()
        vectors = embed_with_store(embedder, ["one", "two"], store=store)
        store.table(embedder.fingerprint()).compact()
        assert time.monotonic() - started < 5
    finally:
        process.kill()
        process.wait()
    assert np.array_equal(vectors, embedder.embed(["one", "two"]))


@pytest.mark.usefixtures("short")
def test_a_file_lock_has_a_limit_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    process = start(HOLD_AS_DALLME, tmp_path / "lock")
    try:
        with pytest.raises(TimeoutError) as caught, atomic.file_lock(tmp_path / "lock"):
            pass
    finally:
        process.kill()
        process.wait()
    assert f"process {process.pid} on " in str(caught.value)
    assert f"note: waiting for process {process.pid} on " in capsys.readouterr().err


@pytest.mark.usefixtures("short")
def test_an_experiment_waits_for_another_with_a_limit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    like = LabelledTexts(["a", "b"], np.array([0, 1]), {0: "x", 1: "y"}, np.arange(2))
    process = start(HOLD_AS_DALLME, tmp_path / "sets.lock")
    try:
        with pytest.raises(OutputError) as caught:
            workspace.cached_sets(tmp_path / "sets.json", 1, like, lambda: pytest.fail("it is not its turn"))
    finally:
        process.kill()
        process.wait()
    assert f"expected to compute sets in turn, found that process {process.pid} on " in str(caught.value)
    assert "has held the lock for 0.4 seconds" in str(caught.value)
    assert f"note: waiting for process {process.pid}" in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["sets.lock"]
