"""Attacks through the folder in which an overwrite is staged."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from dallme.cli.main import app
from dallme.dataset import DistilledDataset, Lineage
from dallme.errors import InputError, OutputError
from dallme.files import folders

#: A file of the reader that no set may touch.
PRECIOUS = b"years of work"


def _save(path: Path, word: str = "old", **options: Any) -> Path:
    texts = (f"a fine {word} film", f"a dull {word} film")
    rows = (Lineage("nearest", (0,), (0,), ("a",), (0,)), Lineage("nearest", (1,), (1,), ("b",), (1,)))
    made = DistilledDataset(
        texts, np.array([0, 1]), {0: "good", 1: "bad"}, np.ones(2), rows, {"configuration": {}}
    )
    return made.save(path, **options)


def _tree(path: Path) -> dict[str, Any]:
    """Every entry below a folder with its kind and content, links not followed."""
    return {
        str(entry.relative_to(path)): os.readlink(entry)
        if entry.is_symlink()
        else entry.is_file() and entry.read_bytes()
        for entry in sorted(path.rglob("*"))
    }


def _journal(files: dict[str, Any], outdated: list[str]) -> bytes:
    """A journal with a right checksum, as an attacker would compute it."""
    body = {"files": dict(sorted(files.items())), "outdated": sorted(outdated), "version": 1}
    return json.dumps(body | {"sha256": hashlib.sha256(json.dumps(body).encode()).hexdigest()}).encode()


def _outdated_absolute(staged: Path, victim: Path) -> None:
    (staged / "journal.json").write_bytes(_journal({}, [str(victim)]))


def _outdated_parent(staged: Path, victim: Path) -> None:
    (staged / "journal.json").write_bytes(_journal({}, [f"../{victim.name}"]))


def _outdated_of_the_reader(staged: Path, victim: Path) -> None:
    (staged / "journal.json").write_bytes(_journal({}, ["mine.txt"]))


def _staged_for_another_place(staged: Path, victim: Path) -> None:
    name = f"../{victim.name}"
    (staged / "journal.json").write_bytes(_journal({name: hashlib.sha256(b"x").hexdigest()}, []))


def _staged_over_a_file_of_the_reader(staged: Path, victim: Path) -> None:
    (staged / "mine.txt").write_bytes(b"x")
    (staged / "journal.json").write_bytes(_journal({"mine.txt": hashlib.sha256(b"x").hexdigest()}, []))


def _staged_link(staged: Path, victim: Path) -> None:
    (staged / "README.md").symlink_to(victim)
    (staged / "journal.json").write_bytes(_journal({"README.md": hashlib.sha256(PRECIOUS).hexdigest()}, []))


def _journal_is_a_link(staged: Path, victim: Path) -> None:
    elsewhere = staged.parent.parent / "journal"
    elsewhere.write_bytes(_journal({}, ["README.md"]))
    (staged / "journal.json").symlink_to(elsewhere)


def _list_of_version_0_1(staged: Path, victim: Path) -> None:
    (staged / ".outdated").write_text(json.dumps([str(victim), "../victim.txt"]))
    (staged / "mine.txt").write_bytes(b"x")


def _wrong_checksum(staged: Path, victim: Path) -> None:
    (staged / "journal.json").write_bytes(_journal({}, ["README.md"]).replace(b"README", b"READMF"))


def _deep(staged: Path, victim: Path) -> None:
    (staged / "journal.json").write_bytes(b"[" * 60_000)


def _huge(staged: Path, victim: Path) -> None:
    (staged / "journal.json").write_bytes(b" " * 200_000 + _journal({}, []))


def _other_types(staged: Path, victim: Path) -> None:
    (staged / "journal.json").write_bytes(b'{"files": 3, "outdated": null}')


ATTACKS = [
    _outdated_absolute, _outdated_parent, _outdated_of_the_reader, _staged_for_another_place,
    _staged_over_a_file_of_the_reader, _staged_link, _journal_is_a_link, _list_of_version_0_1,
        _wrong_checksum,
        _deep, _huge,
    _other_types,
]  # fmt: skip


@pytest.fixture(autouse=True)
def _short_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers try as often as ever, one after the other: no other process ends these writes."""
    monkeypatch.setattr(folders, "_PAUSE", 0.001)


