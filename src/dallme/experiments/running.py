"""Running an experiment: the cells that have no row yet are computed, and each becomes a row when it is done."""

from __future__ import annotations

import multiprocessing
import os
import platform
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
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import dallme
from dallme.errors import DallmeError
from dallme.experiments import kinds
from dallme.experiments.rows import ROWS, Row, RowFile
from dallme.experiments.runs import Run, make_cells
from dallme.experiments.spec import Experiment
from dallme.experiments.tracking import Tracker, tracking
from dallme.validation import check_positive

if TYPE_CHECKING:
    from dallme.experiments.workspace import Workspace

#: Packages whose versions a row names, besides Python and dallme.
PACKAGES = ("numpy", "scikit-learn", "torch", "transformers")

#: Environment variable that tells the libraries which compute how many threads to use.
_THREADS = "OMP_NUM_THREADS"

#: Cells as they are done, each with its row or with what went wrong.
Outcomes = Generator[tuple[Run, Row | str], None, None]

#: What is said of a cell whose process was killed, as systems do that run out of memory.
DIED = "the process that computed it died, perhaps for lack of memory; run again, with fewer jobs if it dies again"


@dataclass(frozen=True)
class Outcome:
    """What came of a run.

    Attributes:
        cells: The cells that were asked for.
        found: Rows of theirs that were there already.
        computed: Rows that are new, in the order in which they were done.
        failures: The cells that have no row, each with what went wrong.
    """

    cells: tuple[Run, ...]
    found: tuple[Row, ...]
    computed: tuple[Row, ...]
    failures: tuple[tuple[Run, str], ...]


def run_experiment(
    experiment: Experiment,
    edition_name: str,
    folder: Path,
    workspace: Workspace,
    *,
    only: Sequence[str] = (),
    jobs: int = 1,
    trackers: Sequence[Tracker] = (),
) -> Outcome:
    """Computes the cells of an edition that have no row in the folder yet.

    Each row is on the disk before the next cell begins, so that a run that is killed loses the cells in flight alone. A cell
    that fails is kept for the end, and the others go on.

    Args:
        experiment: The experiment.
        edition_name: Name of one of its editions.
        folder: Where its rows are, in :data:`~dallme.experiments.rows.ROWS`.
        workspace: Where the cells find data and keep what they share.
        only: Conditions on the cells, as in :func:`~dallme.experiments.runs.make_cells`.
        jobs: Processes that compute at once; 1 is this one.
        trackers: Who is told of each new row; all are closed at the end, also of a run that is interrupted.

    Returns:
        The cells, their rows, and those that failed.

    Raises:
        UnknownNameError: If there is no such edition, axis or value.
        InputError: If no cell is left, or `jobs` is not a whole number of at least 1.
        OutputError: If another process runs in the folder, or a row cannot be written.
    """
    progress = workspace.progress
    file = RowFile(folder / ROWS, progress)
    with tracking(trackers, experiment, edition_name, progress) as track:
        cells = make_cells(experiment, experiment.edition(edition_name), only)
        check_positive(jobs, "jobs")
        with file.lock():
            rows = {row.key: row for row in file.load()}
            keys, failures = _find_keys(cells, workspace)
            missing = {key: cell for key, cell in keys.items() if key not in rows}
            computed = []
            with (
                progress.task(f"{experiment.name}, {edition_name}", total=len(missing)) as task,
                closing(_compute_all(missing, workspace, jobs)) as outcomes,
            ):
                for cell, outcome in outcomes:
                    if isinstance(outcome, Row):
                        file.append(outcome)
                        computed.append(outcome)
                        track(outcome)
                    else:
                        failures.append((cell, outcome))
                    task.advance()
    failures.sort(key=lambda failure: cells.index(failure[0]))
    return Outcome(
        tuple(cells), tuple(rows[key] for key in keys if key in rows), tuple(computed), tuple(failures)
    )


def _find_keys(cells: Sequence[Run], workspace: Workspace) -> tuple[dict[str, Run], list[tuple[Run, str]]]:
    """Key to cell in the order of the cells, equal ones once; and the cells whose inputs cannot be had."""
    keys: dict[str, Run] = {}
    failures = []
    for cell in cells:
        try:
            keys.setdefault(cell.key(workspace.inputs(cell)), cell)
        except Exception as error:
            failures.append((cell, _message(error)))
    return keys, failures


