"""Interrupted trainings of an inverter give the same bytes when they are resumed."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dallme.decoders.vec2text.corpus import Drafts
from dallme.decoders.vec2text.model import InverterConfig
from dallme.decoders.vec2text.state import Checkpoints
from dallme.decoders.vec2text.training import train_inverter
from dallme.errors import InputError, OutputError
from dallme.progress import SilentProgress
from training_cases import EMBEDDER, FAST, TEXTS, Notes, contents

pytestmark = pytest.mark.usefixtures("one_torch_thread")

SHORT: dict[str, Any] = {**FAST, "steps": 10}


class Killed(Exception):
    pass


class Killer(SilentProgress):
    """Ends a training after some steps of a stage, whatever it is doing."""

    def __init__(self, stage: str, steps: int) -> None:
        self.stage, self.left = stage, steps

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[Any]:
        killer = self

        class Task:
            def advance(self, steps: int = 1) -> None:
                if description == killer.stage:
                    killer.left -= steps
                    if killer.left < 0:
                        raise Killed

        yield Task()


@pytest.fixture(scope="module", autouse=True)
def few_measurements() -> Iterator[None]:
    """Measures every second step of a short training; each measurement takes longer than a step."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dallme.decoders.vec2text.stages.MEASUREMENTS", 5)
        yield


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Files of an uninterrupted training; its quality does not matter to comparisons of bytes."""
    folder = tmp_path_factory.mktemp("short") / "inverter"
    train_inverter(TEXTS, EMBEDDER, folder, **SHORT, save_every=8)
    return contents(folder)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a training like `short` that was killed in its second stage."""
    folder = tmp_path_factory.mktemp("killed")
    killer = Killer("corrector", 5)
    with pytest.raises(Killed):
        train_inverter(TEXTS, EMBEDDER, folder / "inverter", **SHORT, save_every=4, progress=killer)
    return folder / "inverter.partial"


def test_the_same_seed_gives_the_same_bytes_and_another_others(
    short: dict[str, bytes], tmp_path: Path
) -> None:
    train_inverter(TEXTS, EMBEDDER, tmp_path / "same", **SHORT, save_every=100)
    different = {name for name, content in short.items() if contents(tmp_path / "same")[name] != content}
    assert different == set()
    one_step: dict[str, Any] = {"steps": 1, "correct": False}
    train_inverter(TEXTS, EMBEDDER, tmp_path / "one", seed=1, **one_step, **FAST)
    train_inverter(TEXTS, EMBEDDER, tmp_path / "two", seed=2, **one_step, **FAST)
    assert contents(tmp_path / "one")["model.safetensors"] != contents(tmp_path / "two")["model.safetensors"]


@pytest.mark.parametrize(
    ("stage", "steps"), [("hypothesizer", 5), ("corrector", 2), ("corrector", 9), ("drafts", 1)]
)
def test_a_resumed_training_gives_the_same_bytes(
    short: dict[str, bytes], tmp_path: Path, stage: str, steps: int
) -> None:
    output = tmp_path / "inverter"
    with pytest.raises(Killed):
        # Every second step is measured: between two, a checkpoint has to hold the losses since the last one.
        train_inverter(TEXTS, EMBEDDER, output, **SHORT, save_every=3, progress=Killer(stage, steps))
    assert not output.exists()
    train_inverter(TEXTS, EMBEDDER, output, **SHORT, save_every=3, resume=True)
    assert contents(output) == short
    assert [path.name for path in tmp_path.iterdir()] == ["inverter"]


def test_writing_a_few_texts_at_once_misses_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Drafts] = []
    keep = Checkpoints.save_drafts
    monkeypatch.setattr(
        Checkpoints, "save_drafts", lambda self, drafts: made.append(drafts) or keep(self, drafts)
    )
    for at_once in (128, 5):
        monkeypatch.setattr("dallme.decoders.vec2text.stages.WRITTEN_AT_ONCE", at_once)
        train_inverter(TEXTS, EMBEDDER, tmp_path / str(at_once), steps=4, **FAST)
    together, apart = made
    assert len(together.ids) == FAST["drafts"]
    assert together.rows.tolist() == apart.rows.tolist()
    assert [row.tolist() for row in together.ids] == [row.tolist() for row in apart.ids]


def test_a_checkpoint_is_kept_from_other_trainings(tmp_path: Path) -> None:
    output = tmp_path / "inverter"
    with pytest.raises(Killed):
        train_inverter(
            TEXTS, EMBEDDER, output, steps=6, save_every=2, progress=Killer("hypothesizer", 4), **FAST
        )
    with pytest.raises(
        OutputError, match="expected no training under way, found .*inverter.partial'; continue with --resume"
    ):
        train_inverter(TEXTS, EMBEDDER, output, steps=6, **FAST)
    with pytest.raises(
        InputError, match=r"found others: noise 0.0 against 0.1, steps 6 against 7; give the same"
    ):
        train_inverter(TEXTS, EMBEDDER, output, steps=7, noise=0.1, save_every=2, resume=True, **FAST)
    train_inverter(TEXTS[:20], EMBEDDER, output, steps=1, correct=False, overwrite=True, **FAST)
    assert InverterConfig.read(output).training["texts"] == 19


@pytest.mark.parametrize(
    ("name", "cut"),
    [
        ("options.json", True),
        ("options.json", False),
        ("state.safetensors", False),
        ("drafts.safetensors", True),
    ],
)
def test_a_damaged_checkpoint_is_noticed_and_made_again(
    short: dict[str, bytes], checkpoint: Path, tmp_path: Path, name: str, cut: bool
) -> None:
    output, notes = tmp_path / "inverter", Notes()
    path = Path(shutil.copytree(checkpoint, tmp_path / "inverter.partial")) / name
    content = bytearray(path.read_bytes())
    if cut:
        del content[len(content) // 2 :]
    else:
        content[len(content) // 2] ^= 1
    path.write_bytes(content)
    train_inverter(TEXTS, EMBEDDER, output, **SHORT, save_every=4, resume=True, progress=notes)
    assert "is damaged (" in notes.lines[0]
    assert notes.lines[0].endswith("; the training starts again")
    assert contents(output) == short


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such locks")
def test_two_trainings_do_not_share_their_checkpoints(tmp_path: Path) -> None:
    output = tmp_path / "inverter"
    with Checkpoints(tmp_path / "inverter.partial").lock():
        for options in ({"resume": True}, {"overwrite": True}, {}):
            with pytest.raises(
                OutputError,
                match="inverter.partial' for this training alone, found another that writes there",
            ):
                train_inverter(TEXTS, EMBEDDER, output, steps=1, **options, **FAST)
    train_inverter(TEXTS[:20], EMBEDDER, output, steps=1, correct=False, **FAST)
    assert [path.name for path in tmp_path.iterdir()] == ["inverter"]
