"""Running experiments: rows on disk, resumption, failures, interrupts, processes and trackers."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import multiprocessing
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import psutil
import pytest

import dallme
from dallme.errors import InputError, MissingDependencyError, OutputError, UnknownNameError
from dallme.experiments import kinds
from dallme.experiments.rows import ROWS, Row, RowFile
from dallme.experiments.running import DIED, Outcome, run_experiment
from dallme.experiments.runs import Run
from dallme.experiments.spec import Experiment, parse_experiment
from dallme.experiments.tracking import TRACKERS, Tracker, make_trackers
from dallme.experiments.workspace import Workspace
from dallme.progress import SilentProgress

ROW = Row(
    "a1b2c3d4e5",
    {"method": "random"},
    {"accuracy": 0.5},
    1.5,
    0,
    {"python": "3.11", "torch": None},
    "2026-01-01T00:00:00",
)


class Notes(SilentProgress):
    """Keeps what is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, message: str) -> None:
        self.lines.append(message)


@dataclass
class Stub:
    """A workspace whose cells are worked out by hand, or hang, or end their process, by their method.

    In a process that is started for it, it takes the place of what computes cells as soon as it arrives.
    """

    folder: Path
    hangs: str = ""
    dies: str = ""
    errors: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    data: dict[str, str] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    progress: Any = field(default_factory=Notes)

    def inputs(self, cell: Run) -> dict[str, str]:
        if self.data.get(cell["method"]) == "missing":
            raise InputError("expected the data set, found none")
        return {"source": self.data.get(cell["method"], "")}

    def embed(self, cell: Run) -> None:
        (self.folder / "embedded").open("a").write(
            f"{cell['embedder']} {cell['prompt']!r} {cell['method']}\n"
        )
        raise InputError("no embedder")

    def quiet(self) -> Stub:
        return replace(self, progress=SilentProgress())

    def compute(self, cell: Run, workspace: Any) -> dict[str, Any]:
        method = cell["method"]
        self.calls.append(method)
        if method == self.hangs:
            (self.folder / "hanging").write_text(str(os.getpid()))
            time.sleep(600)
        if method == self.dies:
            while (
                self.hangs and not (self.folder / "hanging").exists()
            ):  # the other cell is to be in flight by then
                time.sleep(0.01)
            os._exit(9)
        if method in self.errors:
            kind, *arguments = self.errors[method]
            raise kind(*arguments)  # not every error can be pickled
        return {
            "accuracy": len(method) / 10,
            "runs": 5,
            "full_accuracy": None,
            "learning_rate": cell.grid.training.get("rate", 0.1),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        kinds.run_cell = self.compute


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stub:
    return use(Stub(tmp_path), monkeypatch)


def use(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> Stub:
    monkeypatch.setattr(kinds, "run_cell", stub.compute)
    return stub


def make_experiment(*grids: str) -> Experiment:
    """An experiment with one edition, `offline`, of the given grids."""
    tables = "".join(
        f"[[editions.offline.grid]]\nclassifier = ['naive-bayes']\nembedder = ['hashing']\n{grid}\n"
        for grid in grids
    )
    head = "title = 't'\nplace = 'Table 9'\nkind = 'accuracy'\nrows = ['method']\ncolumns = ['data']\n"
    return parse_experiment(
        f"{head}[editions.offline]\ndiffers = []\n[editions.offline.data]\ntiny = {{train = 'x'}}\n{tables}",
        "tiny",
    )


ABC = make_experiment("method = ['a', 'bb', 'ccc']")


def run(experiment: Experiment, stub: Stub, **options: Any) -> Outcome:
    return run_experiment(experiment, "offline", stub.folder / "results", stub, **options)  # type: ignore[arg-type]


def kept(folder: Path) -> list[dict[str, Any]]:
    """The rows of a folder without what differs from run to run."""
    rows = [dataclasses.asdict(row) for row in RowFile(folder / ROWS).load()]
    for row in rows:
        del row["seconds"], row["when"]
        row["result"].pop("seconds", None)
    return rows


def methods(rows: Any) -> list[str]:
    return [row.config["method"] for row in rows]


# Rows


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
        file.progress.lines
        == [f"{file.path}: line 2 is damaged and left out; its cell is computed again"] * 2
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


# Resumption


def test_a_row_holds_all_that_a_result_came_from(stub: Stub) -> None:
    outcome = run(make_experiment("method = ['a']\nseed = 7"), stub)
    (row,) = outcome.computed
    (cell,) = outcome.cells
    assert row == RowFile(stub.folder / "results" / ROWS).load()[0]
    assert row.key == cell.key({"source": ""})
    assert row.config == cell.config()
    assert row.result == {"accuracy": 0.1, "runs": 5, "full_accuracy": None, "learning_rate": 0.1}
    assert row.seed == 7
    assert list(row.versions) == ["python", "dallme", "numpy", "scikit-learn", "torch", "transformers"]
    assert row.versions["dallme"] == dallme.__version__
    assert row.when.endswith("+00:00")
    assert 0 <= row.seconds < 600


def test_a_second_run_computes_nothing(stub: Stub) -> None:
    first = run(ABC, stub)
    assert stub.calls == methods(first.computed) == ["a", "bb", "ccc"]
    assert first.found == first.failures == ()
    second = run(ABC, stub)
    assert stub.calls == ["a", "bb", "ccc"]
    assert second.found == first.computed
    assert second.computed == ()


def test_a_changed_option_recomputes_what_it_touches(stub: Stub) -> None:
    run(make_experiment("method = ['a', 'bb']", "method = ['ccc']\ntraining = {rate = 0.1}"), stub)
    outcome = run(make_experiment("method = ['a', 'bb']", "method = ['ccc']\ntraining = {rate = 0.2}"), stub)
    assert stub.calls == ["a", "bb", "ccc", "ccc"]
    assert methods(outcome.found) == ["a", "bb"]
    assert outcome.computed[0].result["learning_rate"] == 0.2
    assert len(kept(stub.folder / "results")) == 4


def test_changed_data_recompute_what_reads_them(stub: Stub) -> None:
    run(ABC, stub)
    stub.data["bb"] = "other"
    assert methods(run(ABC, stub).computed) == ["bb"]


def test_cells_that_are_equal_are_computed_once(stub: Stub) -> None:
    outcome = run(make_experiment("method = ['a']\nlabel = 'one'", "method = ['a']\nlabel = 'two'"), stub)
    assert stub.calls == ["a"]
    assert len(outcome.cells) == 2
    assert len(outcome.computed) == 1


def test_only_some_cells(stub: Stub) -> None:
    assert methods(run(ABC, stub, only=["method=a,ccc"]).computed) == ["a", "ccc"]
    outcome = run(ABC, stub)
    assert methods(outcome.found) == ["a", "ccc"]
    assert methods(outcome.computed) == ["bb"]


def test_half_a_line_costs_its_cell_alone(stub: Stub) -> None:
    run(ABC, stub)
    path, before = stub.folder / "results" / ROWS, kept(stub.folder / "results")
    path.write_bytes(path.read_bytes()[:-40])
    assert methods(run(ABC, stub).computed) == ["ccc"]
    assert kept(stub.folder / "results") == before
    assert [line.partition(": ")[2] for line in stub.progress.lines] == [
        "line 3 is damaged and left out; its cell is computed again"
    ]


def test_what_cannot_be_run(stub: Stub) -> None:
    with pytest.raises(InputError, match="expected jobs to be a whole number of at least 1, found 0"):
        run(ABC, stub, jobs=0)
    with pytest.raises(UnknownNameError, match="unknown edition 'paper'; known: offline"):
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
    outcome = run(experiment, stub)
    assert methods(outcome.computed) == ["nan", "odd", "e"]
    assert [(cell["method"], message) for cell, message in outcome.failures] == [
        ("a", "expected the data set, found none"),
        ("bb", "expected two classes"),
        ("ccc", "KeyError: 'x'"),
        ("dddd", "ValueError"),
    ]
    stub.data, stub.errors = {}, {}
    again = run(experiment, stub)
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
        kinds, "run_cell", lambda cell, workspace: {"accuracy": value if cell["method"] == "bb" else 0.5}
    )
    outcome = run(ABC, stub)
    assert methods(outcome.computed) == ["a", "ccc"]
    assert outcome.failures[0][1].startswith(message)


def test_an_interrupt_stops_at_once_and_keeps_the_rows(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    def compute(cell: Run, workspace: Any) -> dict[str, Any]:
        if cell["method"] == "bb":
            raise KeyboardInterrupt
        return stub.compute(cell, workspace)

    monkeypatch.setattr(kinds, "run_cell", compute)
    tracker = Recorder()
    with pytest.raises(KeyboardInterrupt):
        run(ABC, stub, trackers=[tracker])
    assert [row["config"]["method"] for row in kept(stub.folder / "results")] == ["a"]
    assert tracker.events == ["tiny-offline", "close"]
    use(stub, monkeypatch)
    assert methods(run(ABC, stub).computed) == ["bb", "ccc"]  # the lock is gone as well


def test_two_runs_in_one_folder_are_refused(stub: Stub) -> None:
    folder = stub.folder / "results"
    with RowFile(folder / ROWS).lock():
        with pytest.raises(OutputError) as caught:
            run(ABC, stub)
        run_experiment(ABC, "offline", stub.folder / "other", stub)  # type: ignore[arg-type]
    assert str(caught.value) == (
        f"expected {folder} for this run alone, found another that writes there; wait for it to end or choose another folder"
    )
    assert len(run(ABC, stub).computed) == 3


# Processes

CCC_HANGS = make_experiment("method = ['a', 'bb', 'ccc', 'dddd']")


def run_until_killed(folder: str, jobs: int) -> None:
    """What the process runs that is killed."""
    stub = Stub(Path(folder), hangs="ccc")
    kinds.run_cell = stub.compute
    run(CCC_HANGS, stub, jobs=jobs)


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
    outcome = run(CCC_HANGS, stub)
    assert sorted(methods(outcome.computed)) == sorted({"a", "bb", "ccc", "dddd"} - set(done))
    whole = use(Stub(stub.folder / "whole"), monkeypatch)
    run(CCC_HANGS, whole)
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
    outcome = run(make_experiment("method = ['a', 'bb', 'ccc', 'dddd', 'e']"), stub, jobs=2)
    assert [(cell["method"], message) for cell, message in outcome.failures] == [
        ("a", "expected the data set, found none"),
        ("bb", DIED),
        ("ccc", DIED),
        ("e", "unknown part 'e'; known: f"),
    ]
    assert methods(outcome.computed) == ["dddd"]
    assert multiprocessing.active_children() == []


def test_an_interrupt_stops_all_processes(tmp_path: Path) -> None:
    class Interrupting(Recorder):
        def _log(self, *run: Any) -> None:
            raise KeyboardInterrupt

    stub, tracker = Stub(tmp_path, hangs="a"), Interrupting()
    with pytest.raises(KeyboardInterrupt):
        run(ABC, stub, jobs=2, trackers=[tracker])
    assert multiprocessing.active_children() == []
    assert [row["config"]["method"] for row in kept(tmp_path / "results")] == ["bb"]
    assert tracker.events == ["close"]


def test_several_processes_find_the_vectors_ready(tmp_path: Path) -> None:
    grids = (
        "method = ['bb', 'ccc']",
        "prompt = ['topic']\nmethod = ['bb']",
        "prompt = ['sentiment']\nmethod = ['full']",
    )
    outcome = run(make_experiment(*grids), Stub(tmp_path), jobs=2)
    assert len(outcome.computed) == 4
    assert outcome.failures == ()  # though embedding failed: a cell that needs the vectors says so itself
    embedded = (tmp_path / "embedded").read_text().splitlines()
    assert embedded == ["hashing '' ccc", "hashing 'topic' bb"]


def test_nothing_is_embedded_to_learn_what_embedding_costs(tmp_path: Path) -> None:
    outcome = run(replace(ABC, kind="cost"), Stub(tmp_path), jobs=2)
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
    edition = experiment.edition("offline")
    source = replace(edition.data["tiny"], train="tiny.csv", test="tiny.csv")
    experiment = replace(experiment, editions={"offline": replace(edition, data={"tiny": source})})
    rows = []
    for jobs in (1, 2):
        folder = tmp_path / str(jobs) / "tiny"  # the sets of texts are kept beside it
        workspace = Workspace(experiment.edition("offline"), folder, tmp_path, folder / "store")
        outcome = run_experiment(experiment, "offline", folder, workspace, jobs=jobs)
        assert outcome.failures == ()
        rows.append(sorted(kept(folder), key=lambda row: row["key"]))
    assert rows[0] == rows[1]
    assert len(rows[0]) == 4
    assert all(0.5 <= row["result"]["accuracy"] <= 1 for row in rows[0])


# Trackers


class Recorder(Tracker):
    name = "recorder"

    def __init__(self) -> None:
        super().__init__(None, "p")
        self.events: list[str] = []

    def _log(self, run: str, group: str, *scalars: Any) -> None:
        self.events.append(group)

    def close(self) -> None:
        self.events.append("close")


FULL = replace(
    ROW,
    config={
        "kind": "accuracy",
        "embedder": "glove:/home/me/words.txt",
        "classifier": "transformer:org/model",
        "method": "vec2text:a/b/inverter/",
        "prompt": "Find the topic:",
        "per_class": 5,
        "training": {"learning_rate": 0.01, "layers": [1, 2], "model": "~/models/mine"},
        "candidates": {"dilm": {"path": "/home/me/dilm"}},
    },
    result={
        "accuracy": 0.81,
        "runs": 5,
        "full_accuracy": None,
        "tuned": True,
        "accuracies": [0.8],
        "example": "a text",
    },
)
PARAMETERS = {
    "experiment": "tiny",
    "edition": "offline",
    "kind": "accuracy",
    "embedder": "glove:words.txt",
    "classifier": "transformer:org/model",
    "method": "vec2text:inverter",
    "prompt": True,
    "per_class": 5,
    "training.learning_rate": 0.01,
    "training.model": "mine",
}
METRICS = {"accuracy": 0.81, "runs": 5.0}
RUN = "tiny-offline-a1b2c3d4"


def track(name: str) -> None:
    (tracker,) = make_trackers([name, name], "project")
    tracker.log(FULL, ABC, "offline")
    tracker.close()


def test_tensorboard_writes_files_that_hold_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

    monkeypatch.chdir(tmp_path)
    track("tensorboard")
    (path,) = (tmp_path / "runs" / "project" / RUN).iterdir()
    content, start, values = path.read_bytes(), 0, []
    while start < len(content):  # length, its checksum, event, its checksum
        (length,) = struct.unpack_from("<Q", content, start)
        values += Event.FromString(content[start + 12 : start + 12 + length]).summary.value
        start += length + 16
    scalars = {value.tag: value.simple_value for value in values if value.tag in METRICS}
    assert scalars == pytest.approx(METRICS)
    begun = [
        HParamsPluginData.FromString(value.metadata.plugin_data.content)
        for value in values
        if "session_start" in value.tag
    ]
    found = {
        key: getattr(value, str(value.WhichOneof("kind")))
        for key, value in begun[0].session_start_info.hparams.items()
    }
    assert found == PARAMETERS


def test_trackio_is_told_of_a_run(standin: Standin, capsys: pytest.CaptureFixture[str]) -> None:
    def init(
        project: str,
        name: str | None = None,
        group: str | None = None,
        *,
        config: dict[str, Any] | None = None,
    ) -> None:
        sys.stdout.write("* project initialized\n")  # it chats
        standin.calls.append(("init", project, name, group, config))

    def log(metrics: dict[str, Any], step: int | None = None) -> None:
        standin.calls.append(("log", metrics))

    standin.put("trackio", init=init, log=log, finish=lambda: standin.calls.append(("finish",)))
    track("trackio")
    assert standin.calls == [
        ("init", "project", RUN, "tiny-offline", PARAMETERS),
        ("log", METRICS),
        ("finish",),
    ]
    assert capsys.readouterr() == ("", "* project initialized\n")


def test_wandb_is_told_of_a_run(standin: Standin) -> None:
    @contextlib.contextmanager
    def init(
        entity: str | None = None,
        project: str | None = None,
        *,
        name: str | None = None,
        config: Any = None,
        group: str | None = None,
    ) -> Iterator[Any]:
        standin.calls.append(("init", project, name, group, config))
        yield SimpleNamespace(log=log)
        standin.calls.append(("finish",))

    def log(data: dict[str, Any], step: int | None = None, commit: bool | None = None) -> None:
        standin.calls.append(("log", data))

    standin.put("wandb", init=init)
    track("wandb")
    assert standin.calls == [
        ("init", "project", RUN, "tiny-offline", PARAMETERS),
        ("log", METRICS),
        ("finish",),
    ]


def test_mlflow_is_told_of_a_run(standin: Standin) -> None:
    @contextlib.contextmanager
    def start_run(
        run_id: str | None = None,
        experiment_id: str | None = None,
        run_name: str | None = None,
        *,
        tags: Any = None,
    ) -> Iterator[None]:
        standin.calls.append(("start", run_name, tags))
        yield
        standin.calls.append(("end",))

    def set_experiment(experiment_name: str | None = None, experiment_id: str | None = None) -> None:
        standin.calls.append(("experiment", experiment_name))

    def log_params(params: dict[str, Any], synchronous: bool | None = None) -> None:
        standin.calls.append(("params", params))

    def log_metrics(metrics: dict[str, float], step: int | None = None) -> None:
        standin.calls.append(("metrics", metrics))

    standin.put(
        "mlflow",
        start_run=start_run,
        set_experiment=set_experiment,
        log_params=log_params,
        log_metrics=log_metrics,
    )
    track("mlflow")
    started = ("start", RUN, {"group": "tiny-offline"})
    assert standin.calls == [
        ("experiment", "project"),
        started,
        ("params", PARAMETERS),
        ("metrics", METRICS),
        ("end",),
    ]


class Standin:
    """Modules in place of libraries that are too large to be installed for tests; they note how they are called."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self._monkeypatch = monkeypatch

    def put(self, name: str, **functions: Any) -> None:
        module = ModuleType(name)
        vars(module).update(functions)
        self._monkeypatch.setitem(sys.modules, name, module)


@pytest.fixture
def standin(monkeypatch: pytest.MonkeyPatch) -> Standin:
    return Standin(monkeypatch)


def test_trackers_that_cannot_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        UnknownNameError, match="unknown tracker 'comet'; known: trackio, mlflow, wandb, tensorboard"
    ):
        make_trackers(["comet"], "p")
    for name, kind in TRACKERS.items():
        monkeypatch.setattr(kind, "package", f"no_{kind.package}")
        with pytest.raises(MissingDependencyError) as caught:
            make_trackers([name], "p")
        missing = f"tracker {name!r} needs the package {kind.package!r}, which is not installed; run: pip install 'dallme[track]'"
        assert str(caught.value) == missing


def test_new_rows_are_tracked_and_old_ones_are_not(stub: Stub) -> None:
    run(ABC, stub, only=["method=a"])
    tracker = Recorder()
    run(ABC, stub, trackers=[tracker])
    assert tracker.events == ["tiny-offline", "tiny-offline", "close"]


def test_a_tracker_that_fails_costs_no_rows(stub: Stub) -> None:
    class Failing(Recorder):
        def _log(self, *run: Any) -> None:
            self.events.append("log")
            raise OSError("no network")

    failing, tracker = Failing(), Recorder()
    assert len(run(ABC, stub, trackers=[failing, tracker]).computed) == 3
    assert failing.events == ["log", "close"]
    assert tracker.events == ["tiny-offline"] * 3 + ["close"]
    assert stub.progress.lines == ["tracker 'recorder' failed and is not used any more: OSError: no network"]


def test_the_file_is_json_lines(stub: Stub) -> None:
    run(ABC, stub)
    lines = (stub.folder / "results" / ROWS).read_text().splitlines()
    assert [json.loads(line)["config"]["method"] for line in lines] == ["a", "bb", "ccc"]
