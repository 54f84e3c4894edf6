"""Engines: run chunks of work in this process, or on the machines of a Ray cluster."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import chain, islice
from pickle import PicklingError  # only the name: Ray does the pickling
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

from dallme.errors import (
    DallmeError,
    InputError,
    MissingDependencyError,
    ServiceError,
    UnknownNameError,
    first_line,
)
from dallme.validation import check_positive
from dallme.versions import __version__

Chunk = TypeVar("Chunk")
Result = TypeVar("Result")


@runtime_checkable
class Engine(Protocol):
    """Runs the chunks of a stage. A stage gives the same result on every engine."""

    @property
    def remote(self) -> bool:
        """Whether chunks may run in other processes; then work and chunks must be picklable."""

    def map(
        self, work: Callable[[Chunk], Result], chunks: Iterable[Chunk], *, accelerated: bool = False
    ) -> Iterator[tuple[int, Result]]:
        """Calls `work` with each chunk.

        Args:
            work: Function of a chunk. A remote engine sends it once to each worker, which keeps it; a model
                that it loads on first use loads once per worker.
            chunks: Chunks, taken as needed; they are never all in memory.
            accelerated: Whether the work benefits from a GPU.

        Yields:
            Position of a chunk and its result, as soon as it is ready, in any order; each position once.
        """

    def close(self) -> None:
        """Releases its resources; the next :meth:`map` acquires them again."""


class LocalEngine:
    """Runs in this process, one chunk after the other."""

    remote = False

    def map(
        self, work: Callable[[Chunk], Result], chunks: Iterable[Chunk], *, accelerated: bool = False
    ) -> Iterator[tuple[int, Result]]:
        """Calls `work` with each chunk, in order."""
        for position, chunk in enumerate(chunks):
            yield position, work(chunk)

    def close(self) -> None:
        """Does nothing: there is nothing to release."""


def in_order(results: Iterable[tuple[int, Result]]) -> list[Result]:
    """Returns the results of :meth:`Engine.map`, sorted by position."""
    return [result for _, result in sorted(results, key=lambda pair: pair[0])]


#: Names of the engines.
ENGINES = ("local", "ray")


def make_engine(engine: str | Engine, address: str | None = None) -> Engine:
    """Turns a name into an engine; an engine is returned as it is. Nothing is started.

    Args:
        engine: One of :data:`ENGINES`, or an engine.
        address: Address of a Ray cluster; see :class:`~dallme.scale.RayEngine`.

    Raises:
        UnknownNameError: If no engine has that name.
        InputError: If it is not an engine, or an address is given to the local engine.
        MissingDependencyError: If it needs a package that is not installed.
    """
    if not isinstance(engine, str):
        if not isinstance(engine, Engine):
            raise InputError(
                f"expected an engine: one of {', '.join(ENGINES)} or an object with map, found {engine!r}"
            )
        return engine
    if engine not in ENGINES:
        raise UnknownNameError("engine", engine, ENGINES)
    if engine == "local":
        if address is not None:
            raise InputError(
                f"expected an address with the engine ray only, found {address!r} with the engine local"
            )
        return LocalEngine()
    if find_spec("ray") is None:
        raise MissingDependencyError("engine 'ray'", "ray", "ray")
    return RayEngine(address)


#: Chunks per worker at a time: the second is ready while the first runs.
_DEPTH = 2

#: Seconds between two checks for new machines.
_LOOK = 1.0

#: Seconds in which the cluster must accept a connection.
_PATIENCE = 10.0

#: Seconds in which the cluster must have room for a worker; an autoscaler takes minutes.
_ROOM = 600.0

#: Attempts per chunk whose worker dies, and workers in a row that may fail to start.
_ATTEMPTS = 4

#: Settings that Ray reads at import; the user's have precedence.
_SETTINGS = {
    "RAY_DEDUP_LOGS": "0",  # deduplicated messages would appear after the end of the run
    "RAY_USAGE_STATS_ENABLED": "0",
}

#: Setting of a private cluster: it listens on 127.0.0.1, as Ray does by default on Windows and macOS.
_OWN_CLUSTER = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


@dataclass
class RayEngine:
    """Runs chunks in workers of a Ray cluster: one worker per core, or per GPU for accelerated work.

    Texts and vectors stay in this process. It sends chunks, joins the results, and alone writes to the
    embedding store. The machines need a common file system only for models given by a folder. A chunk whose
    worker or machine dies runs again elsewhere. Machines that join during the run get work.

    Attributes:
        address: Address of the cluster: ``HOST:PORT``, ``ray://HOST:PORT``, or ``auto`` for one on this
            machine. None means RAY_ADDRESS if it is set, or else a private cluster on this machine.
        cpus: Cores per worker.
    """

    remote: ClassVar[bool] = True

    address: str | None = None
    cpus: int = 1
    _joined: bool = field(default=False, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Checks the options; nothing is started."""
        check_positive(self.cpus, "cpus")

    def map(
        self, work: Callable[[Chunk], Result], chunks: Iterable[Chunk], *, accelerated: bool = False
    ) -> Iterator[tuple[int, Result]]:
        """Calls `work` with each chunk on some worker; a single chunk runs in this process.

        Raises:
            InputError: If work or chunks cannot be pickled.
            ServiceError: If the cluster does not answer, or its workers keep dying.
            DallmeError: If the work raises it.
        """
        source = iter(chunks)
        first = list(islice(source, 2))
        if len(first) < 2:
            yield from ((position, work(chunk)) for position, chunk in enumerate(first))
            return
        self._connect()
        pool = _Pool(work, enumerate(chain(first, source)), self.cpus, accelerated)
        try:
            yield from pool.run()
        finally:
            pool.close()

    def close(self) -> None:
        """Leaves the cluster if this engine joined it; a private cluster ends."""
        if self._joined:
            import ray

            ray.shutdown()
            self._joined = False

    def _connect(self) -> None:
        """Joins the cluster, unless this process has joined one before."""
        address = self.address or os.environ.get("RAY_ADDRESS")
        for name, value in (_SETTINGS if address else _SETTINGS | _OWN_CLUSTER).items():
            os.environ.setdefault(name, value)
        import ray

        if ray.is_initialized():
            return
        own: dict[str, Any] = {"address": address} if address else {"include_dashboard": False}
        try:
            _check_answers(address)
            ray.init(**own, log_to_driver=False, logging_level=logging.ERROR, configure_logging=False)
        except (OSError, ValueError, RuntimeError) as error:  # the kinds that ray.init raises
            raise ServiceError(
                f"expected a Ray cluster at {address or 'this machine'}, could not join it: "
                f"{first_line(error)}; check the address, or start one with: ray start --head"
            ) from error
        self._joined = True