@pytest.fixture
def hostile(tmp_path: Path) -> tuple[Path, Path]:
    """A set of somebody else with a file of the reader in it, and a file of the reader beside it."""
    victim = tmp_path / "victim.txt"
    victim.write_bytes(PRECIOUS)
    received = _save(tmp_path / "received")
    (received / "mine.txt").write_bytes(PRECIOUS)
    (received / folders.COMMITTED).mkdir()
    return received, victim


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__.strip("_"))
def test_a_hostile_staged_write_changes_nothing(
    hostile: tuple[Path, Path], attack: Callable[[Path, Path], None]
) -> None:
    received, victim = hostile
    attack(received / folders.COMMITTED, victim)
    before = _tree(received.parent)
    with pytest.raises(InputError, match="found an unfinished write in .dallme-commit"):
        DistilledDataset.load(received)
    output = str(received.parent / "out.txt")
    for verb in (
        ["export", str(received), "--format", "few-shot", "--output", output],
        ["report", str(received)],
    ):
        answer = CliRunner().invoke(app, verb)
        assert isinstance(answer.exception, InputError | OutputError), answer.output
    with pytest.raises(OutputError, match="nothing was changed"):
        folders.finish(received)
    with pytest.raises(OutputError, match="nothing was changed"):
        _save(received, "new", overwrite=True)
    assert _tree(received.parent) == before


def test_a_link_in_place_of_the_staged_folder_is_not_followed(tmp_path: Path) -> None:
    received, elsewhere = _save(tmp_path / "received"), tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "train.parquet").write_bytes(PRECIOUS)
    (elsewhere / "journal.json").write_bytes(
        _journal({"train.parquet": hashlib.sha256(PRECIOUS).hexdigest()}, [])
    )
    (received / folders.COMMITTED).symlink_to(elsewhere)
    before = _tree(tmp_path)
    with pytest.raises(InputError, match="it is a link or a file, not a folder"):
        DistilledDataset.load(received)
    with pytest.raises(OutputError, match="it is a link or a file, not a folder"):
        _save(received, "new", overwrite=True)
    assert _tree(tmp_path) == before


def _killed_overwrite(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves a set whose overwrite was staged, and killed before the first file was moved."""
    _save(path)

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(folders.os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            _save(path, "new", overwrite=True)


def test_every_reading_verb_reads_a_staged_write_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "set"
    _killed_overwrite(path, monkeypatch)
    (tmp_path / "test.csv").write_text("text,label\na fine film,good\na dull film,bad\n")
    before = _tree(path)
    assert DistilledDataset.load(path).texts == ("a fine new film", "a dull new film")
    verbs = [
        ["evaluate", str(path), "--test", str(tmp_path / "test.csv"), "--classifiers", "lr", "--json"],
        ["export", str(path), "--format", "few-shot", "--output", str(tmp_path / "prompt.txt")],
        ["report", str(path), "--output", str(tmp_path / "report.html")],
        ["push", str(path), "somebody/something", "--dry-run"],
    ]
    for verb in verbs:
        answer = CliRunner().invoke(app, verb)
        assert answer.exit_code == 0, answer.output
        assert _tree(path) == before, verb
    assert "a fine new film" in (tmp_path / "prompt.txt").read_text()


def test_a_staged_file_that_was_changed_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "set"
    _killed_overwrite(path, monkeypatch)
    staged = path / folders.COMMITTED / "manifest.json"
    staged.write_bytes(staged.read_bytes() + b" ")
    before = _tree(path)
    with pytest.raises(InputError, match="'manifest.json' is damaged"):
        DistilledDataset.load(path)
    with pytest.raises(OutputError, match="'manifest.json' in it is damaged"):
        _save(path, "third", overwrite=True)
    assert _tree(path) == before


def test_a_write_of_other_names_is_refused(tmp_path: Path) -> None:
    for name in ("mine.txt", "../victim.txt", ".hidden"):
        with pytest.raises(ValueError, match="expected names among"):
            folders.write(tmp_path, {name: b""}, overwrite=True)


@pytest.mark.parametrize("moves", range(4))
def test_a_killed_overwrite_can_be_overwritten(
    tmp_path: Path, moves: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _save(tmp_path / "set")
    done, replace = [], os.replace

    def killed(*places: Any) -> None:
        if len(done) == moves:
            raise KeyboardInterrupt
        done.append(places)
        replace(*places)

    with monkeypatch.context() as patched:
        patched.setattr(folders.os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            _save(path, "new", overwrite=True)
    folders.check(path, overwrite=True)
    _save(path, "third", overwrite=True)
    assert DistilledDataset.load(path).texts[0] == "a fine third film"
