"""Atomic writes, and locks between processes and threads."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from dallme.files import atomic
from dallme.files.atomic import atomic_write, checksum, file_lock, folder_lock, remove_stale

#: Program that holds a lock until it is killed.
HOLDER = """
import sys, time
from pathlib import Path
from dallme.files.atomic import {lock}
with {lock}(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(60)
"""

unix = pytest.mark.skipif(sys.platform == "win32", reason="uses flock")


def hold(lock: str, path: Path) -> subprocess.Popen[str]:
    """Starts a process that holds a lock, and waits until it does."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER.format(lock=lock), str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "locked\n"
    return process


def test_threads_take_turns_with_a_file_lock(tmp_path: Path) -> None:
    order: list[str] = []
    started = threading.Event()

    def second() -> None:
        started.set()
        with file_lock(tmp_path / "lock"):
            order.append("second")

    thread = threading.Thread(target=second)
    with file_lock(tmp_path / "lock"):
        thread.start()
        started.wait()
        thread.join(timeout=0.2)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_processes_take_turns_with_a_folder_lock(tmp_path: Path) -> None:
    process = hold("folder_lock", tmp_path / "out")
    try:
        message = f"process {process.pid} on .* holds the lock"
        with pytest.raises(BlockingIOError, match=message), folder_lock(tmp_path / "out", wait=False):
            pass
        with folder_lock(tmp_path / "other", wait=False) as locked:  # a neighbour does not wait
            assert locked
    finally:
        process.kill()
        process.wait()
    with folder_lock(tmp_path / "out", wait=False) as locked:  # a killed process holds nothing
        assert locked
        assert [path.name for path in tmp_path.iterdir()] == [".out.lock"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("lock", ["file_lock", "folder_lock"])
def test_a_long_wait_is_announced_and_limited(
    tmp_path: Path, lock: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(atomic, "NOTICE_SECONDS", 0.1)
    monkeypatch.setattr(atomic, "FOLDER_SECONDS", 0.3)
    process, path = hold(lock, tmp_path / "out"), tmp_path / "out"
    try:
        waiting = file_lock(path, limit=0.3) if lock == "file_lock" else folder_lock(path)
        with pytest.raises(TimeoutError) as caught, waiting:
            pass
    finally:
        process.kill()
        process.wait()
    assert f"process {process.pid} on " in str(caught.value.strerror)
    assert "has held the lock for 0.3 seconds; wait for it to end, or end it" in str(caught.value.strerror)
    line = capsys.readouterr().err
    assert line.startswith(f"note: waiting for process {process.pid} on ")
    assert line.endswith(", for 0.3 seconds at most\n")
    assert line.count("\n") == 1


@unix
def test_a_foreign_lock_on_the_folder_is_ignored(tmp_path: Path) -> None:
    import fcntl

    (tmp_path / "out").mkdir()
    descriptors = [os.open(folder, os.O_RDONLY) for folder in (tmp_path, tmp_path / "out")]
    try:
        for descriptor in descriptors:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        with folder_lock(tmp_path / "out", wait=False) as locked:
            assert locked
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


@pytest.mark.parametrize("plant", ["symlink", "hard link", "notes"])
def test_a_lock_writes_into_no_file_of_others(tmp_path: Path, plant: str) -> None:
    victim, lock = tmp_path / "victim", tmp_path / ".out.lock"
    victim.write_text("precious")
    if plant == "symlink":
        lock.symlink_to(victim)
    elif plant == "hard link":
        lock.hardlink_to(victim)
    else:
        lock.write_text("precious")
    with folder_lock(tmp_path / "out"):
        pass
    assert victim.read_text() == "precious"
    assert lock.read_text() == "precious"


def test_a_read_only_parent_puts_the_lock_inside_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *arguments: False)
    with folder_lock(tmp_path) as locked:
        assert locked
        (lock,) = tmp_path.iterdir()
        assert lock.name == f".{tmp_path.name}.lock.partial"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_a_missing_folder_is_not_locked(tmp_path: Path) -> None:
    with folder_lock(tmp_path / "missing" / "out") as locked:
        assert not locked


@unix
def test_a_killed_holder_of_a_file_lock_is_followed_by_the_next(tmp_path: Path) -> None:
    process = hold("file_lock", tmp_path / "lock")
    process.send_signal(signal.SIGKILL)
    process.wait()
    begun = time.monotonic()
    with file_lock(tmp_path / "lock", wait=False):
        assert time.monotonic() - begun < 2


@unix
def test_the_next_write_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    for name in ("a.txt.0123abcd.tmp", "b.txt.0123abcd.tmp", "a.txt.tmp"):
        (tmp_path / name).write_bytes(b"half")
    atomic_write(tmp_path / "a.txt", b"whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "a.txt.tmp", "b.txt.0123abcd.tmp"]
    remove_stale(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "a.txt.tmp"]  # not our naming
    remove_stale(tmp_path / "missing")


@unix
def test_a_temporary_file_in_use_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace = os.replace

    def sweep_first(source: Path, target: Path) -> None:
        remove_stale(tmp_path)
        replace(source, target)

    monkeypatch.setattr(atomic.os, "replace", sweep_first)
    atomic_write(tmp_path / "a.txt", b"whole")
    assert (tmp_path / "a.txt").read_bytes() == b"whole"


def test_a_removed_lock_file_is_created_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    removed: list[Path] = []
    rename = os.replace

    def replace(source: Path, target: Path) -> None:
        if not removed:
            removed.append(source)
            source.unlink()
        rename(source, target)

    monkeypatch.setattr(atomic.os, "replace", replace)
    atomic_write(tmp_path / "a.txt", b"whole")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    with pytest.raises(FileNotFoundError):
        atomic_write(tmp_path / "missing" / "a.txt", b"whole")


def test_a_checksum_changes_with_every_bit() -> None:
    assert checksum(b"123456789") == checksum(b"1234", b"56789") == "cbf43926"  # the check value of CRC-32
    assert len({checksum(bytes([0, 1 << bit, 0])) for bit in range(8)}) == 8