def _compute_all(missing: Mapping[str, Run], workspace: Workspace, jobs: int) -> Outcomes:
    """Each cell with its row, or with what went wrong, as they are done."""
    if jobs > 1 and len(missing) > 1:
        _embed_ahead(missing.values(), workspace)
        waiting = deque(missing.items())
        while waiting:  # a pool that breaks is followed by another one; each ends one cell at least
            yield from _compute_in_pool(waiting, workspace, min(jobs, len(waiting)))
    else:
        for key, cell in missing.items():
            yield cell, _compute(key, cell, workspace)


def _embed_ahead(cells: Collection[Run], workspace: Workspace) -> None:
    """Embeds the sources, with all cores: of the cells that begin at once each would embed the same one."""
    wanted = [
        cell
        for cell in cells
        if cell.kind != "cost" and cell["method"] not in ("full", *cell.grid.candidates)
    ]
    for cell in {(cell["data"], cell["embedder"], cell["prompt"]): cell for cell in wanted}.values():
        with suppress(Exception):  # it is told of with each of the cells that need the vectors
            workspace.embed(cell)


def _compute_in_pool(waiting: deque[tuple[str, Run]], workspace: Workspace, jobs: int) -> Outcomes:
    """Takes cells from the left until none is left or a process dies, never more at once than there are processes."""
    running: dict[Future[Row | str], Run] = {}
    broken = False
    with _open_pool(jobs, workspace) as pool:
        while running or (waiting and not broken):
            try:
                while waiting and len(running) < jobs and not broken:
                    place = _next(waiting, running.values())
                    running[pool.submit(_compute_in_worker, *waiting[place])] = waiting[place][1]
                    del waiting[place]
                    # A pool begins to watch a process that it has just started when something else happens to it; one that
                    # dies before that would be noticed only when another cell is done.
                    pool.submit(os.getpid)
            except BrokenProcessPool:
                broken = True
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                cell = running.pop(future)
                try:
                    outcome = future.result()
                except BrokenProcessPool:
                    broken, outcome = True, DIED
                yield cell, outcome


def _next(waiting: Sequence[tuple[str, Run]], running: Collection[Run]) -> int:
    """Place of the first cell whose texts no other process may be making just now, for which it would have to wait; else 0."""
    busy = [cell.recipe() for cell in running]
    return next((place for place, (_, cell) in enumerate(waiting) if cell.recipe() not in busy), 0)


@contextmanager
def _open_pool(jobs: int, workspace: Workspace) -> Iterator[ProcessPoolExecutor]:
    """Fresh processes, which are stopped in the middle of their work if the block ends with an error or an interrupt."""
    others = multiprocessing.active_children()
    with (
        _cores_shared(jobs),
        ProcessPoolExecutor(
            jobs, multiprocessing.get_context("spawn"), _start_worker, (workspace.quiet(),)
        ) as pool,
    ):
        try:
            yield pool
        except BaseException:
            for worker in multiprocessing.active_children():
                if worker not in others:
                    worker.terminate()
            raise


@contextmanager
def _cores_shared(jobs: int) -> Iterator[None]:
    """Processes that are started within the block take their share of the cores each, unless the user has set how many."""
    if _THREADS in os.environ:
        yield
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    os.environ[_THREADS] = str(max(1, cores // jobs))
    try:
        yield
    finally:
        os.environ.pop(_THREADS, None)


#: What the cells of a process that computes for another one share.
_workspace: Workspace


def _start_worker(workspace: Workspace) -> None:
    """Prepares a process: it keeps one workspace for all its cells, leaves Ctrl-C to its parent, and dies with it."""
    global _workspace
    _workspace = workspace
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _compute_in_worker(key: str, cell: Run) -> Row | str:
    return _compute(key, cell, _workspace)


def _compute(key: str, cell: Run, workspace: Workspace) -> Row | str:
    """The row of a cell, as it is read from the file again, or what went wrong."""
    started = time.perf_counter()
    try:
        result = kinds.run_cell(cell, workspace)
        seconds = round(time.perf_counter() - started, 3)
        when = datetime.now(UTC).isoformat(timespec="seconds")
        return Row.parse(Row(key, cell.config(), result, seconds, cell.grid.seed, _versions(), when).line())
    except Exception as error:
        return _message(error)


def _message(error: Exception) -> str:
    """One line; of an error that is not meant for users with its type."""
    lines = str(error).splitlines()
    text = lines[0] if lines else ""
    if isinstance(error, DallmeError) and text:
        return text
    return f"{type(error).__name__}: {text}".removesuffix(": ")


def _versions() -> dict[str, str | None]:
    return {"python": platform.python_version(), "dallme": dallme.__version__} | {
        name: _version(name) for name in PACKAGES
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
