"""Execution of an experiment: runs without a row are computed, and each result is stored when it is ready."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from dallme.errors import DallmeError
from dallme.experiments import Experiment, kinds
from dallme.experiments.rows import ROWS, Row, RowFile
from dallme.experiments.runs import Run, make_runs
from dallme.experiments.workspace import Workspace, needs_vectors
from dallme.validation import check_positive
from dallme.versions import __version__, installed_versions

#: Packages whose versions a row records, in addition to Python and dallme.
PACKAGES = ("numpy", "scikit-learn", "torch", "transformers")

#: Environment variable with the number of threads of numerical libraries.
_THREADS = "OMP_NUM_THREADS"

#: Runs in the order of completion, each with its row or an error message.
Results = Generator[tuple[Run, Row | str], None, None]

#: Error message of a run whose process was killed.
DIED = (
    "the process that computed it died, perhaps for lack of memory; "
    "run again, with fewer jobs if it dies again"
)


@dataclass(frozen=True)
class Outcome:
    """Result of :func:`run_experiment`.

    Attributes:
        runs: The selected runs.
        existing: Rows of these runs that were stored before.
        computed: New rows, in the order of completion.
        failures: Runs without a row, each with an error message.
    """

    runs: tuple[Run, ...]
    existing: tuple[Row, ...]
    computed: tuple[Row, ...]
    failures: tuple[tuple[Run, str], ...]


def run_experiment(
    experiment: Experiment,
    profile: str,
    folder: Path,
    workspace: Workspace,
    *,
    only: Sequence[str] = (),
    jobs: int = 1,
) -> Outcome:
    """Computes the runs of a profile that have no row in the folder.

    Each row is on the disk before the next run starts, so a killed process loses only the runs in progress.
    A run that fails does not stop the others.

    Args:
        experiment: The experiment.
        profile: Name of one of its profiles.
        folder: Folder of the rows, in the file :data:`~dallme.experiments.rows.ROWS`.
        workspace: Data and shared inputs of the runs.
        only: Conditions on the runs, as in :func:`~dallme.experiments.runs.make_runs`.
        jobs: Number of processes; 1 computes in this process.

    Raises:
        UnknownNameError: If there is no such profile, axis or value.
        InputError: If no run is left, or `jobs` is not a whole number of at least 1.
        OutputError: If another process uses the folder, or a row cannot be written.
    """
    progress = workspace.progress
    file = RowFile(folder / ROWS, progress)
    runs = make_runs(experiment, experiment.profile(profile), only)
    check_positive(jobs, "jobs")
    with file.lock():
        rows = {row.key: row for row in file.load()}
        keys, failures = _find_keys(runs, workspace)
        missing = {key: run for key, run in keys.items() if key not in rows}
        computed = []
        with (
            progress.task(f"{experiment.name}, {profile}", total=len(missing)) as task,
            closing(_compute_all(missing, workspace, jobs)) as results,
        ):
            for run, result in results:
                if isinstance(result, Row):
                    file.append(result)
                    computed.append(result)
                else:
                    failures.append((run, result))
                task.advance()
    failures.sort(key=lambda failure: runs.index(failure[0]))
    existing = tuple(rows[key] for key in keys if key in rows)
    return Outcome(tuple(runs), existing, tuple(computed), tuple(failures))


def _find_keys(runs: Sequence[Run], workspace: Workspace) -> tuple[dict[str, Run], list[tuple[Run, str]]]:
    """Returns the runs by key, without duplicates, and the runs whose inputs cannot be read."""
    keys: dict[str, Run] = {}
    failures = []
    for run in runs:
        try:
            keys.setdefault(run.key(workspace.inputs(run)), run)
        except Exception as error:
            failures.append((run, _message(error)))
    return keys, failures


def _compute_all(missing: Mapping[str, Run], workspace: Workspace, jobs: int) -> Results:
    if jobs > 1 and len(missing) > 1:
        _embed_sources(missing.values(), workspace)
        waiting = deque(missing.items())
        while waiting:  # each pool ends at least one run before it breaks
            yield from _compute_in_pool(waiting, workspace, min(jobs, len(waiting)))
    else:
        for key, run in missing.items():
            yield run, _compute(key, run, workspace)


def _embed_sources(runs: Collection[Run], workspace: Workspace) -> None:
    """Embeds each source once, with all cores, before several processes need the same vectors."""
    sources = {(run["data"], run["embedder"], run["prompt"]): run for run in runs if needs_vectors(run)}
    for run in sources.values():
        with suppress(Exception):  # each run that needs the vectors reports the error itself
            workspace.embed(run)


def _compute_in_pool(waiting: deque[tuple[str, Run]], workspace: Workspace, jobs: int) -> Results:
    """Computes the waiting runs in parallel until all are done or a process dies."""
    running: dict[Future[Row | str], Run] = {}
    broken = False
    with _open_pool(jobs, workspace) as pool:
        while running or (waiting and not broken):
            try:
                while waiting and len(running) < jobs and not broken:
                    index = next_run(waiting, running.values())
                    running[pool.submit(_compute_in_worker, *waiting[index])] = waiting[index][1]
                    del waiting[index]
                    # The pool watches a new process only after another event; without this call the death
                    # of a fresh process is noticed when another run ends.
                    pool.submit(os.getpid)
            except BrokenProcessPool:
                broken = True
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                run = running.pop(future)
                try:
                    result = future.result()
                except BrokenProcessPool:
                    broken, result = True, DIED
                yield run, result


def next_run(waiting: Sequence[tuple[str, Run]], running: Collection[Run]) -> int:
    """Returns the index of the first waiting run whose texts no running process makes, else 0."""
    recipes = [run.recipe() for run in running]
    return next((index for index, (_, run) in enumerate(waiting) if run.recipe() not in recipes), 0)


@contextmanager
def _open_pool(jobs: int, workspace: Workspace) -> Iterator[ProcessPoolExecutor]:
    """Opens a pool of new processes, which are terminated if the block ends with an error or an interrupt."""
    others = multiprocessing.active_children()
    context = multiprocessing.get_context("spawn")
    with (
        share_cores(jobs),
        ProcessPoolExecutor(jobs, context, _start_worker, (workspace.quiet(),)) as pool,
    ):
        try:
            yield pool
        except BaseException:
            for worker in multiprocessing.active_children():
                if worker not in others:
                    worker.terminate()
            raise


@contextmanager
def share_cores(jobs: int) -> Iterator[None]:
    """Gives each new process its share of the cores, unless the user has set the number of threads."""
    if _THREADS in os.environ:
        yield
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    os.environ[_THREADS] = str(max(1, cores // jobs))
    try:
        yield
    finally:
        os.environ.pop(_THREADS, None)


#: Workspace of a worker process.
_workspace: Workspace


def _start_worker(workspace: Workspace) -> None:
    """Prepares a worker process, which ignores Ctrl-C and dies with its parent."""
    global _workspace
    _workspace = workspace
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _compute_in_worker(key: str, run: Run) -> Row | str:
    return _compute(key, run, _workspace)


def _compute(key: str, run: Run, workspace: Workspace) -> Row | str:
    """Returns the row of a run as it will be read from the file, or an error message."""
    started = time.perf_counter()
    try:
        result = kinds.compute(run, workspace)
        seconds = round(time.perf_counter() - started, 3)
        when = datetime.now(UTC).isoformat(timespec="seconds")
        installed = installed_versions(PACKAGES)
        versions = {"python": installed.pop("python"), "dallme": __version__, **installed}
        return Row.parse(Row(key, run.config(), result, seconds, run.grid.seed, versions, when).line())
    except Exception as error:
        return _message(error)


def _message(error: Exception) -> str:
    """Returns the first line of an error, with its type unless the error is meant for users."""
    text = next(iter(str(error).splitlines()), "")
    if isinstance(error, DallmeError) and text:
        return text
    return f"{type(error).__name__}: {text}".removesuffix(": ")
