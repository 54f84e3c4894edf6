"""Files that are whole or absent, and what two processes may not do at once."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import pytest

from dallme import atomic as durable
from dallme.atomic import atomic_write, checksum, file_lock, folder_lock, remove_stale


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such locks")
def test_a_second_one_waits_for_the_first(tmp_path: Path) -> None:
    happened: list[str] = []
    begun = threading.Event()

    def second() -> None:
        begun.set()
        with file_lock(tmp_path / "lock"):
            happened.append("second")

    thread = threading.Thread(target=second)
    with file_lock(tmp_path / "lock"):
        thread.start()
        begun.wait()
        thread.join(timeout=0.2)
        happened.append("first")
    thread.join()
    assert happened == ["first", "second"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such locks")
def test_a_folder_is_for_one_process_and_no_file_is_made_for_that(tmp_path: Path) -> None:
    with folder_lock(tmp_path) as locked:
        assert locked
        with pytest.raises(BlockingIOError), folder_lock(tmp_path, wait=False):
            pass
    with folder_lock(tmp_path, wait=False) as locked:
        assert locked
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_opened_is_not_locked(tmp_path: Path) -> None:
    with folder_lock(tmp_path / "missing") as locked:
        assert not locked


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such locks")
def test_what_a_killed_writer_left_of_a_file_is_removed_by_the_next(tmp_path: Path) -> None:
    names = ("a.txt.0123abcd.tmp", "b.txt.0123abcd.tmp", "a.txt.tmp")
    for name in names:
        (tmp_path / name).write_bytes(b"half")
    atomic_write(tmp_path / "a.txt", b"whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "a.txt.tmp", "b.txt.0123abcd.tmp"]
    remove_stale(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "a.txt.tmp"]  # no name that we give
    remove_stale(tmp_path / "missing")


def test_a_file_that_was_swept_before_it_was_locked_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    swept: list[Path] = []

    def replace(source: Path, target: Path) -> None:
        if not swept:
            swept.append(source)
            source.unlink()
        rename(source, target)

    rename = os.replace
    monkeypatch.setattr(durable.os, "replace", replace)
    atomic_write(tmp_path / "a.txt", b"whole")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    with pytest.raises(FileNotFoundError):
        atomic_write(tmp_path / "missing" / "a.txt", b"whole")


def test_a_checksum_tells_of_every_flipped_bit() -> None:
    assert checksum(b"123456789") == checksum(b"1234", b"56789") == "cbf43926"  # the check value of CRC-32
    assert len({checksum(bytes([0, 1 << bit, 0])) for bit in range(8)}) == 8
