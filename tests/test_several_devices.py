"""Training an inverter in two processes: the losses and weights of one, and a killed training goes on."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from dallme.decoders.vec2text.model import InverterConfig
from dallme.decoders.vec2text.stages import ProcessGroup
from dallme.errors import InputError

pytest.importorskip(
    "accelerate", reason="no accelerate to train in two processes; pip install 'dallme[vec2text]'"
)

#: A training of both stages.
PLAIN = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from dallme.decoders.vec2text import stages
from dallme.decoders.vec2text.training import train_inverter
from dallme.embedders.hashing import HashingEmbedder
from dallme.errors import InputError, OutputError

folder = Path(sys.argv[1])
texts = [f"{who} {did} {what} {where}." for who in ("A nurse", "The pilot", "My aunt") for did in ("sold", "lost", "painted")
         for what in ("a boat", "two lamps", "the radio") for where in ("in Paris", "on Monday")]
options = dict(preset="tiny", device="cpu", batch_size=7, drafts=8, max_tokens=12,
               precision="float32", dropout=0.0, steps=8, save_every=2)

def train(name, **more):
    return train_inverter(texts, HashingEmbedder(dimension=32), folder / name, **{**options, **more})

train("plain")
"""

#: A training that is killed in both stages and goes on, and one that cannot begin.
RESUMED = """
class Killed(Exception):
    pass
step = stages.Trainer._step
def kill(at):
    def dying(self, model, batch, optimizer, parameters, state, share):
        if (state.stage, state.step) == at:
            raise Killed
        return step(self, model, batch, optimizer, parameters, state, share)
    stages.Trainer._step = dying
    try:
        train("resumed", resume=True)
    except Killed:
        print("killed", at)
kill((1, 5))
kill((2, 3))
stages.Trainer._step = step
train("resumed", resume=True)
try:
    train("resumed")
except OutputError as error:
    print("refused")
"""


def start(folder: Path, rank: int, count: int, port: int) -> subprocess.Popen[str]:
    given = {
        "RANK": rank,
        "LOCAL_RANK": rank,
        "WORLD_SIZE": count,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
    }
    environment = os.environ | {name: str(value) for name, value in given.items()} | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", PLAIN + RESUMED, str(folder)]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folders of one process, which is this one, and of two."""
    folders = {name: tmp_path_factory.mktemp(name) for name in ("one", "two")}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    running = [start(folders["two"], rank, 2, port) for rank in (0, 1)]
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("WORLD_SIZE", raising=False)
        patch.setattr(sys, "argv", ["-c", str(folders["one"])])
        exec(PLAIN, {})
    torch.set_num_threads(threads)
    said = [process.communicate(timeout=300) for process in running]
    assert [process.returncode for process in running] == [0, 0], said
    assert [out for out, _ in said] == ["killed (1, 5)\nkilled (2, 3)\nrefused\n"] * 2
    return folders


def test_two_processes_learn_what_one_learns(trained: dict[str, Path]) -> None:
    one, two = (InverterConfig.read(trained[name] / "plain").training["history"] for name in ("one", "two"))
    assert [(entry["stage"], entry["steps"]) for entry in one] == [
        (entry["stage"], entry["steps"]) for entry in two
    ]
    assert {entry["stage"] for entry in one} == {1, 2}
    for kind in ("loss", "held_out_loss"):
        assert np.allclose([entry[kind] for entry in one], [entry[kind] for entry in two], atol=5e-4)
    first, second = (
        load_file(next((trained[name] / "plain").glob("*.safetensors"))) for name in ("one", "two")
    )
    assert first.keys() == second.keys()
    for name, weights in first.items():
        assert np.allclose(weights.astype(np.float32), second[name].astype(np.float32), atol=2e-3), name


def test_a_resumed_run_of_two_processes_gives_the_same_bytes(trained: dict[str, Path]) -> None:
    plain, resumed = (trained["two"] / name for name in ("plain", "resumed"))
    assert {path.name: path.read_bytes() for path in plain.iterdir()} == {
        path.name: path.read_bytes() for path in resumed.iterdir()
    }
    assert sorted(path.name for path in trained["two"].iterdir()) == ["plain", "resumed"]


class Second:
    """The accelerator of the second of three processes."""

    num_processes, process_index = 3, 1


@pytest.mark.parametrize(("rows", "expected"), [(4, 3 * 2 / 10), (1, 0.0)])
def test_a_process_takes_its_rows_and_counts_their_tokens(rows: int, expected: float) -> None:
    mask = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 1, 1], [1, 1, 0]])[:rows]
    batch = {"target": torch.arange(rows)[:, None], "text_mask": mask}
    part, counts = ProcessGroup(Second(), torch.device("cpu")).part_of(batch)
    assert part["target"].tolist() == ([[1]] if rows > 1 else [[0]])
    assert counts == pytest.approx(expected)


def refuse() -> None:
    raise InputError("expected a folder")


def test_one_process_needs_no_accelerate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    group = ProcessGroup.join("cpu")
    batch = {"target": torch.zeros(2, 1)}
    assert group.part_of(batch) == (batch, 1.0)
    assert (group.count, group.first, group.shared(lambda: "made")) == (1, True, "made")
    with pytest.raises(InputError, match="expected a folder"):
        group.shared(refuse)