def _check_answers(address: str | None) -> None:
    """Connects to ``HOST:PORT`` once, because Ray ends the whole process if nothing answers.

    Raises:
        OSError: If nothing answers.
    """
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=_PATIENCE).close()


class _Worker:
    """Actor on a worker; it keeps the work, and with it the models that the work loads."""

    def __init__(self, work: Callable[[Any], Any]) -> None:
        self._work = work

    def version(self) -> str:
        return __version__

    def run(self, chunk: Any) -> tuple[bool, Any]:
        """Returns True and the result, or False and the error for the user."""
        try:
            return True, self._work(chunk)
        except DallmeError as error:
            return False, error


@dataclass(eq=False)
class _Job:
    """A chunk with its position, its attempts and its worker."""

    position: int
    chunk: Any
    attempts: int = 0
    worker: Any = None


@dataclass(eq=False)
class _Pool:
    """The workers of one map.

    Attributes:
        work: Function of a chunk.
        source: Positions and chunks that were never sent.
        cpus: Cores per worker.
        accelerated: Whether a worker gets a GPU, if there are any.
    """

    work: Any
    source: Iterator[tuple[int, Any]]
    cpus: int
    accelerated: bool
    _starting: dict[Any, Any] = field(default_factory=dict)
    _load: dict[Any, int] = field(default_factory=dict)
    _running: dict[Any, _Job] = field(default_factory=dict)
    _again: deque[_Job] = field(default_factory=deque)
    _failed_starts: int = 0

    def run(self) -> Iterator[tuple[int, Any]]:
        """Sends chunks to workers until all are done."""
        import ray

        with _picklable(self.work):
            self._work_ref = ray.put(self.work)
        self._waiting = self._next()
        begun = time.monotonic()
        while self._waiting is not None or self._running:
            self._start_workers()
            self._send()
            done, _ = ray.wait([*self._running, *self._starting], num_returns=1, timeout=_LOOK)
            if self._load:
                begun = time.monotonic()
            elif time.monotonic() - begun > _ROOM:
                raise ServiceError(
                    f"expected room for a worker of {self.cpus} cores on the Ray cluster, found none in "
                    f"{_ROOM:.0f} seconds; wait until other work on it is done, or ask for workers of "
                    f"fewer cores"
                )
            for ref in done:
                if ref in self._starting:
                    self._add_worker(ref)
                elif (job := self._running.pop(ref, None)) is not None:
                    yield from self._finish(ref, job)

    def close(self) -> None:
        """Ends the workers."""
        import ray

        for worker in {*self._load, *self._starting.values()}:
            with suppress(ray.exceptions.RayError, ValueError):  # it is dead already, or the cluster is
                ray.kill(worker)

    def _next(self) -> _Job | None:
        """Returns the next chunk: one to repeat, or a new one."""
        if self._again:
            return self._again.popleft()
        numbered = next(self.source, None)
        return None if numbered is None else _Job(*numbered)

    def _start_workers(self) -> None:
        """Starts as many workers as the cluster has room for, while chunks wait."""
        import ray

        if self._waiting is None or self._starting:
            return
        resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        gpus = int(resources.get("GPU", 0)) if self.accelerated else 0
        room = gpus or max(1, int(resources.get("CPU", 0)) // self.cpus)
        kind: Any = ray.remote(_Worker)
        options = {"num_cpus": self.cpus, "num_gpus": 1 if gpus else 0, "scheduling_strategy": "SPREAD"}
        for _ in range(room - len(self._load)):
            worker: Any = kind.options(**options).remote(self._work_ref)
            self._starting[worker.version.remote()] = worker

    def _send(self) -> None:
        """Sends chunks to workers with room, the least loaded first."""
        while self._waiting is not None and self._load:
            worker = min(self._load, key=self._load.__getitem__)
            if self._load[worker] >= _DEPTH:
                return
            job = self._waiting
            job.worker = worker
            with _picklable(job.chunk):
                self._running[worker.run.remote(job.chunk)] = job
            self._load[worker] += 1
            self._waiting = self._next()

    def _add_worker(self, ref: Any) -> None:
        """Adds a worker that has started, after a check of its version."""
        import ray

        worker = self._starting.pop(ref)
        try:
            version = ray.get(ref)
        except ray.exceptions.RayError as error:
            self._failed_starts += 1
            if self._failed_starts >= _ATTEMPTS and not self._load:
                raise ServiceError(
                    f"expected workers with dallme {__version__} on the Ray cluster, "
                    f"{self._failed_starts} could not start: {str(error).strip().splitlines()[-1].strip()}; "
                    "install the same dallme, and what else the parts need, on every machine"
                ) from error
            return
        if version != __version__:
            raise ServiceError(
                f"expected dallme {__version__}, as here, on every machine of the Ray cluster, "
                f"found {version} on one"
            )
        self._failed_starts = 0
        self._load[worker] = 0

    def _finish(self, ref: Any, job: _Job) -> Iterator[tuple[int, Any]]:
        """Yields the result of a chunk; if its worker died, the chunk waits again."""
        import ray

        lost = (ray.exceptions.RayActorError, ray.exceptions.ObjectLostError, ray.exceptions.OutOfMemoryError)
        try:
            succeeded, result = ray.get(ref)
        except lost as error:
            self._lose(job, error)
            return
        if job.worker in self._load:
            self._load[job.worker] -= 1
        if not succeeded:
            raise result
        yield job.position, result

    def _lose(self, job: _Job, error: Exception) -> None:
        """Drops a dead worker and queues its chunk again."""
        import ray

        if self._load.pop(job.worker, None) is not None:
            with suppress(ray.exceptions.RayError, ValueError):
                ray.kill(job.worker)
        job.attempts += 1
        if job.attempts >= _ATTEMPTS:
            raise ServiceError(
                "expected workers that finish their chunks, found one chunk whose worker died "
                f"{job.attempts} times: {first_line(error)}; a worker may need more memory: give each more "
                "cores, so that fewer share a machine"
            ) from error
        if self._waiting is None:
            self._waiting = job
        else:
            self._again.append(job)


@contextmanager
def _picklable(part: Any) -> Iterator[None]:
    """Turns a failure to pickle an object into an :class:`InputError` that names it."""
    try:
        yield
    except (TypeError, AttributeError, PicklingError) as error:
        raise InputError(
            f"expected parts that can be sent to the workers of a Ray cluster, found {type(part).__name__}: "
            f"{first_line(error)}; keep open files, locks and connections out of it, or use the local engine"
        ) from error
