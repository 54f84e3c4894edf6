"""Execution of experiments: resumption, failures, interrupts and processes."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil
import pytest

import dallme
from dallme.errors import InputError, OutputError, UnknownNameError
from dallme.experiments import Experiment, kinds, parse_experiment
from dallme.experiments.rows import ROWS, RowFile
from dallme.experiments.running import DIED, Outcome, run_experiment
from dallme.experiments.runs import Run
from dallme.experiments.workspace import Workspace
from dallme.progress import SilentProgress
from training_cases import Notes


@dataclass
class Stub:
    """A workspace whose runs have a known result, hang, or end their process, by their method.

    In a worker process it replaces the function that computes runs when it is unpickled.
    """

    folder: Path
    hangs: str = ""
    dies: str = ""
    errors: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    data: dict[str, str] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    progress: Any = field(default_factory=Notes)

    def inputs(self, run: Run) -> dict[str, str]:
        if self.data.get(run["method"]) == "missing":
            raise InputError("expected the data set, found none")
        return {"source": self.data.get(run["method"], "")}

    def embed(self, run: Run) -> None:
        (self.folder / "embedded").open("a").write(f"{run['embedder']} {run['prompt']!r} {run['method']}\n")
        raise InputError("no embedder")

    def quiet(self) -> Stub:
        return replace(self, progress=SilentProgress())

    def compute(self, run: Run, workspace: Any) -> dict[str, Any]:
        method = run["method"]
        self.calls.append(method)
        if method == self.hangs:
            (self.folder / "hanging").write_text(str(os.getpid()))
            time.sleep(600)
        if method == self.dies:
            while (
                self.hangs and not (self.folder / "hanging").exists()
            ):  # the other run is to be in flight by then
                time.sleep(0.01)
            os._exit(9)
        if method in self.errors:
            kind, *arguments = self.errors[method]
            raise kind(*arguments)  # not every error can be pickled
        return {
            "accuracy": len(method) / 10,
            "runs": 5,
            "full_accuracy": None,
            "learning_rate": run.grid.training.get("rate", 0.1),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        kinds.compute = self.compute


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stub:
    return use(Stub(tmp_path), monkeypatch)


def use(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> Stub:
    monkeypatch.setattr(kinds, "compute", stub.compute)
    return stub


def make_experiment(*grids: str) -> Experiment:
    """Returns an experiment with one profile, `offline`, of the given grids."""
    tables = "".join(
        f"[[profiles.offline.grid]]\nclassifier = ['naive-bayes']\nembedder = ['hashing']\n{grid}\n"
        for grid in grids
    )
    head = "title = 't'\nplace = 'Table 9'\nkind = 'accuracy'\nrows = ['method']\ncolumns = ['data']\n"
    return parse_experiment(
        f"{head}[profiles.offline]\ndiffers = []\n[profiles.offline.data]\ntiny = {{train = 'x'}}\n{tables}",
        "tiny",
    )


ABC = make_experiment("method = ['a', 'bb', 'ccc']")


def execute(experiment: Experiment, stub: Stub, **options: Any) -> Outcome:
    return run_experiment(experiment, "offline", stub.folder / "results", stub, **options)  # type: ignore[arg-type]


def kept(folder: Path) -> list[dict[str, Any]]:
    """Returns the rows of a folder without their times."""
    rows = [dataclasses.asdict(row) for row in RowFile(folder / ROWS).load()]
    for row in rows:
        del row["seconds"], row["when"]
        row["result"].pop("seconds", None)
    return rows


def methods(rows: Any) -> list[str]:
    return [row.config["method"] for row in rows]


# Resumption


def test_a_row_holds_all_that_a_result_came_from(stub: Stub) -> None:
    outcome = execute(make_experiment("method = ['a']\nseed = 7"), stub)
    (row,) = outcome.computed
    (run,) = outcome.runs
    assert row == RowFile(stub.folder / "results" / ROWS).load()[0]
    assert row.key == run.key({"source": ""})
    assert row.config == run.config()
    assert row.result == {"accuracy": 0.1, "runs": 5, "full_accuracy": None, "learning_rate": 0.1}
    assert row.seed == 7
    assert list(row.versions) == ["python", "dallme", "numpy", "scikit-learn", "torch", "transformers"]
    assert row.versions["dallme"] == dallme.__version__
    assert row.when.endswith("+00:00")
    assert 0 <= row.seconds < 600


def test_a_second_run_computes_nothing(stub: Stub) -> None:
    first = execute(ABC, stub)
    assert stub.calls == methods(first.computed) == ["a", "bb", "ccc"]
    assert first.existing == first.failures == ()
    second = execute(ABC, stub)
    assert stub.calls == ["a", "bb", "ccc"]
    assert second.existing == first.computed
    assert second.computed == ()


def test_a_changed_option_recomputes_what_it_touches(stub: Stub) -> None:
    execute(make_experiment("method = ['a', 'bb']", "method = ['ccc']\ntraining = {rate = 0.1}"), stub)
    outcome = execute(
        make_experiment("method = ['a', 'bb']", "method = ['ccc']\ntraining = {rate = 0.2}"), stub
    )
    assert stub.calls == ["a", "bb", "ccc", "ccc"]
    assert methods(outcome.existing) == ["a", "bb"]
    assert outcome.computed[0].result["learning_rate"] == 0.2
    assert len(kept(stub.folder / "results")) == 4


def test_changed_data_recompute_what_reads_them(stub: Stub) -> None:
    execute(ABC, stub)
    stub.data["bb"] = "other"
    assert methods(execute(ABC, stub).computed) == ["bb"]


def test_cells_that_are_equal_are_computed_once(stub: Stub) -> None:
    outcome = execute(make_experiment("method = ['a']\nlabel = 'one'", "method = ['a']\nlabel = 'two'"), stub)
    assert stub.calls == ["a"]
    assert len(outcome.runs) == 2
    assert len(outcome.computed) == 1


def test_only_some_cells(stub: Stub) -> None:
    assert methods(execute(ABC, stub, only=["method=a,ccc"]).computed) == ["a", "ccc"]
    outcome = execute(ABC, stub)
    assert methods(outcome.existing) == ["a", "ccc"]
    assert methods(outcome.computed) == ["bb"]


def test_half_a_line_costs_its_cell_alone(stub: Stub) -> None:
    execute(ABC, stub)
    path, before = stub.folder / "results" / ROWS, kept(stub.folder / "results")
    path.write_bytes(path.read_bytes()[:-40])
    assert methods(execute(ABC, stub).computed) == ["ccc"]
    assert kept(stub.folder / "results") == before
    assert [line.partition(": ")[2] for line in stub.progress.lines] == [
        "line 3 is damaged and left out; its run is computed again"
    ]


def test_what_cannot_be_run(stub: Stub) -> None:
    with pytest.raises(InputError, match="expected jobs to be a whole number of at least 1, found 0"):
        execute(ABC, stub, jobs=0)
    with pytest.raises(UnknownNameError, match="unknown profile 'paper'; known: offline"):
        run_experiment(ABC, "paper", stub.folder, stub)  # type: ignore[arg-type]


# Failures and interrupts


def test_failing_cells_are_told_of_and_the_others_kept(stub: Stub) -> None:
    experiment = make_experiment("method = ['a', 'bb', 'ccc', 'dddd', 'nan', 'odd', 'e']")
    stub.data["a"] = "missing"
    stub.errors = {
        "bb": (InputError, "expected two classes\nfound one"),
        "ccc": (KeyError, "x"),
        "dddd": (ValueError,),
    }
    outcome = execute(experiment, stub)
    assert methods(outcome.computed) == ["nan", "odd", "e"]
    assert [(run["method"], message) for run, message in outcome.failures] == [
        ("a", "expected the data set, found none"),
        ("bb", "expected two classes"),
        ("ccc", "KeyError: 'x'"),
        ("dddd", "ValueError"),
    ]
    stub.data, stub.errors = {}, {}
    again = execute(experiment, stub)
    assert methods(again.computed) == ["a", "bb", "ccc", "dddd"]
    assert again.failures == ()


@pytest.mark.parametrize(
    ("value", "message"),
    [(float("nan"), "ValueError: Out of range float"), ({1}, "TypeError: Object of type set")],
)
def test_a_result_that_json_cannot_hold_is_a_failure(
    stub: Stub, monkeypatch: pytest.MonkeyPatch, value: Any, message: str
) -> None:
    monkeypatch.setattr(
        kinds, "compute", lambda run, workspace: {"accuracy": value if run["method"] == "bb" else 0.5}
    )
    outcome = execute(ABC, stub)
    assert methods(outcome.computed) == ["a", "ccc"]
    assert outcome.failures[0][1].startswith(message)


def test_an_interrupt_stops_at_once_and_keeps_the_rows(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    def compute(run: Run, workspace: Any) -> dict[str, Any]:
        if run["method"] == "bb":
            raise KeyboardInterrupt
        return stub.compute(run, workspace)

    monkeypatch.setattr(kinds, "compute", compute)
    with pytest.raises(KeyboardInterrupt):
        execute(ABC, stub)
    assert [row["config"]["method"] for row in kept(stub.folder / "results")] == ["a"]
    use(stub, monkeypatch)
    assert methods(execute(ABC, stub).computed) == ["bb", "ccc"]  # the lock is gone as well


def test_two_runs_in_one_folder_are_refused(stub: Stub) -> None:
    folder = stub.folder / "results"
    with RowFile(folder / ROWS).lock():
        with pytest.raises(OutputError) as caught:
            execute(ABC, stub)
        run_experiment(ABC, "offline", stub.folder / "other", stub)  # type: ignore[arg-type]
    assert str(caught.value) == (
        f"expected {folder} for this run alone, found another that writes there; "
        "wait for it to end or choose another folder"
    )
    assert len(execute(ABC, stub).computed) == 3


# Processes

CCC_HANGS = make_experiment("method = ['a', 'bb', 'ccc', 'dddd']")


def run_until_killed(folder: str, jobs: int) -> None:
    """Runs in the process that is killed."""
    stub = Stub(Path(folder), hangs="ccc")
    kinds.compute = stub.compute
    execute(CCC_HANGS, stub, jobs=jobs)


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str] | None = None) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert process is None or process.poll() is None, "the process ended by itself"
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.parametrize(("jobs", "done"), [(1, ["a", "bb"]), (2, ["a", "bb", "dddd"])])
def test_a_killed_run_loses_the_cell_in_flight_alone(
    stub: Stub, monkeypatch: pytest.MonkeyPatch, jobs: int, done: list[str]
) -> None:
    file, marker = RowFile(stub.folder / "results" / ROWS), stub.folder / "hanging"
    code = f"import test_experiments_running as tests; tests.run_until_killed({str(stub.folder)!r}, {jobs})"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    process = subprocess.Popen([sys.executable, "-c", code], env=environment, text=True)
    try:
        wait_until(
            lambda: marker.exists() and marker.read_text() != "" and sorted(methods(file.load())) == done,
            process,
        )
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    wait_until(lambda: is_gone(int(marker.read_text())))  # no worker outlives the run
    outcome = execute(CCC_HANGS, stub)
    assert sorted(methods(outcome.computed)) == sorted({"a", "bb", "ccc", "dddd"} - set(done))
    whole = use(Stub(stub.folder / "whole"), monkeypatch)
    execute(CCC_HANGS, whole)
    rows, expected = kept(stub.folder / "results"), kept(whole.folder / "results")
    assert sorted(rows, key=lambda row: row["key"]) == sorted(expected, key=lambda row: row["key"])
    assert len(rows) == 4


def test_a_process_that_dies_costs_the_cells_in_flight(tmp_path: Path) -> None:
    stub = Stub(
        tmp_path,
        hangs="bb",
        dies="ccc",
        data={"a": "missing"},
        errors={"e": (UnknownNameError, "part", "e", ["f"])},
    )
    outcome = execute(make_experiment("method = ['a', 'bb', 'ccc', 'dddd', 'e']"), stub, jobs=2)
    assert [(run["method"], message) for run, message in outcome.failures] == [
        ("a", "expected the data set, found none"),
        ("bb", DIED),
        ("ccc", DIED),
        ("e", "unknown part 'e'; known: f"),
    ]
    assert methods(outcome.computed) == ["dddd"]
    assert multiprocessing.active_children() == []


def test_an_interrupt_stops_all_processes(tmp_path: Path) -> None:
    class Interrupting(Notes):
        @contextmanager
        def task(self, description: str, total: int) -> Iterator[Any]:
            yield self

        def advance(self) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute(ABC, Stub(tmp_path, hangs="a", progress=Interrupting()), jobs=2)
    assert multiprocessing.active_children() == []
    assert [row["config"]["method"] for row in kept(tmp_path / "results")] == ["bb"]


def test_several_processes_find_the_vectors_ready(tmp_path: Path) -> None:
    grids = (
        "method = ['bb', 'ccc']",
        "prompt = ['topic']\nmethod = ['bb']",
        "prompt = ['sentiment']\nmethod = ['full']",
    )
    outcome = execute(make_experiment(*grids), Stub(tmp_path), jobs=2)
    assert len(outcome.computed) == 4
    assert outcome.failures == ()  # though embedding failed: a run that needs the vectors says so itself
    embedded = (tmp_path / "embedded").read_text().splitlines()
    assert embedded == ["hashing '' ccc", "hashing 'topic' bb"]


def test_nothing_is_embedded_to_learn_what_embedding_costs(tmp_path: Path) -> None:
    outcome = execute(replace(ABC, kind="cost"), Stub(tmp_path), jobs=2)
    assert len(outcome.computed) == 3
    assert not (tmp_path / "embedded").exists()


def test_several_processes_give_the_same_rows(tmp_path: Path) -> None:
    lines = ["text,label"]
    for number in range(12):
        lines += [
            f"a fine film number {number} with joy,pos",
            f"a dull film number {number} with boredom,neg",
        ]
    (tmp_path / "tiny.csv").write_text("\n".join(lines) + "\n")
    experiment = make_experiment("method = ['random', 'nearest']\nper_class = [1, 2]\nsets = 2")
    profile = experiment.profile("offline")
    source = replace(profile.data["tiny"], train="tiny.csv", test="tiny.csv")
    experiment = replace(experiment, profiles={"offline": replace(profile, data={"tiny": source})})
    rows = []
    for jobs in (1, 2):
        folder = tmp_path / str(jobs) / "tiny"  # the sets of texts are kept beside it
        workspace = Workspace(experiment.profile("offline"), folder, tmp_path, folder / "store")
        outcome = run_experiment(experiment, "offline", folder, workspace, jobs=jobs)
        assert outcome.failures == ()
        rows.append(sorted(kept(folder), key=lambda row: row["key"]))
    assert rows[0] == rows[1]
    assert len(rows[0]) == 4
    assert all(0.5 <= row["result"]["accuracy"] <= 1 for row in rows[0])


def test_the_file_is_json_lines(stub: Stub) -> None:
    execute(ABC, stub)
    lines = (stub.folder / "results" / ROWS).read_text().splitlines()
    assert [json.loads(line)["config"]["method"] for line in lines] == ["a", "bb", "ccc"]
