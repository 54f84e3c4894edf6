"""An inverter's folder is overwritten whole or not at all, and only files that dallme wrote are replaced."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from dallme.decoders.vec2text.backbones import Preset, make_base
from dallme.decoders.vec2text.checkpoint import check_new, load, save
from dallme.decoders.vec2text.model import InverterConfig, InverterModel
from dallme.decoders.vec2text.training import train_inverter
from dallme.embedders.hashing import HashingEmbedder
from dallme.errors import InputError, OutputError
from dallme.files import folders as commits

EMBEDDER = HashingEmbedder(8)
TEXTS = ["a warm film", "a dull play", "the plot and the cast"]


class Killed(BaseException):
    """Stands for the end of the process."""


def write(path: Path, seed: int, **options: Any) -> Path:
    """Writes an untrained inverter; the seed decides its weights."""
    torch.manual_seed(seed)
    preset = Preset(32, 1, 270, 8, 1, (1, 1), 2, "scratch")
    language_model, tokenizer, kind = make_base("scratch", TEXTS, EMBEDDER, preset=preset)
    model = InverterModel(language_model, kind, 8, 1)
    config = InverterConfig(
        "hashing", EMBEDDER.fingerprint(), "scratch", kind, 1, 8, scores={"seed": {"of": seed}}
    )
    save(path, model, tokenizer, config, **options)
    return path


def seed_of(path: Path) -> int:
    """The seed of the inverter that a reader sees, if weights and record belong together."""
    model, _, config = load(path, "cpu")
    torch.manual_seed(config.scores["seed"]["of"])
    preset = Preset(32, 1, 270, 8, 1, (1, 1), 2, "scratch")
    language_model, _, kind = make_base("scratch", TEXTS, EMBEDDER, preset=preset)
    expected = InverterModel(language_model, kind, 8, 1).spread.weight.half().float()
    assert torch.equal(model.spread.weight, expected)
    return int(config.scores["seed"]["of"])


def tree(path: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()
    }


def test_notes_in_the_folder_stay(tmp_path: Path) -> None:
    path = write(tmp_path / "inverter", 1)
    (path / "notes.txt").write_text("mine", encoding="utf-8")
    (path / "figures").mkdir()
    write(path, 2, overwrite=True)
    assert (path / "notes.txt").read_text(encoding="utf-8") == "mine"
    assert (path / "figures").is_dir()
    assert seed_of(path) == 2


@pytest.mark.parametrize("name", ["README.md", "tokenizer.json"])
def test_a_changed_file_is_named_before_any_work(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "inverter", 1)
    (path / name).write_bytes((path / name).read_bytes() + b"\nmy words\n")
    before = tree(path)
    for attempt in (
        lambda: check_new(path, overwrite=True),
        lambda: train_inverter(TEXTS, EMBEDDER, path, overwrite=True),
        lambda: write(path, 2, overwrite=True),
    ):
        with pytest.raises(OutputError, match=f"only files that dallme wrote, found '.*{name}'"):
            attempt()
    assert tree(path) == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["inverter"]


def test_a_folder_of_version_0_1_is_replaced(tmp_path: Path) -> None:
    path = write(tmp_path / "inverter", 1)
    (path / commits.RECORD).unlink()
    write(path, 2, overwrite=True)
    assert seed_of(path) == 2


@pytest.mark.parametrize("moved", [0, 1, 3, 6])
def test_a_kill_leaves_the_new_inverter_to_readers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moved: int
) -> None:
    path = write(tmp_path / "inverter", 1)
    replace, left = os.replace, [moved]

    def dying(*arguments: Any) -> None:
        if not left[0]:
            raise Killed
        left[0] -= 1
        replace(*arguments)

    monkeypatch.setattr(commits.os, "replace", dying)
    with pytest.raises(Killed):
        write(path, 2, overwrite=True)
    monkeypatch.undo()
    before = tree(path)
    assert seed_of(path) == 2
    assert tree(path) == before  # a reader changes nothing
    write(path, 3, overwrite=True)
    assert seed_of(path) == 3
    assert not (path / commits.COMMITTED).exists()


def test_a_kill_before_the_commit_leaves_the_old_inverter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "inverter", 1)

    def dying(*_: Any) -> None:
        raise Killed

    monkeypatch.setattr(commits.os, "rename", dying)
    with pytest.raises(Killed):
        write(path, 2, overwrite=True)
    assert seed_of(path) == 1


def test_a_damaged_unfinished_write_is_one_error(tmp_path: Path) -> None:
    path = write(tmp_path / "inverter", 1)
    (path / commits.COMMITTED).mkdir()
    (path / commits.COMMITTED / commits.JOURNAL).write_bytes(b"{}")
    before = tree(path)
    with pytest.raises(InputError, match=r"^expected a whole folder at .* nothing was changed[^\n]*$"):
        load(path, "cpu")
    assert tree(path) == before


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no inodes")
def test_an_empty_folder_such_as_a_mount_point_is_written_in_place(tmp_path: Path) -> None:
    path = tmp_path / "inverter"
    path.mkdir()
    before = path.stat().st_ino
    assert seed_of(write(path, 1)) == 1
    assert path.stat().st_ino == before


def test_another_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear", encoding="utf-8")
    with pytest.raises(OutputError, match="expected an inverter to replace, found something else at"):
        check_new(tmp_path, overwrite=True)


def test_a_name_that_cannot_be_written_ends_before_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "dallme.decoders.vec2text.training.make_base", lambda *_, **__: pytest.fail("work was done")
    )
    with pytest.raises(OutputError, match="File name too long; nothing was trained; choose another folder"):
        train_inverter(TEXTS, EMBEDDER, tmp_path / ("n" * 244))
