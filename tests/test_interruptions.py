"""Real processes that are killed, on a full disk, or run at once: a short `benchmarks/interruptions.py`."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

if sys.platform == "win32":
    pytest.skip("processes are forked, which Windows cannot", allow_module_level=True)

from _kills import SIGNALS, Moment, Zygote, small_disk
from _victim import Victim
from _victims import interrupt, victims
from interruptions import damaged, full_disk

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    started = Zygote()
    yield started
    started.close()


def victim_of(name: str) -> Victim:
    (victim,) = (each for each in victims() if each.name == name)
    victim.rows = min(victim.rows, 1600)
    if "--overwrite" in victim.argv:
        victim.argv.insert(-1, "--no-report")
    return victim


@pytest.fixture(scope="module")
def embed(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> tuple[Victim, Path]:
    """The verb `embed`, which has run once without an interruption, and the folder in which it did."""
    victim, root = victim_of("embed"), tmp_path_factory.mktemp("embed")
    victim.learn(zygote, root / "learn")
    return victim, root


@pytest.mark.parametrize(
    ("name", "kills"), [("embed", 3), ("reproduce", 4), ("distill --overwrite", 2), ("review", 2)]
)
def test_a_run_killed_several_times_gives_the_same_result(
    zygote: Zygote, embed: tuple[Victim, Path], tmp_path: Path, name: str, kills: int
) -> None:
    victim, rng = embed[0], random.Random(7)
    if name != "embed":
        victim = victim_of(name)
        victim.learn(zygote, tmp_path / "learn")
    signals = [*SIGNALS] * kills
    moments = [
        Moment(
            "change",
            signals[number],
            {"at": rng.randint(1, victim.changes), "signal": SIGNALS[signals[number]]},
        )
        for number in range(kills)
    ]
    trial = interrupt(victim, zygote, tmp_path / "work", moments)
    assert trial.losses == []
    assert len(trial.kills) + trial.missed >= 1


def test_a_full_disk_is_told_of_and_leaves_nothing(
    zygote: Zygote, embed: tuple[Victim, Path], tmp_path: Path
) -> None:
    try:
        with small_disk(tmp_path / "try", 2**20):
            pass
    except PermissionError as error:
        pytest.skip(f"no small disk to fill: {error}")
    victim, root = embed
    found = full_disk(victim, zygote, root, 2, random.Random(1))
    assert found["losses"] == []
    assert found["refused"]
    assert all("make room" in message for message in found["messages"])


def test_of_a_damaged_store_only_the_damaged_part_is_made_again(
    zygote: Zygote, embed: tuple[Victim, Path], tmp_path: Path
) -> None:
    found = damaged(embed[0], zygote, tmp_path, "store/*/*.arrow", 2, random.Random(0))
    assert found == {"trials": 2, "told": 2, "other_files_kept": 2, "losses": []}


def test_the_harness_sees_a_result_that_differs(
    zygote: Zygote, embed: tuple[Victim, Path], tmp_path: Path
) -> None:
    """Another source gives another result, which counts as a loss."""
    victim = replace(embed[0], rows=embed[0].rows - 1)
    assert (
        "differs from an uninterrupted run's" in interrupt(victim, zygote, tmp_path / "work", []).losses[-1]
    )
