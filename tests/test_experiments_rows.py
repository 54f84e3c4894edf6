"""Rows of results on disk: order, damage and full disks."""

from __future__ import annotations

import errno
import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from dallme.errors import InputError, OutputError
from dallme.experiments.rows import ROWS, Row, RowFile
from training_cases import Notes

ROW = Row(
    "a1b2c3d4e5",
    {"method": "random"},
    {"accuracy": 0.5},
    1.5,
    0,
    {"python": "3.11", "torch": None},
    "2026-01-01T00:00:00",
)


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    file = RowFile(tmp_path / "new" / ROWS)
    assert file.load() == []
    named = replace(ROW, key="b", config={"method": "très\n"})
    file.append(ROW)
    file.append(named)
    assert file.load() == [ROW, named]
    assert len(file.path.read_bytes().splitlines()) == 2


def test_the_last_row_of_a_key_wins(tmp_path: Path) -> None:
    file = RowFile(tmp_path / ROWS)
    later = replace(ROW, result={"accuracy": 0.75})
    for row in (ROW, replace(ROW, key="b"), later):
        file.append(row)
    assert file.load() == [replace(ROW, key="b"), later]


@pytest.mark.parametrize(
    "damaged",
    [
        b'{"key": "a1b2',
        b"\xff\xfe",
        b"[1]",
        b'{"key": "a"}',
        b'{"key": 7}',
        ROW.line().replace(b"0.5", b"0.7").strip(),
    ],
    ids=["half", "no text", "no object", "keys missing", "wrong type", "a flipped bit"],
)
def test_a_damaged_line_is_left_out_and_told_of(tmp_path: Path, damaged: bytes) -> None:
    file = RowFile(tmp_path / ROWS, Notes())
    file.path.write_bytes(ROW.line() + damaged)
    assert file.load() == [ROW]
    file.append(replace(ROW, key="b"))  # closes the line first
    assert file.load() == [ROW, replace(ROW, key="b")]
    assert (
        file.progress.lines == [f"{file.path}: line 2 is damaged and left out; its run is computed again"] * 2
    )  # type: ignore[attr-defined]


def test_a_line_of_an_earlier_version_has_no_checksum(tmp_path: Path) -> None:
    file = RowFile(tmp_path / ROWS)
    file.path.write_bytes(json.dumps(asdict(ROW)).encode() + b"\n")
    assert file.load() == [ROW]


def test_a_row_for_which_there_is_no_room_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    file = RowFile(tmp_path / ROWS)
    file.append(ROW)
    with monkeypatch.context() as patched:
        patched.setattr("dallme.experiments.rows.os.fsync", full)
        with pytest.raises(
            OutputError, match=r"cannot write results to .*: No space left on device; make room or choose"
        ):
            file.append(replace(ROW, key="b"))
    assert file.path.read_bytes() == ROW.line()


def test_a_whole_last_line_needs_no_end(tmp_path: Path) -> None:
    file = RowFile(tmp_path / ROWS, Notes())
    file.path.write_bytes(ROW.line().strip())
    file.append(replace(ROW, key="b"))
    assert [row.key for row in file.load()] == [ROW.key, "b"]
    assert file.progress.lines == []  # type: ignore[attr-defined]


def test_rows_that_cannot_be_written_or_read(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    file = RowFile(tmp_path / "taken" / ROWS)
    with pytest.raises(
        OutputError, match=r"cannot write results to .*rows.jsonl: .*; make room or choose another folder"
    ):
        file.append(ROW)
    with pytest.raises(OutputError, match="cannot write results to"), file.lock():
        pass
    (tmp_path / ROWS).mkdir()
    with pytest.raises(
        InputError, match=r"expected rows of results in .*rows.jsonl, could not read it: Is a directory"
    ):
        RowFile(tmp_path / ROWS).load()
